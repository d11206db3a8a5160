"""Profiles of other tools: what they measured arrives in the cost table, and what is wrong with a file is said with its place."""

import csv
import json
import pickle
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetsim.costs.profiles.chain_cuts import chain_cuts
from hetsim.costs.profiles.pipedream import KEYS
from hetsim.costs.profiles.placed_json import Node, parse_json
from hetsim.costs.profiles.profile import Wanted
from hetsim.costs.profiles.reading import detect, read_profile
from hetsim.errors import CostError, HetsimError, InputError, Problem

V100 = Wanted(device_type="V100", microbatch=2)
SHARED = Path(__file__).parents[3] / "shared" / "data"
"""Published measurements, where somebody has put them beside the project; no part of it."""

_FIGURES = "forward_compute_time={}, backward_compute_time={}, activation_size={}, parameter_size={}"
_NODES = (
    ("node1", "Input", "9.000", "0.000", "24.000", "0.000"),
    ("node2", "Conv2d(3, 64, kernel_size=(3, 3))", "2.000", "4.000", "80.000", "400.000"),
    ("node3", "BatchNorm2d(64)", "1.000", "1.500", "80.000", "8.000 -- stage_id=1"),
    ("node4", "Add", "0.500", "0.500", "[80.0; 0.0]", "0.000"),
    ("node5", "Dropout(p=0.5)", "0.000", "0.000", "80.000", "0.000"),
    ("node10", "Linear(a -- b)", "3.000", "5.000", "16.000", "4000.000"),
)
_EDGES = (
    ("node1", "node2"),
    ("node2", "node3"),
    ("node3", "node4"),
    ("node2", "node4"),
    ("node4", "node5"),
    ("node5", "node10"),
)
GRAPH = "".join(
    [f"{name} -- {operator} -- {_FIGURES.format(*figures)}\n" for name, operator, *figures in _NODES]
    + [f"\t{source} -- {target}\n" for source, target in _EDGES]
)
"""Two chains with a skip between; a batch of two samples."""


def written(folder: Path, content: str | bytes, name: str = "profile") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def faults_in(path: Path, wanted: Wanted = V100, kind=None, sizes=None) -> list[str]:
    with pytest.raises(HetsimError) as caught:
        read_profile(path, kind, wanted, sizes)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return str(caught.value).replace(f"{path.parent}/", "").splitlines()


def fault_of(call) -> Problem | None:
    """The first thing that `call` finds wrong; None where it finds nothing. Any other error passes."""
    try:
        call()
    except InputError as error:
        return error.problems[0]
    return None


# --- PipeDream -----------------------------------------------------------------------------------------------------------


def test_a_graph_becomes_a_chain_that_is_cut_where_one_tensor_crosses(tmp_path):
    profile = read_profile(written(tmp_path, GRAPH, "graph.txt"), None, V100)
    assert profile.network == tmp_path.name
    assert [(r.layer, r.microbatch, r.forward_s, r.backward_s) for r in profile.rows] == [
        ("node2.Conv2d", 2, 0.002, 0.004),
        ("node3.BatchNorm2d+1", 2, 0.0015, 0.002),
        ("node10.Linear", 2, 0.003, 0.005),
    ]
    assert profile.chain is not None
    assert profile.chain.input_bytes_per_sample == 12
    assert [(lay.parameters, lay.output_bytes_per_sample, lay.saved_bytes_per_sample) for lay in profile.chain.layers] == [
        ((100,), 40, 40),
        ((2,), 40, 120),
        ((1000,), 8, 8),
    ]
    assert profile.warnings == ("9 ms of the input nodes are left out: they load data",)


def test_all_faults_of_a_graph_come_at_once(tmp_path):
    content = (
        GRAPH.replace("forward_compute_time=2.000", "forward_compute_time=nan")
        .replace("backward_compute_time=1.500", "backward_compute_time=-1.5")
        .replace("[80.0; 0.0]", "[80.0; x]")
        .replace("node5 --", "node3 --", 1)
        .replace("parameter_size=4000.000", "parameter_size=1e30")
        + "node11 -- ReLU -- forward_compute_time=1.0, backward_comp"
    )
    assert faults_in(written(tmp_path, content, "graph.txt")) == [
        'graph.txt:2:68: forward_compute_time: got "nan", expected a finite number, not negative',
        'graph.txt:3:79: backward_compute_time: got "-1.5", expected a finite number, not negative',
        'graph.txt:4:90: activation_size: got "[80.0; x]", expected a finite number, not negative',
        "graph.txt:5:1: the node node3 stands in line 3 already. Remove one of them",
        'graph.txt:6:125: parameter_size: got "1e30", expected 1000000000000 at most',
        'graph.txt:11:11: there is no node "node5"',
        'graph.txt:12:2: there is no node "node5"',
        f"graph.txt:13:19: got 2 figures, expected {', '.join(KEYS)}. The line was cut off",
    ]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("node10 -- Linear", "node5 -- Linear", "graph.txt:6:1: the node node5 stands in line 5 already"),
        ("\tnode5 -- node10", "\tnode5 -- node11", 'graph.txt:12:11: there is no node "node11"'),
        ("\tnode5 -- node10", "\tnode5", 'graph.txt:12:2: got "node5", expected an edge: NODE -- NODE'),
        ("\tnode5 -- node10", "\tnode5 -- node10\n\tnode10 -- node2", "graph.txt: its edges lead round in a circle"),
        ("node10 -- Linear", "a node -- Linear", 'graph.txt:6:1: got the node "a node"'),
        ("forward_compute_time=3.000", "fwd=3.000", 'graph.txt:6:29: got "fwd=3.000", expected forward_compute_time=…'),
        ("=3.000", "=1e999", 'graph.txt:6:50: forward_compute_time: got "1e999", expected a finite number'),
        ("=3.000", "=1e10", 'graph.txt:6:50: forward_compute_time: got "1e10", expected 1000000000 at most'),
        ("=3.000", "=0x10", 'graph.txt:6:50: forward_compute_time: got "0x10", expected a finite number'),
    ],
)
def test_a_fault_of_a_graph(tmp_path, old, new, fault):
    (first, *_) = faults_in(written(tmp_path, GRAPH.replace(old, new), "graph.txt"))
    assert first.startswith(fault)


def test_what_a_graph_does_not_say_has_to_be_said(tmp_path):
    path = written(tmp_path, GRAPH, "graph.txt")
    assert faults_in(path, Wanted()) == [
        "graph.txt: does not say which device it is of. Say it: --device-type NAME",
        "graph.txt: does not say how many samples its batch has. Say it: --microbatch SAMPLES",
    ]


graphs = st.integers(2, 9).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
        st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda e: e[0] < e[1]), max_size=16),
        st.permutations(range(n)),
    )
)


@given(graphs)
def test_cuts_keep_every_node_once_in_order_and_one_tensor_crosses_each(graph):
    """By brute force: over a cut leads an edge from one node with bytes alone, and every edge leads onward."""
    sizes_of, edges, names = graph
    sizes = {f"n{names[i]}": float(size) for i, size in enumerate(sizes_of)}
    named = [(f"n{names[a]}", f"n{names[b]}") for a, b in edges]
    cuts = chain_cuts(sizes, named)
    assert cuts is not None
    order = [name for cut in cuts for name in cut.nodes]
    assert sorted(order) == sorted(sizes)
    assert all(order.index(a) < order.index(b) for a, b in named)
    ends = [sum(len(cut.nodes) for cut in cuts[: i + 1]) for i in range(len(cuts))]
    for end in range(1, len(order)):
        crossing = {a for a, b in named if order.index(a) < end <= order.index(b) and sizes[a] > 0}
        assert (end in ends) == (len(crossing) == 1)
        if end in ends:
            assert cuts[ends.index(end)].crossing_bytes == sizes[crossing.pop()]


def test_a_circle_is_no_chain():
    assert chain_cuts({"a": 1.0, "b": 1.0}, [("a", "b"), ("b", "a")]) is None
    assert chain_cuts({"a": 1.0}, [("a", "a")]) is None


# --- Sailor --------------------------------------------------------------------------------------------------------------

TIMES = {
    "1": {"1": {"0": [0.001, 0.002, 0.01], "1": [0.003, 0.004, 0.01], "10": [0.005, 0.006, 0.01]}},
    "4": {"1": {"0": [0.004, 0.008, 0.011], "1": [0.012, 0.016, 0.011], "10": [0.02, 0.024, 0.011]}, "2": {"0": [1, 2, 3]}},
}
SIZES = {"params_floats": 1000, "act_output_floats": 20, "act_mem_floats": 300, "act_input_floats": 1}


def test_a_profile_of_sailor_becomes_rows_and_the_update_is_the_devices(tmp_path):
    profile = read_profile(written(tmp_path, json.dumps(TIMES), "opt.json"), None, Wanted("A100"))
    plain = [row for row in profile.rows if row.tensor_parallel == 1 and row.layer != "@step"]
    assert [(r.layer, r.microbatch, r.forward_s, r.backward_s, r.update_s) for r in plain] == [
        ("layer0", 1, 0.001, 0.002, 0),
        ("layer1", 1, 0.003, 0.004, 0),
        ("layer10", 1, 0.005, 0.006, 0),
        ("layer0", 4, 0.004, 0.008, 0),
        ("layer1", 4, 0.012, 0.016, 0),
        ("layer10", 4, 0.02, 0.024, 0),
    ]
    steps = [(r.microbatch, r.tensor_parallel, r.update_s) for r in profile.rows if r.layer == "@step"]
    assert steps == [(1, 1, 0.01), (4, 1, 0.011), (4, 2, 3)]
    assert profile.chain is None


def test_several_models_and_gpus_are_chosen_from(tmp_path):
    document = {"OPT": {"A100": TIMES, "V100": {"1": TIMES["1"]}}, "GPT": {"A100": TIMES}}
    path = written(tmp_path, json.dumps(document), "profiles.json")
    assert faults_in(path, Wanted()) == ["profiles.json: has several: OPT, GPT. Say which is meant: --model NAME"]
    assert faults_in(path, Wanted(model="OPTT"))[0] == 'profiles.json: has no model "OPTT". Did you mean "OPT"?'
    assert faults_in(path, Wanted(model="OPT", gpu="A1000"))[0] == 'profiles.json: has no gpu "A1000". Did you mean "A100"?'
    assert faults_in(path, Wanted(model="OPT", device_type="x"))[0].endswith("Say which is meant: --gpu NAME")
    assert read_profile(path, None, Wanted(model="OPT")).device_types == ("A100", "V100")
    assert read_profile(path, None, Wanted(model="OPT")).network == "OPT"
    assert read_profile(path, None, Wanted(model="OPT", gpu="A100", device_type="a")).device_types == ("a",)
    sizes = written(tmp_path, json.dumps({"OPT": {"1": dict.fromkeys(("0", "1", "10"), SIZES)}}), "llm_info.json")
    chain = read_profile(path, None, Wanted(model="OPT"), sizes).chain
    assert chain is not None
    assert [layer.name for layer in chain.layers] == ["layer0", "layer1", "layer10"]
    assert (chain.layers[0].parameters, chain.layers[0].output_bytes_per_sample) == ((1000,), 80)
    assert chain.layers[0].saved_bytes_per_sample == 1200


def test_points_that_sailor_did_not_measure_are_left_out_and_counted(tmp_path):
    times = {"1": {"1": {"0": [0.1, 0.2, 0.3]}}, "2": {"1": {"0": [2**30, 2**30, 2**30]}}}
    profile = read_profile(written(tmp_path, json.dumps(times)), "sailor", V100)
    assert {row.microbatch for row in profile.rows} == {1}
    assert profile.warnings == ("1 points were not measured and are left out",)
    only = {"1": {"1": {"0": [2**30, 2**30, 2**30]}}}
    assert faults_in(written(tmp_path, json.dumps(only)), kind="sailor") == ["profile: has no layer that was measured"]


def test_all_faults_of_sailors_file_come_at_once(tmp_path):
    content = """\
{"1": {"1": {"0": [0.1, "x", 0.1], "1": [0.1, -2, 0.1]},
       "0": {"0": [1, 1, 1]},
       "2": []},
 "x": {"1": {"0": [1, 1, 1]}},
 "4": {"1": {"0": [1, 1], "01": [1, 1, 1e7], "1": [1, 1, 1], "a": [true, null, {}]}}}
"""
    assert faults_in(written(tmp_path, content), kind="sailor") == [
        'profile:1:25: backward: got "x", expected a number, not negative',
        "profile:1:47: backward: got -2, expected a number, not negative",
        'profile:2:13: got the tensor parallel degree "0", expected a whole number of 1 or more',
        "profile:3:13: got an empty list, expected a mapping of each layer",
        'profile:4:7: got the microbatch "x", expected a whole number of 1 or more',
        "profile:5:19: got a list of 2, expected a list of forward, backward, update in seconds",
        "profile:5:40: update: got 10000000.0, expected 1000000 at most",
        "profile:5:51: the layer 1 stands twice",
        'profile:5:67: got the layer "a", expected a whole number of 0 or more',
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('{"1": {"1": {"0": [0.1, 0.2', "profile:1:28: the file ends here, expected a comma or ] in a list: it was cut off"),
        ('{"1": {"1": {"0": [0.1, NaN, 0]}}}', "profile:1:25: got NaN, expected a finite number"),
        ('{"1": {"1": {"0": [0.1, 1e999, 0]}}}', 'profile:1:25: got "1e999", expected a finite number'),
        ('{"1": 1, "1": 2}', 'profile:1:10: the key "1" stands twice. The first is at profile:1:7'),
        ('{"1": {}}\n{}', 'profile:2:1: got "{}" after the end, expected nothing more'),
        ("{", "profile:1:2: expected a key in quotes"),
        ("[]", "profile:1:1: got an empty list, expected a mapping. This is no profile of Sailor's"),
        ("3", "profile:1:1: got 3, expected a mapping. This is no profile of Sailor's"),
        ('{"a": }', 'profile:1:7: got "}", expected a value'),
        ('{"a', "profile:1:2: a text in quotes does not end on its line, or holds a sign that JSON forbids"),
        ('{"a\\q": 1}', "profile:1:2: a text in quotes has an escape that JSON does not know"),
        ('{"a": ' + "[" * 60, "profile:1:57: is nested more than 50 deep"),
        ("", "profile:1:1: the file is empty"),
        (b"\x80\x04pickle", "profile:1:1: got the byte 0x80, expected text in UTF-8; it looks like a pickle"),
    ],
)
def test_what_is_no_profile_of_sailors(tmp_path, content, fault):
    assert faults_in(written(tmp_path, content), kind="sailor") == [fault]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def plain(node: Node):
    if isinstance(node.value, dict):
        return {key: plain(member) for key, member in node.value.items()}
    return [plain(item) for item in node.value] if isinstance(node.value, list) else node.value


@given(values, st.sampled_from([None, 1]), st.booleans())
def test_our_json_is_that_of_the_standard_library(value, indent, ascii_only):
    assert plain(parse_json(json.dumps(value, indent=indent, ensure_ascii=ascii_only), "f")) == value


@given(st.text(st.sampled_from('{}[]",:0123456789.-+eE\\ntrufals \n'), max_size=40))
def test_what_the_standard_library_refuses_we_refuse(text):
    fault = fault_of(lambda: parse_json(text, "f"))
    try:
        json.loads(text)
    except ValueError:
        assert fault is not None
    else:  # and a key that stands twice, and numbers that are too large, which it lets pass
        assert fault is None or "twice" in fault.what or "finite" in fault.what
    assert fault is None or fault.where.startswith("f:")


# --- batch curves --------------------------------------------------------------------------------------------------------


def test_a_curve_is_one_layer_whose_division_is_an_assumption(tmp_path):
    path = written(tmp_path, "# ours\nseconds,batch\n0.3,8\n0.9,32\n", "bert.csv")
    profile = read_profile(path, None, Wanted("K80", parameters=7, spread=0.02))
    assert [(r.layer, r.microbatch, r.provenance, r.spread) for r in profile.rows] == [
        ("whole", 8, "specified", 0.02),
        ("whole", 32, "specified", 0.02),
    ]
    assert [r.forward_s + r.backward_s for r in profile.rows] == pytest.approx([0.3, 0.9])
    assert [r.backward_s / r.forward_s for r in profile.rows] == pytest.approx([2, 2])
    assert "is an assumption" in " ".join(profile.notes)
    assert profile.chain is not None
    assert profile.chain.layers[0].parameters == (7,)
    thirds = read_profile(path, None, Wanted("K80", backward_share=0.75)).rows
    assert thirds[0].backward_s == pytest.approx(0.225)


def test_a_curve_may_name_its_devices(tmp_path):
    path = written(tmp_path, "batch,seconds,device\n8,0.3,K80\n8,0.1,V100\n")
    assert read_profile(path, None, Wanted()).device_types == ("K80", "V100")
    assert read_profile(path, None, Wanted("V100")).device_types == ("V100",)
    assert faults_in(path, Wanted("V10")) == ['profile: has no device V10. Did you mean "V100"?']
    assert faults_in(written(tmp_path, "batch,seconds\n8,1\n"), Wanted())[0].endswith("Say it: --device-type NAME")


def test_all_faults_of_a_curve_come_at_once(tmp_path):
    content = "batch,seconds\n0,1\n8,nan\n8,-1\n8,0\n16,1,2\n32,1\n32,2\n9999999999999,1\n64,1e7\n1.5,1\n"
    assert faults_in(written(tmp_path, content)) == [
        'profile:2:1: batch: got "0", expected a whole number of 1 or more',
        'profile:3:3: seconds: got "nan", expected a finite number, not negative',
        'profile:4:3: seconds: got "-1", expected a finite number, not negative',
        'profile:5:3: seconds: got "0", expected more: a step that takes no time was not measured',
        "profile:6:6: got 3 cells, expected 2, as in the header. Write decimals with a point",
        "profile:8:1: the row repeats the batch of line 7. Remove one of them",
        'profile:9:1: batch: got "9999999999999", expected 1000000000000 at most',
        'profile:10:4: seconds: got "1e7", expected 1000000 at most',
        'profile:11:1: batch: got "1.5", expected a whole number of 1 or more',
    ]


# --- any file ------------------------------------------------------------------------------------------------------------


def test_the_kind_is_told_by_the_file(tmp_path):
    assert detect(written(tmp_path, GRAPH)) == "pipedream"
    assert detect(written(tmp_path, ' {"1": {}}')) == "sailor"
    assert detect(written(tmp_path, "# ours\ndevice, seconds, batch\n")) == "curve"
    with pytest.raises(InputError, match="is a cost table already"):
        detect(written(tmp_path, "# hetsim costs 1\ndevice_type,layer,microbatch,forward_s,backward_s\n"))
    with pytest.raises(CostError, match=r"is no profile that can be recognised.*--as pipedream"):
        detect(written(tmp_path, "hello\n"))


@pytest.mark.parametrize("kind", ["pipedream", "sailor", "curve", None])
@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", pickle.dumps([1]), b"\xff\xfea\0", b"hello\n", b"\0"])
def test_foreign_files_are_refused_as_any_kind(tmp_path, kind, content):
    assert faults_in(written(tmp_path, content), kind=kind)


@pytest.mark.parametrize("kind", ["pipedream", "sailor", "curve", None])
def test_folders_and_missing_files_are_refused(tmp_path, kind):
    (tmp_path / "folder").mkdir()
    assert "cannot be read" in faults_in(tmp_path / "folder", kind=kind)[0]
    assert "there is no such file" in faults_in(tmp_path / "none", kind=kind)[0]


same_folder = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


@same_folder
@given(st.data())
def test_a_damaged_profile_is_an_error_with_a_place_or_still_a_profile(tmp_path, data):
    kind, whole = data.draw(
        st.sampled_from(
            [("pipedream", GRAPH), ("sailor", json.dumps(TIMES, indent=1)), ("curve", "batch,seconds\n8,1\n16,2\n")]
        )
    )
    cut = data.draw(st.integers(0, len(whole)))
    place = data.draw(st.integers(0, cut))
    path = written(tmp_path, whole[:place].encode() + data.draw(st.binary(max_size=4)) + whole[place:cut].encode())
    profiles = []
    fault = fault_of(lambda: profiles.append(read_profile(path, kind, V100)))
    assert (fault is None) == bool(profiles)
    assert fault is None or fault.where.startswith(str(path))
    assert all(row.forward_s >= 0 and row.backward_s >= 0 and row.microbatch >= 1 for p in profiles for row in p.rows)


# --- published profiles --------------------------------------------------------------------------------------------------


def published(name: str) -> list[dict[str, str]]:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not beside the project")
    with path.open() as file:
        return list(csv.DictReader(file))


def pipedream_graph(profile: str) -> str:
    nodes = [
        row for row in published("pipedream_dapple/layers.csv") if (row["source"], row["profile"]) == ("pipedream", profile)
    ]
    edges = [
        row for row in published("pipedream_dapple/edges.csv") if (row["source"], row["profile"]) == ("pipedream", profile)
    ]
    lines = [
        f"node{row['node']} -- {row['layer']} -- forward_compute_time={row['forward_ms']}, "
        f"backward_compute_time={row['backward_ms']}, activation_size={row['activation_bytes']}, "
        f"parameter_size={row['parameter_bytes']}"
        for row in nodes
    ]
    return "\n".join(lines + [f"\tnode{row['from_node']} -- node{row['to_node']}" for row in edges])


@pytest.mark.parametrize(
    ("network", "parameters", "layers"),
    [("vgg16", 138_357_544, 36), ("resnet18", 11_689_512, 22), ("resnet50", 25_557_032, 38), ("alexnet", 61_100_840, 18)],
)
def test_published_graphs_have_the_parameters_of_the_networks(tmp_path, network, parameters, layers):
    """The counts are those of torchvision's definitions of these networks; a layer is an operator, a residual block one, too.

    Dropout and reshaping cost nothing there and belong to the layer before.
    """
    profile = read_profile(written(tmp_path, pipedream_graph(network), "graph.txt"), None, Wanted("V100", network, 128))
    assert profile.chain is not None
    assert sum(layer.parameter_count for layer in profile.chain.layers) == parameters
    assert len(profile.chain) == layers


def test_published_times_arrive_whole(tmp_path):
    nodes = [
        row for row in published("pipedream_dapple/layers.csv") if (row["source"], row["profile"]) == ("pipedream", "gnmt")
    ]
    profile = read_profile(written(tmp_path, pipedream_graph("gnmt"), "graph.txt"), None, Wanted("V100", "gnmt", 64))
    total_s = sum(float(row["forward_ms"]) + float(row["backward_ms"]) for row in nodes) / 1e3
    assert sum(row.forward_s + row.backward_s for row in profile.rows) == pytest.approx(total_s)


def test_published_times_of_sailor_arrive_whole(tmp_path):
    times: dict = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    rows = [r for r in published("sailor/layer_times.csv") if r["model"] == "OPT-350" and r["source_file"].startswith("sim")]
    for row in rows:
        entry = [float(row["forward_s"]), float(row["backward_s"]), float(row["optimizer_update_s"])]
        times[row["gpu"]][row["micro_batch"]][row["tp"]][row["layer"]] = entry
    profile = read_profile(written(tmp_path, json.dumps({"OPT-350": times})), None, Wanted())
    mine = [row for row in profile.rows if row.layer != "@step"]
    assert len(mine) == len(rows)
    assert sum(row.forward_s for row in mine) == pytest.approx(sum(float(row["forward_s"]) for row in rows))
