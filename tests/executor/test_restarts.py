"""Runs that torch elastic starts again: they go on from what was kept, and come to the same end."""

import signal

import psutil
import pytest
import torch
from executor_world import CLUSTER, chain, spec, state_on_disk

from executor.job import Job, RunRequest
from executor.launch import run
from hetsim.errors import RankError
from hetsim.plan import Plan
from hetsim.scenario.types import Measure
from hetsim.workload import Training

pytestmark = pytest.mark.slow

REQUESTS = [
    RunRequest("the pipeline", Plan.parse("a0[0:4] > b0[4:7] 8/4; 1f1b")),
    RunRequest("both", Plan.parse("a0[0:7] 5/1 | b0[0:7] 3/1")),
]
NETWORK = spec(training=Training(8, "sgd", learning_rate=0.1, momentum=0.9))
MEASURE = Measure(steps=60, warmup_steps=2)


def trained(folder, on_progress=None, **options):
    measurements = run(
        REQUESTS,
        NETWORK,
        chain(NETWORK),
        CLUSTER,
        measure=MEASURE,
        log_dir=folder,
        keep_parameters=True,
        on_progress=on_progress,
        **options,
    )
    job = Job.load(folder / "job.json")
    numbers = range(len(REQUESTS))
    return measurements, [state_on_disk([job.folder(device).parameters(n) for device in job.devices]) for n in numbers]


def test_a_killed_run_goes_on_and_comes_to_the_same_parameters(tmp_path):
    killed = []

    def kill_one(progress):
        if progress.step >= 25 and not killed:
            killed.append(workers_of_agents(tmp_path / "twice")["1"])
            killed[0].send_signal(signal.SIGKILL)

    whole, expected = trained(tmp_path / "once")
    again, got = trained(tmp_path / "twice", kill_one, max_restarts=1)
    assert killed
    for mine, theirs in zip(again, whole, strict=True):
        assert len(mine.step_s) == MEASURE.steps
        torch.testing.assert_close(torch.tensor(mine.losses), torch.tensor(theirs.losses))
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert not workers_of_agents(tmp_path / "twice")


def test_a_run_that_fails_once_too_often_names_who_failed(tmp_path):
    network = spec("doomed", deed="raise", n=30)
    with pytest.raises(RankError) as caught:
        run(REQUESTS[:1], network, chain(network), CLUSTER, measure=MEASURE, log_dir=tmp_path, max_restarts=1)
    (problem,) = caught.value.problems
    assert problem.where.startswith("rank 1 (device b0 ")
    assert "the third weight is cursed" in problem.what
    assert not workers_of_agents(tmp_path)


def workers_of_agents(folder):
    """Local rank -> process, of all workers that torchrun started for the job in `folder`."""
    found = {}
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if "executor.worker" in words and str(folder / "job.json") in words and process.status() != "zombie":
                found[process.environ().get("LOCAL_RANK", "agent")] = process
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found
