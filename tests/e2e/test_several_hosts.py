"""Several hosts, as network namespaces of this machine whose links `tc tbf` limits: calibrated, planned and run across."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.namespaces import BURST_BYTES, Hosts, ip, may_make_namespaces
from executor.results import collect
from hetsim.units import parse_bytes_per_s

ROOT = Path(__file__).parents[2]


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not may_make_namespaces(), reason="needs root, ip and tc"),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores"),
]


def scenario(hosts, devices, network="10 MB/s", **more):
    return f"""\
hetsim: 1
name: hosts
networks:
  net: {{zoo: mlp, features: 64, width: 256, depth: 3, {", ".join(f"{k}: {v}" for k, v in more.items())}}}
training: {{global_batch: 64, optimizer: sgd, learning_rate: 0.05, momentum: 0.9}}
cluster:
  device_types: {{full: {{backend: cpu}}, capped: {{backend: cpu, isa: sse4.2}}}}
  nodes:
{hosts.nodes(devices)}
  network: {{latency: 100 us, bandwidth: {network}}}
search: {{microbatches: [1, 4]}}
measure: {{steps: 5, warmup_steps: 2, timeout: 30 s}}
"""


TWO = ("{full: {cores: [[0]]}}", "{capped: {cores: [[1]]}}")


def test_a_slower_link_is_measured_as_such_and_planned_for(tmp_path):
    """The gradients of 0.9 MB take 8 ms over 1 Gbit/s and 70 ms over 100 Mbit/s: then one device trains alone."""
    chosen, seconds = {}, {}
    for rate in ("1gbit", "100mbit"):
        folder = tmp_path / rate
        folder.mkdir()
        with Hosts([rate, rate]) as hosts:
            (folder / "s.yaml").write_text(scenario(hosts, TWO))
            done = hosts.hetsim(folder, "calibrate", "s.yaml", "--budget", "0.5", "-q")
            assert done.returncode == 0, done.stderr
            done = hosts.hetsim(
                folder, "predict", "s.yaml", "--plan", "full0[0:4] 32/1 | capped0[0:4] 32/1", "--format", "json"
            )
            assert done.returncode == 0, done.stderr
            seconds[rate] = json.loads(done.stdout)["predictions"][0]["predicted_step_s"]
            plan = hosts.hetsim(folder, "plan", "s.yaml", "--format", "json", "-q")
            found = json.loads(plan.stdout)["networks"][0]
            chosen[rate] = found["chosen"]
            # Which of the two is the faster alone depends on the processor.
            alone = {row["plan"]: row["step_s"] for row in found["baselines"] if row["name"].endswith(" alone")}
            rows = (folder / "runs" / "costs" / "hosts" / "transfers.csv").read_text().splitlines()
        # In an all-reduce of two, each sends as much as there is, which the wire has to carry, less what tbf lets through at once.
        operation, _, size_bytes, measured_s, *_ = max(
            (row.split(",") for row in rows if row.startswith("all_reduce,")), key=lambda row: int(row[2])
        )
        bytes_per_s = parse_bytes_per_s({"1gbit": "1 Gbit/s", "100mbit": "100 Mbit/s"}[rate])
        assert int(size_bytes) > 4 * BURST_BYTES
        assert float(measured_s) > (int(size_bytes) - 2 * BURST_BYTES) / bytes_per_s, operation
    assert seconds["100mbit"] > 2 * seconds["1gbit"]
    assert sorted(alone) == ["capped0[0:4] 64/1", "full0[0:4] 64/1"]
    assert chosen["100mbit"] == min(alone, key=alone.get)


def test_three_hosts_with_different_numbers_of_processes_train_by_printed_commands(tmp_path):
    """By the very lines that are printed for them; the folder is shared here, and the first host has all records."""
    devices = ("{full: {cores: [[0], [1]]}}", "{capped: {cores: [[1]]}}", "{full: {cores: [[0]]}}")
    plan = "full0[0:2] > full1[2:4] 32/4 | capped0[0:4] 8/1 | full2[0:4] 24/2; 1f1b"
    with Hosts(["1gbit", "200mbit", "500mbit"]) as hosts:
        (tmp_path / "s.yaml").write_text(scenario(hosts, devices))
        printed = hosts.hetsim(tmp_path, "run", "s.yaml", "--plan", plan, "--print-commands", "--format", "json")
        assert printed.returncode == 0, printed.stderr
        (start,) = json.loads(printed.stdout)["starts"]
        assert list(start["commands"]) == ["a", "b", "c"]
        inside = dict(zip("abc", hosts.names, strict=True))
        processes = [
            subprocess.Popen(["ip", "netns", "exec", inside[node], *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
            for node, words in start["commands"].items()
        ]
        for process in processes:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said
        done = hosts.hetsim(tmp_path, "run", "s.yaml", "--collect", Path(start["job"]).parents[2], "--format", "json")
        assert done.returncode == 0, done.stderr
        direct = hosts.hetsim(tmp_path, "run", "s.yaml", "--plan", plan, "--format", "json", "-q")
        assert direct.returncode == 0, direct.stderr
    (by_hand,), (by_us,) = (json.loads(done.stdout)["measurements"] for done in (done, direct))
    assert by_hand["plan"] == by_us["plan"]
    assert by_hand["losses"] == pytest.approx(by_us["losses"], rel=1e-4), "however it is started, it trains the same"
    assert len(by_hand["step_s"]) == 5
    assert {row[0] for row in by_hand["timeline"]} == {"full0", "full1", "capped0", "full2"}


def test_a_host_that_cannot_be_reached_ends_the_run_and_is_named(tmp_path):
    with Hosts(["1gbit", "1gbit"]) as hosts:
        (tmp_path / "s.yaml").write_text(scenario(hosts, TWO))
        ip("-n", hosts.names[1], "link", "set", "eth0", "down")
        done = hosts.hetsim(tmp_path, "run", "s.yaml", "--plan", "full0[0:4] 32/1 | capped0[0:4] 32/1", "-q", timeout=120)
    assert done.returncode == 6
    assert f"on host {hosts.addresses[1]}" in done.stderr
    assert "cannot reach" in done.stderr


def test_ssh_is_given_a_command_that_a_shell_understands(tmp_path):
    """The other host's side of ssh is played by a script that runs the command in the namespace, with nothing else passed on."""
    tools = tmp_path / "bin"
    tools.mkdir()
    with Hosts(["1gbit", "1gbit"]) as hosts:
        text = scenario(hosts, TWO).replace(f"netns: {hosts.names[1]}", "ssh: somebody@there")
        folder = tmp_path / "a folder"
        folder.mkdir()
        (folder / "s.yaml").write_text(text)
        (tools / "ssh").write_text(
            "#!/bin/bash\n"
            f'printf "%s\\n" "${{@: -2:1}}" >> {tools}/asked\n'
            f'exec ip netns exec {hosts.names[1]} env -i PATH=/usr/bin:/bin HOME=/root bash -c "${{@: -1}}"\n'
        )
        (tools / "ssh").chmod(0o755)
        command = ["ip", "netns", "exec", hosts.names[0], sys.executable, "-m", "hetsim", "run", "s.yaml", "-q"]
        variables = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        plan = ["--plan", "full0[0:4] 48/1 | capped0[0:4] 16/1"]
        done = subprocess.run(
            [*command, *plan], cwd=folder, env=variables, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        assert set((tools / "asked").read_text().split()) == {"somebody@there"}
    (run,) = (folder / "runs").glob("*-hosts-*")
    (measurement,) = collect(run / "logs" / "net")
    assert len(measurement.step_s) == 5
