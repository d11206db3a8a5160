"""What a user reads who wrote something wrong: every fault at once, with its place and how to mend it."""

import pickle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetsim.errors import Problem, ScenarioError
from hetsim.scenario import Scenario, load_scenario

SHIPPED = Path(__file__).parents[2] / "scenarios"

GOOD = """\
hetsim: 1
networks: {n: {layers: [{name: l}]}}
training: {global_batch: 8}
cluster:
  device_types: {K80: , cpu: {backend: cpu}, gpu: {backend: cuda}}
  nodes:
    - {name: a, devices: {K80: 2}, link: {latency: 10 us, bandwidth: 12 GB/s}}
    - {name: b, devices: {cpu: 1}}
  network: {latency: 50 us, bandwidth: 10 Gbit/s}
"""


def faults_of(path: Path) -> list[str]:
    """The texts of the faults, with the folder of the file left out."""
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return str(caught.value).replace(f"{path.parent}/", "").splitlines()


def faults_in(folder: Path, content: str | bytes) -> list[str]:
    path = folder / "s.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return faults_of(path)


MANY = """\
hetsim: 1
name: a b
networks:
  vgg: {zoo: vgg, imge: 32, depth: x}
  gpt: {zoo: gpt, width: 100, heads: 7}
  vvg: {zoo: vvg}
  two: {zoo: gpt, layers: [{name: x}]}
  none: {zo: gpt}
  own: {module: my_nets, arguments: [], input: {shape: [3, -1], clases: 3}}
  numbers:
    layers:
      - {name: l, repeat: 3, output: 4 KiX, saved: .nan}
      - {nam: l, flops: -1.0}
    costs: nowhere.csv
  empty: {layers: []}
  twice: {layers: [{name: l, repeat: 3}, {name: l.1}]}
  twice: 3
training: {globl_batch: 64, optimizer: adam, momentum: 1.5, learning_rate: .inf}
cluster:
  device_types:
    K80: {memory: sixty, peak_flops: 4 T, isa: avx2}
    V100: {memory: -1, thread: 2}
  nodes:
    - {name: a, devices: {K80: 0, V10: 3}, link: {latency: 1 kg, bandwith: 12}}
    - {name: a, devices: {}, link: {latency: 1 ms, bandwidth: 0}}
  network: {latency: 1}
search: {strategies: [data], schedules: [], microbatches: [1, 1]}
measure: {steps: 0, timeout: 10 parsecs}
seed: -1
serch: 1
"""

MANY_FAULTS = """\
s.yaml:2:7: name: got "a b", expected a name of letters, digits, dots, dashes and underscores, 60 at most
s.yaml:4:19: networks.vgg.imge: is no size of vgg. Did you mean "image"?
s.yaml:4:36: networks.vgg.depth: got "x", expected a whole number of 1 or more
s.yaml:5:38: networks.gpt.heads: got 7, expected a divisor of width, 100
s.yaml:6:14: networks.vvg.zoo: got "vvg", expected a network of the zoo. Did you mean "vgg"?
s.yaml:7:3: networks.two: got the keys zoo and layers, expected exactly one of zoo, module, layers. \
zoo: a network of the zoo; module: your own code; layers: numbers alone
s.yaml:8:3: networks.none: does not say what the network is, expected exactly one of zoo, module, layers. Did you mean "zoo"?
s.yaml:9:17: networks.own.module: got "my_nets", expected "module:function", such as "my_nets:build"
s.yaml:9:37: networks.own.arguments: got an empty list, expected a mapping of keys to values
s.yaml:9:60: networks.own.input.shape.1: got -1, expected greater than or equal to 1
s.yaml:9:65: networks.own.input.clases: is an unknown key. Did you mean "classes"?
s.yaml:12:38: networks.numbers.layers.0.output: got '4 KiX', expected a size such as "12 GiB"
s.yaml:12:52: networks.numbers.layers.0.saved: got nan, expected a size such as "12 GiB", finite and not negative
s.yaml:13:9: networks.numbers.layers.1: the key "name" is missing
s.yaml:13:10: networks.numbers.layers.1.nam: is an unknown key. Did you mean "name"?
s.yaml:13:25: networks.numbers.layers.1.flops: got -1.0, expected greater than or equal to 0
s.yaml:14:12: networks.numbers.costs: got "nowhere.csv", expected a cost table; there is no nowhere.csv
s.yaml:15:19: networks.empty.layers: got an empty list, expected at least one entry
s.yaml:16:49: networks.twice.layers.1.name: a row before it has a layer "l.1" too. Rename one
s.yaml:17:3: the key "twice" stands twice, first in line 16. Remove or rename one of them
s.yaml:18:1: training: the key "global_batch" is missing
s.yaml:18:12: training.globl_batch: is an unknown key. Did you mean "global_batch"?
s.yaml:18:40: training.optimizer: got "adam", expected 'sgd' or 'adamw'
s.yaml:18:56: training.momentum: got 1.5, expected less than 1
s.yaml:18:76: training.learning_rate: got inf, expected a finite number
s.yaml:21:19: cluster.device_types.K80.memory: got 'sixty', expected a size such as "12 GiB"
s.yaml:21:38: cluster.device_types.K80.peak_flops: got '4 T', expected a rate such as "14 TFLOP/s"
s.yaml:22:20: cluster.device_types.V100.memory: got -1, expected a size such as "12 GiB", finite and not negative
s.yaml:22:24: cluster.device_types.V100.thread: is an unknown key. Did you mean "threads"?
s.yaml:24:27: cluster.nodes.0.devices.K80.count: got 0, expected greater than or equal to 1
s.yaml:24:35: cluster.nodes.0.devices.V10: is no device type of cluster.device_types. Did you mean "V100"?
s.yaml:24:44: cluster.nodes.0.link: the key "bandwidth" is missing
s.yaml:24:60: cluster.nodes.0.link.latency: got '1 kg', expected a duration such as "50 us"
s.yaml:24:66: cluster.nodes.0.link.bandwith: is an unknown key. Did you mean "bandwidth"?
s.yaml:25:14: cluster.nodes.1.name: got "a", which node 0 is called too; names of nodes are unique
s.yaml:25:26: cluster.nodes.1.devices: got an empty mapping, expected at least one entry
s.yaml:25:63: cluster.nodes.1.link.bandwidth: got 0, expected greater than or equal to 1
s.yaml:26:3: cluster.network: the key "bandwidth" is missing
s.yaml:27:23: search.strategies.0: got "data", expected 'data_parallel', 'model_parallel', 'pipeline' or 'hybrid'
s.yaml:27:41: search.schedules: got an empty list, expected at least one entry
s.yaml:27:59: search.microbatches: got 1, 1, expected each once
s.yaml:28:18: measure.steps: got 0, expected greater than or equal to 1
s.yaml:28:30: measure.timeout: got '10 parsecs', expected a duration such as "50 us"
s.yaml:29:7: seed: got -1, expected greater than or equal to 0
s.yaml:30:1: serch: is an unknown key. Did you mean "search"?
"""


BOMB = b"a: &a [1,1,1,1,1,1,1,1,1,1]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b",".join([b"*%c" % (name - 1)] * 10)) for name in b"bcdefghijklmnopqrstuvwxyz"
)
"""Ten times as many values a line."""


def test_many_faults_come_at_once_and_in_order(tmp_path):
    assert faults_in(tmp_path, MANY) == MANY_FAULTS.splitlines()


def test_the_good_file_of_the_following_tests_is_good(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(GOOD)
    assert len(load_scenario(path).cluster.devices) == 3


def test_a_device_that_is_alone_needs_no_link(tmp_path):
    path = tmp_path / "s.yaml"
    cluster = "cluster: {device_types: {cpu: {backend: cpu}}, nodes: [{name: here, devices: {cpu: 1}}]}"
    path.write_text(f"hetsim: 1\nnetworks: {{n: {{zoo: mlp}}}}\ntraining: {{global_batch: 8}}\n{cluster}\n")
    assert [device.name for device in load_scenario(path).cluster.devices] == ["cpu0"]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("batch: 8", "batch: 2", "3:26: training.global_batch: got 2, expected at least 3, a sample for each device"),
        ("{n: {", "{n: {global_batch: 1, ", "2:30: networks.n.global_batch: got 1, expected at least 3, a sample for each"),
        ("{K80: 2}", "{k80: 2}", '7:27: cluster.nodes.0.devices.k80: is no device type of cluster.device_types.'),
        (", link: {latency: 10 us, bandwidth: 12 GB/s}", "", '7:7: cluster.nodes.0.link: the key "link" is missing'),
        ("  network: {latency: 50 us, bandwidth: 10 Gbit/s}", "", '4:1: cluster.network: the key "network" is missing'),
        ("name: b,", "name: cpu0,", '8:14: cluster.nodes.1.name: got "cpu0", which a device is called, too: devices are named by'),
        ("{K80: 2}", "{K80: {cores: [[0]]}}", "7:33: cluster.nodes.0.devices.K80.cores: only devices with backend: cpu"),
        ("{cpu: 1}", "{cpu: {index: [0]}}", "8:33: cluster.nodes.1.devices.cpu.index: only devices with backend: cuda"),
        ("{cpu: 1}", "{cpu: {cores: [[0]], count: 1}}", "8:32: cluster.nodes.1.devices.cpu: got count and cores, expected"),
        ("{cpu: 1}", "{gpu: {index: [1, 1]}}", "8:40: cluster.nodes.1.devices.gpu.index: got 1, 1, expected each once"),
        ("K80: ,", "K80: {threads: 3},", "5:24: cluster.device_types.K80.threads: got 3, which only a device type with"),
        ("K80: ,", "K80: , a;b: ,", '5:25: cluster.device_types.a;b: got "a;b", expected a name of letters, digits, spaces'),
        ("{K80: , cpu: {backend: cpu}, gpu: {backend: cuda}}", "{}", "5:17: cluster.device_types: got an empty mapping"),
        ("name: l}", 'name: "@loss"}', '2:32: networks.n.layers.0.name: got "@loss", expected a name without spaces'),
        ("name: l}", "name: l, output: 1e300 PB}", '2:43: networks.n.layers.0.output: got "1e300 PB", expected a number'),
        ("name: l}", "name: 1}", "2:32: networks.n.layers.0.name: got 1, expected text (in quotes, where it looks like"),
        ("{n: {layers: [{name: l}]}}", "{}", "2:11: networks: got an empty mapping, expected at least one entry"),
        ("{n: {layers", "{n: {layrs",
         '2:12: networks.n: does not say what the network is, expected exactly one of zoo, module, layers. Did you mean "layers"?'),
        ("{n: {layers: [{name: l}]}}", "{n: vgg}", '2:15: networks.n: got "vgg", expected a mapping of keys to values'),
        ("training: {global_batch: 8}", "training:", "3:1: training: got nothing, expected a mapping of keys to values"),
        ("training: {global_batch: 8}", "", '1:1: the key "training" is missing'),
        ("batch: 8", "batch: 8.0", "3:26: training.global_batch: got 8.0, expected a whole number"),
        ("batch: 8", "batch: yes", '3:26: training.global_batch: got "yes", expected a whole number'),
        ("hetsim: 1\n", "hetsim: 2\n", "1:9: got schema version 2, expected 1. This hetsim reads version 1 only"),
        ("hetsim: 1\n", 'hetsim: "1"\n', '1:9: got schema version "1", expected 1. This hetsim reads version 1 only'),
        ("hetsim: 1\n", "", '1:1: the key "hetsim" is missing'),
        ("batch: 8", "batch: !big 8", "3:26: cannot read \"8\": could not determine a constructor for the tag '!big'"),
        ("batch: 8", "batch: 8, dtype: &a [*a]", "3:36: this alias stands for something that contains itself"),
        ("hetsim: 1\n", "hetsim: 1\n? [a]\n: b\n", "2:3: got a mapping or a list for a key, expected a word"),
        ("batch: 8", "batch: 1000001", "3:26: training.global_batch: got 1000001, expected less than or equal to 1000000"),
        ("batch: 8", f"batch: 1{'0' * 400}", "3:26: training.global_batch: got 1000000000000000000000000000000000"),
        ("{K80: 2}", "{K80: 10001}", "7:27: cluster.nodes.0.devices.K80.count: got 10001, expected less than or equal to"),
        ("12 GB/s", "0", "7:70: cluster.nodes.0.link.bandwidth: got 0, expected greater than or equal to 1"),
        ("10 us", "1e9 h", "7:52: cluster.nodes.0.link.latency: got \"1e9 h\", expected less"),
        ("10 us", "[1, 2]", "7:52: cluster.nodes.0.link.latency: got a list, expected a number, perhaps with a unit"),
        ("name: l}", "name: l, parameters: 10000000000000000}", "2:35: networks.n.layers.0.parameters.0: got"),
        ("name: l}", "name: l, output: 1 TB, flops: 1.0e31}", "2:56: networks.n.layers.0.flops: got 1e+31, expected"),
        ("{n: {layers: [{name: l}]}}", "{n: {zoo: mlp, depth: 10001}}", "2:33: networks.n.depth: got 10001, expected 10000"),
        ("{n: {layers: [{name: l}]}}", "{n: {zoo: vgg, levels: 21}}", "2:34: networks.n.levels: got 21, expected 20 at"),
        ("{n: {layers", "{..: {layers", '2:12: networks...: got "..", expected a name of letters, digits, dots, dashes'),
        ("{n: {layers", f"{{{'n' * 61}: {{layers", f"2:12: networks.{'n' * 61}: got "),
        ("{n: {layers", "{transfers: {layers", "2:12: networks.transfers: is what the costs of communication are called"),
        ("{n: {layers", "{a.B: {layers: [{name: l}]}, A-b: {layers",
         '2:40: networks.A-b: would name files as "a.B" does, next to which only punctuation or case differs'),
        ("[{name: l}]", f"[{{name: l}}], costs: {'x' * 5000}", '2:44: networks.n.costs: got "xxx'),
        ("batch: 8", "batch: 2020-01-01", '3:26: got "2020-01-01", which YAML takes for a date, expected text or a number'),
        ("batch: 8", "batch: !!set {a}", '3:26: got the tag "tag:yaml.org,2002:set", expected plain lists and mappings'),
        ("batch: 8", 'batch: "\\ud800"', '3:26: got "\\ud800", which holds half a character'),
        ("hetsim: 1\n", 'hetsim: 1\n"\\ud800": 1\n', '2:1: got "\\ud800", which holds half a character'),
        ("{global_batch: 8}", "{<<: {a: 1}, global_batch: 8}", "3:12: merge keys are not read. Write the keys out"),
        ("hetsim: 1\n", 'hetsim: 1\n"\\e[31m": 1\n', "2:1: \\x1b[31m: is an unknown key."),
    ],
)  # fmt: skip
def test_one_fault(tmp_path, old, new, fault):
    assert GOOD.count(old) == 1
    first, *others = faults_in(tmp_path, GOOD.replace(old, new))
    assert first.startswith(f"s.yaml:{fault}")
    assert not others


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"\x89PNG\r\n\x1a\n", "s.yaml:1:1: got the byte 0x89, expected text in UTF-8; it looks like a PNG image"),
        (pickle.dumps({"a": 1}), "s.yaml:1:1: got the byte 0x80, expected text in UTF-8; it looks like a pickle"),
        ("hetsim: 1\nname: größe".encode("latin-1"), "s.yaml:2:9: got the byte 0xf6, expected text in UTF-8"),
        ("a: 1".encode("utf-16"), "s.yaml:1:1: got the byte 0xff, expected text in UTF-8; it looks like text in UTF-16"),
        (b"hetsim: 1\nname: \0", "s.yaml:2:7: got the byte 0x00, expected text in UTF-8"),
        (b"", "s.yaml:1:1: the file is empty"),
        (b"# nothing yet\n", "s.yaml:1:1: the file holds nothing but comments"),
        (b"- a\n- b\n", "s.yaml:1:1: got no mapping of keys to values, expected a scenario"),
        (b"just words", "s.yaml:1:1: got no mapping of keys to values, expected a scenario"),
        (b"hetsim: 1\nname: a: b", "s.yaml:2:8: is not YAML: mapping values are not allowed here"),
        (
            b"hetsim: 1\nnetworks: {n: {layers: [",
            "s.yaml:2:25: is not YAML: while parsing a flow node expected the node content, but found '<stream end>'",
        ),
        (b"hetsim: 1\nname: \x02", "s.yaml:2:7: got the character '\\x02', which YAML does not allow"),
        (
            b"hetsim: 1\n---\nhetsim: 1\n",
            "s.yaml:2:1: is not YAML: expected a single document in the stream but found another document",
        ),
        (BOMB, "s.yaml:6:4: its aliases stand for more than 1 000 000 values"),
        (b"[" * 5000, "s.yaml: is nested too deeply to be a scenario"),
    ],
)  # fmt: skip
def test_what_is_no_scenario_at_all(tmp_path, content, fault):
    assert faults_in(tmp_path, content) == [fault]


def test_a_file_that_is_not_there(tmp_path):
    (tmp_path / "office.yaml").touch()
    (fault,) = faults_of(tmp_path / "ofice.yaml")
    assert fault == 'ofice.yaml: there is no such file. Did you mean "office.yaml"?'
    (fault,) = faults_of(tmp_path)
    assert fault.endswith(": cannot be read: Is a directory")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_a_scenario_error_or_still_a_scenario(tmp_path, data):
    whole = (SHIPPED / "textbook.yaml").read_bytes()
    start = whole.index(b"\nhetsim")
    cut = data.draw(st.integers(start, len(whole)))
    place = data.draw(st.integers(start, cut))
    damaged = whole[:place] + data.draw(st.binary(max_size=4)) + whole[place:cut]
    path = tmp_path / "s.yaml"
    path.write_bytes(damaged)
    scenario: Scenario | None = None
    problems: tuple[Problem, ...] = ()
    try:
        scenario = load_scenario(path)
    except ScenarioError as error:
        problems = error.problems
    assert (scenario is None) == bool(problems)
    assert all(problem.where.startswith(str(path)) for problem in problems)


def test_a_cluster_that_this_machine_cannot_make_has_its_place_too(tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA devices")
    head, _, _ = GOOD.partition("cluster:")
    (fault,) = faults_in(tmp_path, head + "cluster: {local: cuda}\n")
    assert fault.startswith("s.yaml:4:18: cluster.local: torch ")
    assert "finds no CUDA device on this machine. Check nvidia-smi" in fault


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ("schedules: [interleaved]", "got interleaved alone, expected gpipe or 1f1b beside it"),
        ("exchanges: [tree]", "got tree, expected ring beside them"),
        ("objective: cost", 'got "cost", expected'),
        ("limits: {step: 0 s}", "search.limits.step: got"),
        ("limits: {money_per_million: 0}", "search.limits.money_per_million: got"),
        ("limits: {money: 3}", "search.limits.money: is an unknown key"),
    ],
)
def test_what_plans_are_chosen_by_is_checked(tmp_path, section, fault):
    (told,) = faults_in(tmp_path, GOOD + f"search: {{{section}}}\n")
    assert told.startswith("s.yaml:10:")
    assert fault in told
