"""Real runs that go wrong: they end soon, say who was the cause, leave no process, and keep what was finished."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest
from executor_world import CLUSTER, chain, spec

from executor.job import RunRequest
from executor.launch import run
from executor.results import collect
from hetsim.errors import PlanError, RankError, RunError
from hetsim.plan import Plan
from hetsim.scenario.types import Measure

PIPELINE = RunRequest("the pipeline", Plan.parse("a0[0:4] > b0[4:7] 8/4; 1f1b"))
DATA_PARALLEL = RunRequest("both", Plan.parse("a0[0:7] 5/1 | b0[0:7] 3/1"))
LONG = Measure(steps=100_000, warmup_steps=2, timeout_s=4.0)


def workers(log_dir):
    """Device -> process, of all workers of the run that logs there."""
    found = {}
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if "executor.worker" in words and str(log_dir / "job.json") in words and process.status() != "zombie":
                found[words[-1]] = process
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def failed_run(requests, network, log_dir, measure=LONG, on_progress=None):
    """The error of a run, having seen that it is a RankError and that no process is left."""
    with pytest.raises(RankError) as caught:
        run(requests, network, chain(network), CLUSTER, measure=measure, log_dir=log_dir, on_progress=on_progress)
    assert not workers(log_dir)
    assert caught.value.exit_code == RunError.exit_code == 6
    return caught.value


def signalling(number, device, log_dir):
    """A progress callback that sends a signal to the worker of `device` at the third finished step."""
    sent = []

    def on_progress(progress):
        if progress.step >= 3 and not sent:
            sent.append(progress)
            workers(log_dir)[device].send_signal(number)

    return on_progress


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_run_and_is_named(tmp_path):
    on_progress = signalling(signal.SIGKILL, "b0", tmp_path)
    error = failed_run([PIPELINE, DATA_PARALLEL], spec(), tmp_path, on_progress=on_progress)
    (problem,) = error.problems
    assert problem.where.startswith("rank 1 (device b0 on host ")
    assert problem.what.startswith("was killed by SIGKILL (out of memory, perhaps), ")
    assert " in step " in problem.what
    assert problem.what.endswith("; 1 other rank ended because of it")
    assert str(tmp_path / "1-b0" / "log.txt") in problem.help
    kept = collect(tmp_path)
    assert all(len(measurement.step_s) >= 3 for measurement in kept)
    assert [measurement.plan for measurement in kept] == [PIPELINE.plan, DATA_PARALLEL.plan]


@pytest.mark.slow
def test_a_worker_that_hangs_ends_the_run_in_bounded_time_and_is_named(tmp_path):
    on_progress = signalling(signal.SIGSTOP, "a0", tmp_path)
    start = time.monotonic()
    error = failed_run([DATA_PARALLEL], spec(), tmp_path, on_progress=on_progress)
    assert time.monotonic() - start < 60
    (problem,) = error.problems
    assert problem.where.startswith("rank 0 (device a0 on host ")
    assert problem.what.startswith("was stopped: nothing has happened for 4 s, ")
    assert len(collect(tmp_path)[0].step_s) >= 3


@pytest.mark.slow
def test_a_worker_that_is_stopped_before_the_first_step_is_not_waited_for_longer(tmp_path):
    def stop_one():
        late = time.monotonic() + 60
        while not (found := workers(tmp_path)).get("a0") and time.monotonic() < late:
            time.sleep(0.05)
        found["a0"].suspend()

    stopper = threading.Thread(target=stop_one)
    stopper.start()
    start = time.monotonic()
    error = failed_run([DATA_PARALLEL], spec(), tmp_path)
    stopper.join()
    assert time.monotonic() - start < 60
    (problem,) = error.problems
    assert problem.where.startswith("rank 0 (device a0 ")
    assert problem.what.startswith("was stopped: nothing has happened for ")


@pytest.mark.slow
def test_a_layer_that_hangs_is_told_from_those_that_wait_for_it(tmp_path):
    error = failed_run([PIPELINE], spec("doomed", deed="sleep", n=30), tmp_path)
    (problem,) = error.problems
    assert problem.where.startswith("rank 1 (device b0 ")
    assert problem.what.startswith("has hung: nothing has happened for 4 s, at 1F")


@pytest.mark.slow
def test_an_exception_in_the_users_module_is_told_without_its_echoes(tmp_path):
    error = failed_run([PIPELINE], spec("doomed", deed="raise", n=30), tmp_path)
    (problem,) = error.problems
    assert problem.where.startswith("rank 1 (device b0 ")
    assert "the third weight is cursed" in problem.what
    assert " in step " in problem.what
    assert "1 other rank ended because of it" in problem.what
    log = Path(tmp_path / "1-b0" / "log.txt").read_text()
    assert "executor_world.py" in log
    assert "raise ValueError" in log


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "said"),
    [("exit", "raised SystemExit: 0, "), ("vanish", "ended with exit code 0 before its work was done, at 1F")],
)
def test_a_worker_that_leaves_in_peace_before_its_time_has_failed_too(tmp_path, deed, said):
    error = failed_run([PIPELINE], spec("doomed", deed=deed, n=30), tmp_path)
    (problem,) = error.problems
    assert problem.where.startswith("rank 1 (device b0 ")
    assert problem.what.startswith(said)


@pytest.mark.slow
def test_a_worker_whose_disk_is_full_can_still_say_so(tmp_path):
    error = failed_run([PIPELINE], spec("doomed", deed="fill the disk", n=30), tmp_path)
    (problem,) = error.problems
    assert problem.where.startswith("rank 1 (device b0 ")
    assert "about which no more could be written than OSError: [Errno 27] File too large" in problem.what


@pytest.mark.slow
def test_threads_that_the_users_code_leaves_do_not_keep_the_run_from_ending(tmp_path):
    network = spec("threaded")
    measure = Measure(steps=2, warmup_steps=2, timeout_s=4.0)
    (measured,) = run([DATA_PARALLEL], network, chain(network), CLUSTER, measure=measure, log_dir=tmp_path)
    assert len(measured.step_s) == 2
    assert not workers(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_a_coordinator_that_is_ended_leaves_nothing_behind(tmp_path, number, status):
    script = textwrap.dedent(
        f"""
        from pathlib import Path
        from executor_world import CLUSTER, chain, spec
        from test_live_faults import LONG, PIPELINE
        from executor.launch import run
        network, told = spec(), set()
        run([PIPELINE], network, chain(network), CLUSTER, measure=LONG, log_dir=Path({str(tmp_path)!r}),
            on_progress=lambda p: told.add(p) or len(told) == 1 and print("running", flush=True))
        """
    )
    path = os.pathsep.join([str(Path.cwd()), str(Path(__file__).parent)])
    coordinator = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    )
    with coordinator.stdout as output:
        assert output.readline() == "running\n"
        assert sorted(workers(tmp_path)) == ["a0", "b0"]
        coordinator.send_signal(number)
        assert coordinator.wait(20) == status
    late = time.monotonic() + (20 if number == signal.SIGKILL else 0)  # then the workers have to notice by themselves
    while workers(tmp_path) and time.monotonic() < late:
        time.sleep(0.1)
    assert not workers(tmp_path)
    assert len(collect(tmp_path)[0].step_s) >= 1


@pytest.mark.slow
def test_a_worker_that_hangs_in_the_users_code_dies_with_its_coordinator_too(tmp_path):
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells a process that its parent is gone")
    script = textwrap.dedent(
        f"""
        from pathlib import Path
        from executor_world import CLUSTER, chain, spec
        from test_live_faults import DATA_PARALLEL, LONG
        from executor.launch import run
        network = spec("doomed", deed="sleep", n=30)
        run([DATA_PARALLEL], network, chain(network), CLUSTER, measure=LONG, log_dir=Path({str(tmp_path)!r}),
            on_progress=lambda p: print("running", flush=True))
        """
    )
    path = os.pathsep.join([str(Path.cwd()), str(Path(__file__).parent)])
    coordinator = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    )
    with coordinator.stdout as output:
        assert output.readline() == "running\n"  # and soon it hangs
        time.sleep(0.5)
        coordinator.kill()
        coordinator.wait()
    late = time.monotonic() + 5
    while workers(tmp_path) and time.monotonic() < late:
        time.sleep(0.1)
    assert not workers(tmp_path)


@pytest.mark.slow
def test_workers_listen_on_the_loopback_interface_alone(tmp_path):
    class EnoughError(Exception):
        pass

    addresses = []

    def on_progress(_progress):
        for process in (psutil.Process(), *workers(tmp_path).values()):
            addresses.extend(c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN)
        raise EnoughError

    network = spec()
    with pytest.raises(EnoughError):
        run([PIPELINE], network, chain(network), CLUSTER, measure=LONG, log_dir=tmp_path, on_progress=on_progress)
    assert addresses
    assert {address.removeprefix("::ffff:") for address in addresses} <= {"127.0.0.1", "::1"}
    assert not workers(tmp_path)


def test_all_faults_of_all_plans_are_told_before_anything_starts(tmp_path):
    network = spec()
    requests = [
        RunRequest("gone", Plan.parse("z9[0:7] 8/1")),
        RunRequest("short", Plan.parse("a0[0:6] 8/1")),
        RunRequest("few", Plan.parse("a0[0:7] 7/1")),
    ]
    with pytest.raises(PlanError) as caught:
        run(requests, network, chain(network), CLUSTER, measure=LONG, log_dir=tmp_path / "never")
    assert len(caught.value.problems) == 3
    assert not (tmp_path / "never").exists()


def test_no_plan_is_an_error(tmp_path):
    network = spec()
    with pytest.raises(PlanError, match="there is no plan to run"):
        run([], network, chain(network), CLUSTER, measure=LONG, log_dir=tmp_path)
