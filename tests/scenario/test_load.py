"""What a good scenario file becomes."""

from pathlib import Path

import pytest

from hetsim.conditions import Conditions, Disturbance
from hetsim.errors import ScenarioError
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node, Topology
from hetsim.scenario import InputSpec, Measure, NetworkSpec, Scenario, Search, load_scenario, local_cluster
from hetsim.workload import Chain, Layer, Training

FULL = """\
hetsim: 1
name: office
networks:
  vgg: {zoo: vgg, image: 64, norm: batch, global_batch: 32}
  own: {module: "my_nets:build", arguments: {depth: 3, wide: [1, 2]}, input: {shape: [3, 32, 32], classes: 7}}
  uniform:
    layers:
      - {name: stem, parameters: [1000, 10], output: 4 KiB, saved: 8 KiB, flops: 2.0e6}
      - {name: block, repeat: 2, parameters: 5}
      - {name: head}
    input: 4 KiB
    costs: uniform.csv
training: {global_batch: 64, optimizer: adamw, learning_rate: 0.1, dtype: bfloat16}
cluster:
  device_types:
    K80: {memory: 12 GiB, peak_flops: 4 TFLOP/s}
    NVIDIA H200: {backend: cuda}
    capped: {backend: cpu, isa: sse4.2, threads: 2}
    4090:
  nodes:
    - name: old
      devices: {K80: 2, capped: {cores: [[0, 1], [2, 3]]}}
      link: {latency: 2 ms, bandwidth: 12 GB/s}
    - name: new
      devices: {NVIDIA H200: {index: [1]}, K80: 1, 4090: 1}
      link: {latency: 0, bandwidth: 8 Gbit/s}
  network: {latency: 2 ms, bandwidth: 10 Gbit/s}
search: {strategies: [pipeline], schedules: [1f1b], microbatches: [3]}
measure: {steps: 5, warmup_steps: 0, timeout: 2 min}
seed: 7
"""

SMALL = """\
hetsim: 1
networks: {n: {layers: [{name: l}]}}
training: {global_batch: 2}
cluster: {local: mixed-cpu}
"""


def write(folder: Path, text: str, name: str = "s.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_every_key_arrives(tmp_path):
    (tmp_path / "uniform.csv").touch()
    training = Training(64, "adamw", 0.1, dtype="bfloat16")
    layers = (
        Layer("stem", (1000, 10), 4096, 8192, 2e6),
        Layer("block.0", (5,)),
        Layer("block.1", (5,)),
        Layer("head"),
    )
    old, new, network = Link("old", 2e-3, 12e9), Link("new", 0.0, 1e9), Link("network", 2e-3, 1.25e9)
    path = write(tmp_path, FULL)

    assert load_scenario(path) == Scenario(
        "office",
        (
            NetworkSpec("vgg", Training(32, "adamw", 0.1, dtype="bfloat16"), "vgg", None, {"image": 64, "norm": "batch"}),
            NetworkSpec(
                "own",
                training,
                module="my_nets:build",
                arguments={"depth": 3, "wide": [1, 2]},
                input=InputSpec((3, 32, 32), None, 7),
            ),
            NetworkSpec("uniform", training, chain=Chain("uniform", layers, 4096, 2), costs=tmp_path / "uniform.csv"),
        ),
        Cluster(
            (
                Node(
                    "old",
                    (
                        Device("k80-0", "K80", "old"),
                        Device("k80-1", "K80", "old"),
                        Device("capped0", "capped", "old", cores=(0, 1)),
                        Device("capped1", "capped", "old", cores=(2, 3)),
                    ),
                    old,
                ),
                Node(
                    "new",
                    (
                        Device("nvidia-h200-0", "NVIDIA H200", "new", index=1),
                        Device("k80-2", "K80", "new"),
                        Device("4090-0", "4090", "new"),
                    ),
                    new,
                ),
            ),
            {
                "K80": DeviceType("K80", "paper", 12 * 2**30, 4e12),
                "NVIDIA H200": DeviceType("NVIDIA H200", "cuda"),
                "capped": DeviceType("capped", "cpu", isa="sse4.2", threads=2),
                "4090": DeviceType("4090"),
            },
            network,
        ),
        Search(("pipeline",), ("1f1b",), (3,)),
        Measure(5, 0, 120.0),
        seed=7,
        path=path,
    )


def test_what_is_left_out_or_blank_has_its_default(tmp_path):
    blank = "search:\nmeasure: {steps: , timeout: }\n"
    for text in (SMALL, SMALL + blank):
        path = write(tmp_path, text, "my first.yaml")
        scenario = load_scenario(path)
        assert scenario == Scenario(
            "my first",
            (NetworkSpec("n", Training(2), chain=Chain("n", (Layer("l"),))),),
            local_cluster("mixed-cpu"),
            path=path,
        )


@pytest.mark.parametrize(
    ("cluster", "node_link", "network"),
    [
        (
            "{device_types: {A: }, nodes: [{name: n, devices: {A: 2}, link: {latency: 1, bandwidth: 2}}]}",
            Link("n", 1.0, 2.0),
            Link("n", 1.0, 2.0),
        ),
        (
            "{device_types: {A: }, nodes: [{name: n, devices: {A: 1}}], network: {latency: 3, bandwidth: 4}}",
            Link("n", 3.0, 4.0),
            Link("network", 3.0, 4.0),
        ),
    ],
)
def test_a_link_that_nothing_uses_may_be_left_out(tmp_path, cluster, node_link, network):
    text = SMALL.replace("{local: mixed-cpu}", cluster)
    loaded = load_scenario(write(tmp_path, text)).cluster
    assert loaded.nodes[0].link == node_link
    assert loaded.network == network


TOPOLOGY = """
  device_types: {K80: , V100: }
  nodes:
    - name: old
      devices: {K80: 2}
      wires:
        - {between: [k80-0, slot], latency: 1 us, bandwidth: 12 GB/s}
        - {between: [k80-1, slot], latency: 1 us, bandwidth: 12 GB/s}
        - {between: [slot, old], latency: 4 us, bandwidth: 10 GB/s}
    - {name: new, devices: {V100: 1}}
  wires:
    - {between: [old, rack], latency: 20 us, bandwidth: 1 GB/s, duplex: half}
    - {between: [rack, new], latency: 30 us, bandwidth: 2 GB/s}
"""


def test_wires_make_a_topology(tmp_path):
    loaded = load_scenario(write(tmp_path, SMALL.replace(" {local: mixed-cpu}", TOPOLOGY).replace("batch: 2", "batch: 3")))
    topology = Topology(loaded.cluster)
    assert topology.route("k80-0", "k80-1").resources == ("k80-0 > slot", "slot > k80-1")
    assert topology.route("k80-0", "v100-0").latency_s == pytest.approx(55e-6)
    assert topology.route("k80-0", "v100-0").resources[1:3] == ("slot > old", "old = rack")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "between: [k80-1, slot]",
            "between: [k80-9, slot]",
            "no wires lead from k80-1 to old. Devices are called k80-0, k80-1",
        ),
        ("between: [rack, new]", "between: [rack, nev]", "cluster.wires: no wires lead from old to new"),
        ("between: [rack, new]", "between: [rack]", "expected at least"),
        ("duplex: half", "duplex: both", "got \"both\", expected 'full' or 'half'"),
    ],
)
def test_wires_that_lead_nowhere_are_told(tmp_path, old, new, fault):
    text = SMALL.replace(" {local: mixed-cpu}", TOPOLOGY.replace(old, new)).replace("batch: 2", "batch: 3")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(write(tmp_path, text))
    assert fault in str(caught.value)


SIMULATION = (
    "simulation: {jitter: 0.02, disturbances: [{device: DEVICE, slowdown: 3, after: 20 ms, until: 60 ms, chance: 0.5}]}\n"
)


def test_conditions_arrive(tmp_path):
    names = [device.name for device in local_cluster("mixed-cpu").devices]
    text = SMALL + SIMULATION.replace("DEVICE", names[0])
    assert load_scenario(write(tmp_path, text)).simulation == Conditions(
        0.02, (Disturbance(names[0], 3.0, 0.02, 0.06, 0.5),)
    )
    for old, new, fault in (
        ("DEVICE", "nobody", 'got "nobody", which the cluster has not'),
        ("60 ms", "6 ms", "got 0.006 s, which is not after 0.02 s"),
        ("0.5", "1.5", "got 1.5, expected less than or equal to 1"),
    ):
        with pytest.raises(ScenarioError) as caught:
            load_scenario(write(tmp_path, SMALL + SIMULATION.replace(old, new).replace("DEVICE", names[0])))
        assert fault in str(caught.value)


def test_cuda_devices_without_an_index_take_the_ordinals_that_are_left(tmp_path):
    cluster = (
        "{device_types: {A: {backend: cuda}, B: {backend: cuda}},"
        " nodes: [{name: n, devices: {A: 2, B: {index: [1, 3]}}, link: {latency: 0, bandwidth: 1}}]}"
    )
    text = SMALL.replace("{local: mixed-cpu}", cluster).replace("global_batch: 2", "global_batch: 4")
    devices = load_scenario(write(tmp_path, text)).cluster.devices
    assert [(d.name, d.index) for d in devices] == [("a0", 0), ("a1", 2), ("b0", 1), ("b1", 3)]


def test_an_alias_stands_for_what_it_names(tmp_path):
    text = SMALL.replace(
        "{n: {layers: [{name: l}]}}", "{a: {layers: &rows [{name: l}]}, b: {layers: *rows, global_batch: 8}}"
    )
    a, b = load_scenario(write(tmp_path, text)).networks
    assert a.chain.layers == b.chain.layers == (Layer("l"),)
    assert (a.training.global_batch, b.training.global_batch) == (2, 8)


def test_every_device_has_a_name_of_its_own(tmp_path):
    cluster = (
        "{device_types: {a: , A: , a1: , a-1: },"
        " nodes: [{name: n, devices: {a: 12, A: 2, a1: 2, a-1: 2}, link: {latency: 0, bandwidth: 1}}]}"
    )
    text = SMALL.replace("{local: mixed-cpu}", cluster).replace("global_batch: 2", "global_batch: 18")
    names = [device.name for device in load_scenario(write(tmp_path, text)).cluster.devices]
    assert len(set(names)) == 18
