"""The whole loop for real, on this machine's cores: two unlike devices, real process groups, small networks."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from hetsim.costs import CROWD
from hetsim.costs.files import read_cost_table
from hetsim.scenario.local import usable_cores

pytestmark = pytest.mark.slow

SCENARIO = """\
hetsim: 1
name: small
networks:
  mlp: {zoo: mlp, features: 128, width: 128, depth: 3}
training: {global_batch: 32, optimizer: adamw, learning_rate: 0.001}
cluster: {local: mixed-cpu}
search: {microbatches: [1, 4]}
measure: {steps: 4, warmup_steps: 2}
"""

OWN_NETWORK = """\
import os, signal, time
from torch import nn

class Fatal(nn.Module):
    # Behaves until the file `now` is there; then it does what it was told in one of its later steps.
    def __init__(self, how):
        super().__init__()
        self.how = how
        self.forwards = 0
    def forward(self, x):
        self.forwards += 1
        if os.path.exists("now") and self.forwards > 9:
            if self.how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "raise":
                raise RuntimeError("the roof is on fire")
            if self.how == "hang":
                time.sleep(1000)
        return x * 1

def build(how):
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), Fatal(how), nn.Linear(8, 3))
"""


def processes_of(folder):
    """Processes that were started from `folder` and still live."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line and "ps -eo" not in line]


def test_the_loop_ends_with_a_result_a_trace_and_a_report(hetsim, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)
    document = hetsim.json("validate", path, "--budget", "0.2")
    names = [case["name"] for case in document["cases"]]
    assert document["schema_version"] == 1
    assert document["scenario"] == "small"
    assert len(set(names)) == len(names)
    assert {"mlp/even batch split", "mlp/fast alone", "mlp/slow alone"} <= set(names)
    assert set(document["chosen"]) | set(document["best_measured"]) <= set(names)
    assert document["regret"] >= 0
    for case in document["cases"]:
        assert case["predicted_low_s"] <= case["predicted_step_s"] <= case["predicted_high_s"]
        assert case["measured_low_s"] <= case["measured_step_s"] <= case["measured_high_s"]
        assert case["error"] == pytest.approx(case["predicted_step_s"] / case["measured_step_s"] - 1)
        totals_s = [
            sum(row["measured_s"] for row in case["phases"] if row["device"] == device)
            for device in dict.fromkeys(row["device"] for row in case["phases"])
        ]
        assert totals_s == pytest.approx([totals_s[0]] * len(totals_s)), "the phases of each device add up to one step"
    (name,) = hetsim.runs()[:1]
    folder = tmp_path / "runs" / name
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {
        "manifest.json",
        "scenario.yaml",
        "result.json",
        "plans.json",
        "predictions.json",
        "report.html",
        "figures/comparison.png",
    } <= written
    assert json.loads((folder / "result.json").read_text()) == document
    trace = json.loads(next((folder / "traces").iterdir()).read_text())
    groups = {event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "process_name"}
    assert {group.split()[0] for group in groups} == {"predicted:", "measured:"}


def test_points_on_file_are_not_measured_again(hetsim, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)
    dry = hetsim.json("calibrate", path, "--budget", "0.1", "--dry-run")
    assert len(dry["points"]) == 7
    assert sum(point["alone"] for point in dry["points"]) == 2
    first = hetsim.json("calibrate", path, "--budget", "0.1")
    samples = tmp_path / "runs" / "costs" / "small" / "samples.jsonl"
    before = samples.read_bytes()
    assert hetsim.json("calibrate", path, "--budget", "0.1") == first
    assert samples.read_bytes() == before
    assert hetsim.json("calibrate", path, "--dry-run")["points"] == []
    points, _, probed = before[:-1].rpartition(b"\n")
    assert b'"runtime"' in probed, "the probe comes last"
    samples.write_bytes(points[: points.rindex(b"\n") + 40])  # a kill in mid-run
    again = hetsim.json("calibrate", path, "--dry-run")["points"]
    assert len(again) == 1
    hetsim.json("plan", path)
    samples.write_bytes(before.replace(b'"torch": "', b'"torch": "0.'))
    refused = hetsim("plan", path)
    assert refused.returncode == 2
    assert "was measured under other conditions: torch was 0." in refused.stderr
    assert "--allow-outdated" in refused.stderr
    for command in ("plan", "predict"):
        document = hetsim.json(command, path, "--allow-outdated")
        marked = document["networks"][0] if command == "plan" else document
        assert set(marked["outdated"]) == {
            json.loads(line)["device_type"] for line in before.splitlines() if b'"layers"' in line
        }


@pytest.mark.parametrize(("how", "said"), [("die", "SIGKILL"), ("raise", "the roof is on fire"), ("hang", "has hung")])
def test_a_rank_that_fails_ends_the_run_named_with_exit_code_6(hetsim, tmp_path, how, said):
    (tmp_path / "nets.py").write_text(OWN_NETWORK)
    path = tmp_path / "own.yaml"
    path.write_text(
        "hetsim: 1\nname: own\nnetworks:\n"
        f"  own: {{module: 'nets:build', arguments: {{how: {how}}}, input: {{shape: [8], classes: 3}}}}\n"
        "training: {global_batch: 8}\ncluster: {local: mixed-cpu}\nmeasure: {steps: 4, timeout: 10 s}\n"
    )
    good = hetsim.json("run", path, "--plan", "fast0[0:2] > slow0[2:4] 8/2")
    assert len(good["measurements"][0]["step_s"]) == 4
    (tmp_path / "now").touch()
    done = hetsim("run", path, "--plan", "fast0[0:2] > slow0[2:4] 8/2", timeout=120)
    assert done.returncode == 6, done.stderr
    assert "slow0" in done.stderr
    assert said in done.stderr
    assert "rank 0" not in done.stderr, "fast0 only echoes what befell slow0"
    (log,) = re.findall(r"Its log is (\S+);", done.stderr)
    assert Path(log).exists(), "it says where to read on"
    assert processes_of(tmp_path) == []
    assert [name for name in hetsim.runs() if name.endswith(".partial")], "what was finished is kept"


def test_the_shipped_live_scenario_runs(hetsim, scenarios):
    """Both networks of the demo, with the plan that anyone would start from."""
    path = scenarios / "mixed_cpu.yaml"
    shares = {"conv": (48, 16), "gpt": (12, 4)}
    for network, (fast, slow) in shares.items():
        plan = f"fast0[0:10] {fast}/1 | slow0[0:10] {slow}/1"
        (row,) = hetsim.json("run", path, "--network", network, "--steps", "2", "--plan", plan)["measurements"]
        assert row["plan"] == plan
        assert len(row["step_s"]) == 2
        assert all(0 < loss < 100 for loss in row["losses"])
    dry = hetsim.json("calibrate", path, "--dry-run")
    assert {point["network"] for point in dry["points"]} == set(shares)


ON_CORES = """\
hetsim: 1
name: cores
networks:
  mlp: {{zoo: mlp, features: 256, width: 512, depth: 4}}
training: {{global_batch: 64}}
cluster:
  device_types: {{a: {{backend: cpu}}, b: {{backend: cpu}}}}
  nodes: [{{name: here, devices: {{a: {{cores: [[{a}]]}}, b: {{cores: [[{b}]]}}}}, link: {{latency: 50 us, bandwidth: 2 GB/s}}}}]
search: {{microbatches: [1], strategies: [data_parallel]}}
"""


def test_devices_on_one_core_are_timed_in_turns_and_in_their_crowd(hetsim, tmp_path):
    """Timed at once, each would take twice as long as on a core of its own; the crowd takes more processor time, but not twice."""
    one, other = usable_cores()[:2]
    seconds, rows = {}, {}
    for name, core in (("shared", one), ("apart", other)):
        path = tmp_path / f"{name}.yaml"
        path.write_text(ON_CORES.format(a=one, b=core).replace("name: cores", f"name: {name}"))
        hetsim.json("calibrate", path, "--budget", "0.5")
        table = read_cost_table(tmp_path / "runs" / "costs" / name, "mlp")
        whole = [r for r in table.layers if r.microbatch == 64 and r.device_type == "b" and not r.layer.startswith("@")]
        seconds[name] = sum(row.forward_s + row.backward_s for row in whole)
        rows[name] = {r.device_type: r.forward_s / r.backward_s for r in table.layers if r.layer == CROWD}
    assert seconds["shared"] < 1.6 * seconds["apart"]
    assert rows["apart"] == {}
    assert set(rows["shared"]) == {"a", "b"}
    assert all(0.8 < ratio < 1.6 for ratio in rows["shared"].values())
    seen = {(r.operation, r.group[0]) for r in read_cost_table(tmp_path / "runs" / "costs" / "apart", "mlp").transfers}
    assert {(operation, kind) for operation in ("handle_send", "handle_receive", "begin") for kind in "ab"} <= seen
