"""The worker under torchrun, on one node and on several that differ in size."""

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from executor_world import KIND, LOOPBACK, chain, from_the_start, spec

from executor.job import RunRequest, make_job
from executor.launch import prepare
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


def started(command):
    """A process that does what `command`, given to a shell, would do."""
    _, *words = shlex.split(command)
    path = os.pathsep.join([str(Path.cwd()), str(Path(__file__).parent)])
    variables = {**os.environ, "PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *words], env=variables, stderr=subprocess.PIPE, text=True
    )


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
    commands = prepare(job, port=free_port())
    assert list(commands) == nodes
    processes = [started(command) for command in commands.values()]
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
    command = prepare(job)["localhost"].replace("--nproc-per-node 1", "--nproc-per-node 2")
    process = started(command)
    assert 'the job uses 1 devices of node "localhost" (a0); start as many processes' in process.communicate(timeout=120)[1]
    assert process.returncode != 0
