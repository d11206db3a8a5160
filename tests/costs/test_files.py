"""Cost tables as files: what is written comes back, and what is wrong is said with its place."""

import pickle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetsim.costs import LOSS, PSEUDO_LAYERS, STEP, CostTable, LayerCost, TransferCost
from hetsim.costs.files import (
    read_cost_table,
    read_layer_costs,
    read_transfer_costs,
    write_layer_costs,
    write_transfer_costs,
)
from hetsim.errors import CostError, Problem

PROVENANCES = ("measured", "interpolated", "extrapolated", "transferred", "specified")
HEAD = "# hetsim costs 1\ndevice_type,layer,microbatch,forward_s,backward_s"

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), min_size=1, max_size=12).filter(
    lambda name: not name.startswith("@")
)
seconds = st.floats(0, 1e6)
counts = st.integers(0, 10**12)
layer_costs = st.builds(
    LayerCost,
    device_type=names,
    layer=names | st.sampled_from([LOSS, STEP]),
    microbatch=st.integers(1, 10**9),
    forward_s=seconds,
    backward_s=seconds,
    update_s=seconds,
    saved_bytes=st.none() | counts,
    spread=seconds,
    samples=counts,
    tensor_parallel=st.integers(1, 64),
    in_flight=st.integers(1, 8),
    provenance=st.sampled_from(PROVENANCES),
)
devices = st.from_regex(r"[\w.-]+", fullmatch=True)
transfer_costs = st.builds(
    TransferCost,
    operation=st.just("all_reduce"),
    group=st.lists(devices, min_size=2, max_size=4, unique=True).map(lambda group: tuple(sorted(group))),
    size_bytes=counts,
    seconds=seconds,
    spread=seconds,
    samples=counts,
)
same_folder = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@same_folder
@given(
    st.lists(
        layer_costs, min_size=1, unique_by=lambda r: (r.device_type, r.layer, r.tensor_parallel, r.in_flight, r.microbatch)
    )
)
def test_layer_costs_come_back_as_they_were_and_as_the_same_bytes(tmp_path, rows):
    path = tmp_path / "net.csv"
    write_layer_costs(path, rows, ["where from", "", "by, whom"])
    first = path.read_bytes()
    table = read_cost_table(path, "net")
    assert table == CostTable("net", tuple(rows), (), str(path), ("where from", "", "by, whom"))
    write_layer_costs(path, table.layers, table.notes)
    assert path.read_bytes() == first


@same_folder
@given(st.lists(transfer_costs, min_size=1, unique_by=lambda r: (r.operation, r.group, r.size_bytes)))
def test_transfer_costs_come_back_as_they_were(tmp_path, rows):
    path = tmp_path / "transfers.csv"
    write_transfer_costs(path, rows)
    assert read_transfer_costs(path) == tuple(rows)


def test_a_folder_holds_one_file_a_network_and_one_for_transfers(tmp_path):
    layer = LayerCost("V100", "l0", 4, 0.1, 0.2)
    transfers = (TransferCost("send_recv", ("a0", "b0"), 1024, 1e-3), TransferCost("bucket", ("V100",), 64, 1e-6))
    write_layer_costs(tmp_path / "vgg.csv", [layer])
    assert read_cost_table(tmp_path, "vgg").transfers == ()
    write_transfer_costs(tmp_path / "transfers.csv", transfers)
    assert read_cost_table(tmp_path, "vgg") == CostTable("vgg", (layer,), transfers, str(tmp_path / "vgg.csv"))
    assert read_layer_costs(tmp_path, "vgg") == (layer,)
    with pytest.raises(CostError, match=r'no costs of the network vggg\. Did you mean "vgg"'):
        read_cost_table(tmp_path, "vggg")


def test_by_hand_few_columns_are_enough_in_any_order(tmp_path):
    path = tmp_path / "net.csv"
    path.write_text(
        "\ufeff# hetsim costs 1,,,,,,\n# from a datasheet,,,,,,\n\n"
        "layer, microbatch,device_type,backward_s,forward_s,samples,saved_bytes\r\n"
        '"l,0", 8 ,V100,1,.2,,\n,,,,,,\nl1,8,V100,1.,2e-1,3,7',
        encoding="utf-8",
    )
    table = read_cost_table(path, "net")
    assert table.notes == ("from a datasheet",)
    assert table.layers == (
        LayerCost("V100", "l,0", 8, 0.2, 1.0, provenance="specified"),
        LayerCost("V100", "l1", 8, 0.2, 1.0, saved_bytes=7, samples=3, provenance="measured"),
    )


def test_numbers_of_numpy_are_written_as_plain_ones(tmp_path):
    numpy = pytest.importorskip("numpy")
    path = tmp_path / "net.csv"
    write_layer_costs(path, [LayerCost("V100", "l", numpy.int64(2), numpy.float64(0.1), 0.2)])
    assert read_layer_costs(path, "net") == (LayerCost("V100", "l", 2, 0.1, 0.2),)


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "net.csv"
    write_layer_costs(path, [LayerCost("V100", "l", 1, 0.1, 0.2)])
    before = path.read_bytes()
    with pytest.raises(CostError, match="expected a name on one line"):
        write_layer_costs(path, [LayerCost("V100", "two\nlines", 1, 0.1, 0.2)])
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.csv"]


def faults_in(folder: Path, content: str | bytes, read=read_layer_costs) -> list[str]:
    path = folder / "net.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CostError) as caught:
        read_cost_table(path, "net") if read is read_layer_costs else read(path)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    if read is read_layer_costs:
        with pytest.raises(CostError) as again:
            read_layer_costs(path, "net")
        assert str(again.value) == str(caught.value)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_many_faults_come_at_once_and_in_order(tmp_path):
    content = """\
# hetsim costs 1
# from nowhere
device_type, layer,microbatch,forward_s,backward_s,samples,saved_bytes,provenance
K80,l0,1,0.1,0.2,3,,
K80,l0,1,0.1,0.2,3,,
K80,,0,nan,inf,-1,1.5,mesured
V100,l0,1,-0.1,"0,2",1e3,x,guess
V100,"l0,1,0.1,0.2,1,,
V100,l0,1,0,1,0,2,3,,
V100,l0,1,1_0,0x3,,,
V100,@lss,1,1e999,,99999999999999999999,,
V100,l0,1,1.0e7,0,1000000000001,,
V100,l0,1,0.
"""
    assert faults_in(tmp_path, content) == [
        "net.csv:5:1: the row repeats that of line 4. Remove one of them",
        "net.csv:6:5: layer: got nothing, expected a name",
        'net.csv:6:6: microbatch: got "0", expected a whole number of 1 or more',
        'net.csv:6:8: forward_s: got "nan", expected a finite number, not negative',
        'net.csv:6:12: backward_s: got "inf", expected a finite number, not negative',
        'net.csv:6:16: samples: got "-1", expected a whole number of 0 or more',
        'net.csv:6:19: saved_bytes: got "1.5", expected a whole number of 0 or more',
        'net.csv:6:23: provenance: got "mesured", which is unknown. Did you mean "measured"?',
        'net.csv:7:11: forward_s: got "-0.1", expected a finite number, not negative',
        'net.csv:7:16: backward_s: got "0,2", expected a finite number, not negative',
        'net.csv:7:22: samples: got "1e3", expected a whole number of 0 or more',
        'net.csv:7:26: saved_bytes: got "x", expected a whole number of 0 or more',
        f'net.csv:7:28: provenance: got "guess", which is unknown. Known: {", ".join(PROVENANCES)}',
        'net.csv:8:6: a quoted cell does not end before the next comma. Write "" for a quote inside',
        "net.csv:9:22: got 10 cells, expected 8, as in the header. Write decimals with a point",
        'net.csv:10:11: forward_s: got "1_0", expected a finite number, not negative',
        'net.csv:10:15: backward_s: got "0x3", expected a finite number, not negative',
        f'net.csv:11:6: layer: got "@lss"; of the names that begin with @ there are only {", ".join(PSEUDO_LAYERS)}',
        'net.csv:11:13: forward_s: got "1e999", expected a finite number, not negative',
        "net.csv:11:19: backward_s: got nothing, expected a finite number, not negative",
        'net.csv:11:20: samples: got "99999999999999999999", expected a whole number of 0 or more',
        'net.csv:12:11: forward_s: got "1.0e7", expected 1000000 at most',
        'net.csv:12:19: samples: got "1000000000001", expected 1000000000000 at most',
        "net.csv:13:11: got 4 cells, expected 8, as in the header. The row was cut off",
    ]


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        (b"", ["net.csv:1:1: the file is empty"]),
        (b"\x89PNG\r\n", ["net.csv:1:1: got the byte 0x89, expected text in UTF-8; it looks like a PNG image"]),
        (pickle.dumps([1]), ["net.csv:1:1: got the byte 0x80, expected text in UTF-8; it looks like a pickle"]),
        ("a,b\n1,2\n", ['net.csv:1:1: got "a,b", expected the first line to be # hetsim costs 1']),
        ("# hetsim costs 2\n", ["net.csv:1:1: got version 2 of hetsim costs, expected 1"]),
        (
            "# hetsim transfers 1\n",
            ['net.csv:1:1: got "# hetsim transfers 1", expected the first line to be # hetsim costs 1'],
        ),
        (
            "# hetsim costs 1\n# no more",
            ["net.csv:2:1: the file has no header. Write device_type,layer,microbatch,forward_s,backward_s"],
        ),
        (HEAD + "\n", ["net.csv:2:1: the file has a header and no rows"]),
        (
            HEAD.replace("forward_s", "foward_s") + ",backward_s\nV100,l,1,0,0,0",
            [
                "net.csv:2:1: the column forward_s is missing",
                'net.csv:2:30: got the column "foward_s", which is unknown. Did you mean "forward_s"?',
                "net.csv:2:50: the column backward_s stands twice",
            ],
        ),
    ],
)
def test_what_is_no_cost_table_at_all(tmp_path, content, faults):
    assert faults_in(tmp_path, content) == faults


def test_semicolons_get_a_hint(tmp_path):
    assert "net.csv:2:1: got the column" in faults_in(tmp_path, HEAD.replace(",", ";"))[0]
    assert faults_in(tmp_path, HEAD.replace(",", ";"))[0].endswith("Separate cells by commas")


def test_faults_of_transfers(tmp_path):
    content = """\
# hetsim transfers 1
operation,group,size_bytes,seconds
send_recv,a;b;c,1,2
all_reduce,a,1,1
bucket,a;b,1,1
buckt,a,1,1
all_reduce,b;a,1,1
all_reduce,a;b,1,1
all_reduce,a;a,-1,1
"""
    assert faults_in(tmp_path, content, read_transfer_costs) == [
        'net.csv:3:11: group: got "a;b;c", expected two devices, as a;b',
        'net.csv:4:12: group: got "a", expected two devices or more, as a;b;c',
        'net.csv:5:8: group: got "a;b", expected one device type',
        'net.csv:6:1: operation: got "buckt", which is unknown. Did you mean "bucket"?',
        "net.csv:8:1: the row repeats that of line 7. Remove one of them",
        'net.csv:9:12: group: got "a;a", expected two devices or more, as a;b;c',
        'net.csv:9:16: size_bytes: got "-1", expected a whole number of 0 or more',
    ]


def test_layers_and_transfers_of_a_folder_report_together(tmp_path):
    (tmp_path / "net.csv").write_text(HEAD + "\nV100,l,1,x,0\n")
    (tmp_path / "transfers.csv").write_text("# hetsim transfers 1\noperation,group,size_bytes,seconds\nbucket,V100,1,y\n")
    with pytest.raises(CostError) as caught:
        read_cost_table(tmp_path, "net")
    assert [Path(problem.where).name for problem in caught.value.problems] == ["net.csv:3:10", "transfers.csv:3:15"]


@same_folder
@given(st.data())
def test_a_damaged_file_is_a_cost_error_or_still_a_table(tmp_path, data):
    path = tmp_path / "net.csv"
    write_layer_costs(path, [LayerCost("V100", f"l{i}", 2**i, 0.1 * i, 0.2) for i in range(4)], ["note"])
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    place = data.draw(st.integers(0, cut))
    path.write_bytes(whole[:place] + data.draw(st.binary(max_size=4)) + whole[place:cut])
    problems: tuple[Problem, ...] = ()
    rows: tuple[LayerCost, ...] = ()
    try:
        rows = read_cost_table(path, "net").layers
    except CostError as error:
        problems = error.problems
    assert bool(rows) != bool(problems)
    assert all(row.forward_s >= 0 and row.microbatch >= 1 for row in rows)
    assert all(problem.where.startswith(str(path)) for problem in problems)
