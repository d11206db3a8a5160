"""`hetsim costs …` as a user meets it: tables on stdout, talk on stderr, exit codes as documented, nothing written by halves."""

import json
import shlex

import pytest
import typer.main

from calibration.fingerprint import fingerprint
from hetsim.cli.app import app
from hetsim.costs import LayerCost, TransferCost
from hetsim.costs.files import write_layer_costs, write_transfer_costs
from hetsim.costs.samples import digest
from hetsim.hardware import Device, DeviceType

CPU = fingerprint(Device("cpu0", "cpu", "here", cores=(0,)), DeviceType("cpu", "cpu"))
"""Of one core of this machine, today."""


def calibrated(folder, *, kinds=("cpu",), forward_s=0.1, prints=CPU, network="net"):
    """A folder of costs as a calibration leaves it."""
    rows = [
        LayerCost(kind, f"l{layer}", size, forward_s * size, 0.2 * size, spread=0.02, samples=7)
        for kind in kinds
        for layer in range(2)
        for size in (1, 4, 16)
    ]
    write_layer_costs(folder / f"{network}.csv", rows)
    write_transfer_costs(folder / "transfers.csv", [TransferCost("bucket", (kind,), 8, 1e-6) for kind in kinds])
    common = {"schema_version": 1, "kind": "layers", "network": network, "fingerprint": prints}
    lines = [json.dumps(common | {"key": f"{digest(prints)}-{kind}", "device_type": kind}) for kind in kinds]
    (folder / "samples.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


@pytest.fixture
def costs(tmp_path):
    """`runs/costs` of the working directory, with the costs of one scenario."""
    calibrated(tmp_path / "runs" / "costs" / "office")
    return tmp_path / "runs" / "costs"


# --- list ----------------------------------------------------------------------------------------------------------------


def test_list_says_what_is_there_and_whether_it_holds_today(hetsim, costs):
    calibrated(costs / "older", prints=CPU | {"torch": "2.0.0"})
    calibrated(costs / "gpus", prints={"backend": "cuda", "device": "NVIDIA GTX 480", "torch": "2.0.0"})
    write_layer_costs(costs / "paper" / "net.csv", [LayerCost("K80", "l0", 8, 1.0, 2.0)])
    document = hetsim.json("costs", "list")
    assert document["schema_version"] == 1
    found = {row["name"]: row for row in document["tables"]}
    assert {name: row["matches_today"] for name, row in found.items()} == {
        "office": True, "older": False, "gpus": None, "paper": None
    }  # fmt: skip
    assert found["older"]["differs"] == [{"key": "torch", "then": "2.0.0", "today": CPU["torch"]}]
    assert found["office"]["fingerprint"] == digest(CPU)
    assert (found["office"]["layers"], found["office"]["points"], found["office"]["microbatches"]) == (2, 6, [1, 4, 16])
    table = hetsim("costs", "list")
    assert table.returncode == 0
    assert all(word in table.stdout for word in ("office", "net", "yes", "no", "unknown", digest(CPU)))
    assert f'torch is "{CPU["torch"]}" today and was "2.0.0"' in table.stderr


def test_list_shows_what_is_sound_and_names_what_is_not(hetsim, costs):
    (costs / "bad").mkdir()
    (costs / "bad" / "net.csv").write_text("torn")
    (costs / "worse.zip").write_bytes(b"PK")
    done = hetsim("costs", "list")
    assert done.returncode == 2
    assert "office" in done.stdout
    assert "bad/net.csv:1:1" in done.stderr
    assert "worse.zip: is not a zip archive" in done.stderr


def test_list_of_nothing(hetsim, tmp_path):
    missing = hetsim("costs", "list")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "hetsim calibrate SCENARIO" in missing.stderr
    (tmp_path / "runs" / "costs").mkdir(parents=True)
    assert hetsim.json("costs", "list")["tables"] == []
    assert hetsim("costs", "list").returncode == 0


# --- show ----------------------------------------------------------------------------------------------------------------


def test_show_by_name_folder_file_and_scenario_is_the_same(hetsim, costs, scenarios):
    shown = [
        hetsim.json("costs", "show", which)["tables"] for which in ("office", costs / "office", costs / "office" / "net.csv")
    ]
    assert [[row for table in tables for row in table["rows"]] for tables in shown[1:]] == [shown[0][0]["rows"]] * 2
    assert shown[0][0]["fingerprints"] == {"cpu": [json.loads(json.dumps(CPU))]}
    assert shown[0][0]["rows"][0]["forward_s"] == 0.1
    quoted = hetsim.json("costs", "show", scenarios / "k80_v100.yaml", "--network", "bert-8")
    assert {row["device_type"] for table in quoted["tables"] for row in table["rows"]} == {"K80", "V100"}


def test_show_tells_what_links_give(hetsim, costs):
    """Made of 50 µs and 2 GB/s, which is what it says."""
    sizes = [1 << n for n in range(10, 27, 2)]
    rows = [TransferCost("all_gather", ("a", "b"), size, 50e-6 + size / 2e9, samples=5) for size in sizes]
    write_transfer_costs(costs / "office" / "transfers.csv", [*rows, TransferCost("bucket", ("cpu",), 8, 1e-6)])
    (link,) = hetsim.json("costs", "show", "office", "--links")["links"]
    assert (link["operation"], link["group"], link["sizes"]) == ("all_gather", ["a", "b"], 9)
    assert link["latency_s"] == pytest.approx(50e-6)
    assert link["regimes"] == [{"from_bytes": 0, "bytes_per_s": pytest.approx(2e9)}]
    shown = hetsim("costs", "show", "office", "--links")
    assert shown.returncode == 0
    assert "50.0 µs" in shown.stdout
    assert "2 GB/s from 0 B" in shown.stdout
    assert "links" not in hetsim.json("costs", "show", "office")


def test_show_of_links_that_nobody_timed(hetsim, costs):
    shown = hetsim("costs", "show", "office", "--links")
    assert shown.returncode == 0
    assert "no timings of communication between devices" in shown.stderr


def test_show_draws_and_narrows(hetsim, costs, tmp_path):
    done = hetsim("costs", "show", "office", "--layer", "l1", "--plot", "curves.svg")
    assert done.returncode == 0
    assert "l0" not in done.stdout
    assert "± 2.0 %" in done.stdout
    assert "fingerprint" in done.stdout
    picture = (tmp_path / "curves.svg").read_text()
    assert ">l1<" in picture
    assert ">l0<" not in picture


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["offcie"], 'Did you mean "office"?'),
        (["office", "--network", "nett"], 'Did you mean "net"?'),
        (["office", "--layer", "l9"], "there is no layer l9"),
        (["office", "--device-type", "gpu"], "there is no device type gpu"),
        (["office", "--plot", "curves.pdf"], "expected .png or .svg"),
        (["none.csv"], "there is no such file or folder"),
    ],
)
def test_show_of_what_is_not_there(hetsim, costs, words, said):
    done = hetsim("costs", "show", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


# --- export and merge ----------------------------------------------------------------------------------------------------


def test_costs_of_two_hosts_become_one_that_can_be_planned_with(hetsim, costs, tmp_path):
    """Export on each host, merge, and plan a cluster that has the devices of both."""
    calibrated(costs / "annexe", kinds=("gpu",), forward_s=0.01, prints={"device": "A100"})
    for name in ("office", "annexe"):
        assert hetsim("costs", "export", name, f"{name}.zip").returncode == 0
    document = hetsim.json("costs", "merge", "both", "office.zip", "annexe.zip")
    assert [row["device_type"] for row in document["tables"]] == ["cpu", "gpu"]
    assert (document["transfers"], document["samples"]) == (2, 2)
    (tmp_path / "both.yaml").write_text("""\
hetsim: 1
networks: {net: {layers: [{name: l0}, {name: l1}], costs: both}}
training: {global_batch: 16}
cluster:
  device_types: {cpu: {}, gpu: {}}
  nodes: [{name: box, devices: {cpu: 1, gpu: 1}, link: {latency: 10 us, bandwidth: 10 GB/s}}]
""")
    chosen = hetsim.json("plan", "both.yaml")["networks"][0]["chosen"]
    assert chosen.startswith("cpu0[0:2] ")
    assert "gpu0[0:2] " in chosen


def test_conflicts_and_mismatches_are_refused_until_settled(hetsim, costs, tmp_path):
    calibrated(tmp_path / "b", forward_s=0.3)
    calibrated(tmp_path / "c", network="other", prints=CPU | {"torch": "2.0.0"})
    done = hetsim("costs", "merge", "out.zip", costs / "office", "b")
    assert done.returncode == 2
    assert (
        f"b/net.csv:3:1: l0 on cpu × 1: differs from {costs}/office/net.csv:3:1: forward_s 0.3 instead of 0.1" in done.stderr
    )
    assert not (tmp_path / "out.zip").exists()
    assert hetsim.json("costs", "merge", "last.csv", costs / "office", "b", "--prefer", "last")["settled_points"] == 6
    assert "cpu,l0,1,0.3," in (tmp_path / "last.csv").read_text()
    done = hetsim("costs", "merge", "out.zip", costs / "office", "c")
    assert done.returncode == 2
    assert f'torch "2.0.0" instead of "{CPU["torch"]}"' in done.stderr
    assert hetsim("costs", "merge", "out", costs / "office", "c", "--allow-mismatch").returncode == 0
    assert "# mismatch accepted: cpu was measured" in (tmp_path / "out" / "net.csv").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export", "office", "taken"], "taken: is there already"),
        (["export", "office", "x.zip", "--network", "nett"], 'Did you mean "net"?'),
        (["merge", "out", "taken"], "expected two or more"),
        (["merge", "taken", "a", "b"], "taken: is there already"),
        (["merge", "out", "none.csv", "gone.zip"], "gone.zip: there is no such file"),
        (["merge", "out.csv", "two", "two"], "two has the networks net, other, and out.csv holds one"),
    ],
)
def test_export_and_merge_refuse(hetsim, costs, tmp_path, words, said):
    calibrated(tmp_path / "two")
    calibrated(tmp_path / "two", network="other")
    (tmp_path / "taken").write_text("precious")
    before = sorted(path.name for path in tmp_path.iterdir())
    done = hetsim("costs", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "taken").read_text() == "precious"


def test_every_command_of_the_group_has_two_examples_that_parse():
    group = typer.main.get_command(app).commands["costs"]
    for name, command in group.commands.items():
        examples = command.epilog.removeprefix("Examples:").split("·")
        assert len(examples) == 2, name
        for example in examples:
            program, *words = shlex.split(example)
            assert (program, words[:2]) == ("hetsim", ["costs", name])
            command.make_context(name, words[2:])
