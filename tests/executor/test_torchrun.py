"""The worker under torchrun, on one node and on several that differ in size."""

import os
import socket
import subprocess
from pathlib import Path

import pytest
from executor_world import KIND, LOOPBACK, chain, from_the_start, spec

from executor.by_hand import commands, slurm_script
from executor.job import RunRequest, make_job
from executor.results import collect
from hetsim.hardware import Cluster, Device, Node
from hetsim.hardware.binding import KEEP_MEMORY
from hetsim.plan import Plan
from hetsim.scenario.types import Measure

pytestmark = pytest.mark.slow

TWO_NODES = Cluster(
    (
        Node("localhost", (Device("a0", KIND.name, "localhost"), Device("a1", KIND.name, "localhost")), LOOPBACK),
        Node("annex", (Device("b0", KIND.name, "annex"),), LOOPBACK),
    ),
    {KIND.name: KIND},
    LOOPBACK,
)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def started(words):
    """A process that does what `words`, given to a shell, would do."""
    path = os.pathsep.join([str(Path.cwd()), str(Path(__file__).parent)])
    variables = {**os.environ, "PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(words, env=variables, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("text", "nodes"),
    [("a1[0:7] 5/1 | a0[0:7] 3/1", ["localhost"]), ("b0[0:3] > a0[3:7] 6/3 | a1[0:7] 2/1; 1f1b", ["localhost", "annex"])],
)
def test_a_job_runs_under_torchrun(tmp_path, text, nodes):
    witnesses = tmp_path / "witnesses"
    witnesses.mkdir()
    network = spec("witnessed", folder=str(witnesses))
    request = RunRequest("by hand", Plan.parse(text))
    job = make_job([request], network, chain(network), TWO_NODES, measure=Measure(steps=2), seed=0, log_dir=tmp_path)
    job.save()
    lines = commands(job, port=free_port())
    assert list(lines) == nodes
    processes = [started(words) for words in lines.values()]
    outcomes = [(process.communicate(timeout=120)[1], process.returncode) for process in processes]
    assert [status for _, status in outcomes] == [0] * len(nodes), outcomes
    (measurement,) = collect(tmp_path)
    assert measurement.plan == request.plan
    assert len(measurement.step_s) == 2
    notes = [from_the_start(path) for path in witnesses.iterdir()]
    assert len(notes) == len(request.plan.devices)
    for note in notes:
        assert KEEP_MEMORY.items() <= note.items(), "the C library reads it when the process starts"


def test_too_few_devices_on_a_node_is_told_by_torchrun(tmp_path):
    network = spec()
    request = RunRequest("by hand", Plan.parse("a0[0:7] 8/1"))
    job = make_job([request], network, chain(network), TWO_NODES, measure=Measure(steps=2), seed=0, log_dir=tmp_path)
    job.save()
    words = commands(job)["localhost"]
    words[words.index("--nproc-per-node") + 1] = "2"
    process = started(words)
    assert 'the job uses 1 devices of node "localhost" (a0); start as many processes' in process.communicate(timeout=120)[1]
    assert process.returncode != 0


def test_a_slurm_script_starts_each_node_with_its_own_number_of_processes(tmp_path):
    network = spec()
    request = RunRequest("by slurm", Plan.parse("a0[0:7] 3/1 | a1[0:7] 3/1 | b0[0:7] 2/1"))
    job = make_job([request], network, chain(network), TWO_NODES, measure=Measure(steps=2), seed=0, log_dir=tmp_path)
    job.save()
    script = tmp_path / "job.sh"
    script.write_text(slurm_script(job, "tiny", commands(job, port=free_port())))
    assert "#SBATCH --nodelist=localhost,annex" in script.read_text()
    tools = tmp_path / "bin"
    tools.mkdir()
    # What srun does, on one machine: the same command once for each node, which is told its name.
    (tools / "srun").write_text(
        "#!/bin/bash\nshift\nbody=$(cat)\n"
        'for node in localhost annex; do SLURMD_NODENAME=$node "$@" -c "$body" & pids+=($!); done\n'
        "for pid in ${pids[@]}; do wait $pid || exit 1; done\n"
    )
    (tools / "srun").chmod(0o755)
    path = os.pathsep.join([str(Path.cwd()), str(Path(__file__).parent)])
    variables = {**os.environ, "PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo", "PATH": f"{tools}:{os.environ['PATH']}"}
    outcome = subprocess.run(["bash", script], env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert outcome.returncode == 0, outcome.stderr
    (measurement,) = collect(tmp_path)
    assert len(measurement.step_s) == 2
    assert set(measurement.timeline.devices) == {"a0", "a1", "b0"}
