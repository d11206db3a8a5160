"""Who is to blame for a run that ended early, from what the workers left on disk."""

import json
import time

import pytest
from executor_world import CLUSTER, chain, spec

from executor import diagnosis
from executor.heartbeat import Heartbeat, read_beat
from executor.job import RunRequest, make_job
from hetsim.plan import Plan
from hetsim.scenario.types import Measure


@pytest.fixture(scope="module")
def numbers():
    return chain(spec())


@pytest.fixture
def job(tmp_path, numbers):
    request = RunRequest("all three", Plan.parse("a0[0:7] 4/1 | b0[0:7] 3/1 | c0[0:7] 1/1"))
    made = make_job([request], spec(), numbers, CLUSTER, measure=Measure(), seed=0, log_dir=tmp_path)
    made.save()
    return made


def beats(job, **states):
    """What each device does: a word for working, `waits` for waiting."""
    for device, state in states.items():
        heartbeat = Heartbeat(job.folder(device).heartbeat)
        heartbeat.at(0, 12)
        if state == "waits":
            heartbeat.wait("1RECV_F0")
        else:
            heartbeat.work(state)
        time.sleep(0.002)


def last_words(job, device, message, when_ns):
    extra = {"monotonic_ns": when_ns, "py_callstack": "", "timestamp": "0"}
    job.folder(device).error.write_text(json.dumps({"message": {"message": message, "extraInfo": extra}}))


def blamed(error):
    return [problem.where.split()[3] for problem in error.problems]


def test_a_beat_is_read_as_it_was_written(tmp_path):
    heartbeat = Heartbeat(tmp_path / "beat")
    assert read_beat(tmp_path / "beat") is None
    heartbeat.work("importing torch")
    first = read_beat(tmp_path / "beat")
    assert (first.request, first.step, first.waiting, first.doing) == (-1, 0, False, "importing torch")
    heartbeat.at(3, -2)
    heartbeat.wait("2RECV_B11")
    second = read_beat(tmp_path / "beat")
    assert (second.request, second.step, second.waiting, second.doing) == (3, -2, True, "2RECV_B11")
    assert first.when_ns <= second.when_ns <= time.monotonic_ns()
    assert read_beat(tmp_path / "none") is None


def test_the_first_exception_is_the_cause_and_later_ones_are_echoes(job):
    beats(job, a0="0B0", b0="0F0", c0="waits")
    last_words(job, "a0", "RuntimeError: connection closed by peer", 2_000)
    last_words(job, "b0", "ValueError: not a number", 1_000)
    last_words(job, "c0", "RuntimeError: connection closed by peer", 3_000)
    error = diagnosis.death(job, {"a0": 1, "b0": 1, "c0": 1})
    assert blamed(error) == ["b0"]
    assert error.problems[0].what == (
        "raised ValueError: not a number, at 0F0 in step 12 of all three; 2 other ranks ended because of it"
    )


def test_a_killed_worker_is_the_cause_even_if_others_had_their_say(job):
    beats(job, a0="0B0", b0="waits", c0="waits")
    last_words(job, "b0", "RuntimeError: connection closed by peer", 1_000)
    error = diagnosis.death(job, {"a0": -11, "b0": 1, "c0": None})
    assert blamed(error) == ["a0"]
    assert (
        error.problems[0].what == "was killed by SIGSEGV, at 0B0 in step 12 of all three; 1 other rank ended because of it"
    )


def test_a_worker_that_ends_without_a_word_is_told_by_its_exit_code(job):
    error = diagnosis.death(job, {"a0": None, "b0": 3, "c0": None})
    assert error.problems[0].what == "ended with exit code 3, before it had started"


def test_a_worker_that_left_before_its_time_is_the_cause_and_one_that_is_done_is_none(job):
    beats(job, a0="waits", b0="0F0", c0="0F0")
    last_words(job, "a0", "RuntimeError: connection closed by peer", 1_000)
    Heartbeat(job.folder("c0").heartbeat).finish()
    assert [diagnosis.has_failed(job, *row) for row in (("a0", 1), ("b0", 0), ("c0", 0), ("c0", None))] == [
        True,
        True,
        False,
        False,
    ]
    error = diagnosis.death(job, {"a0": 1, "b0": 0, "c0": 0})
    assert blamed(error) == ["b0"]
    assert error.problems[0].what == (
        "ended with exit code 0 before its work was done, at 0F0 in step 12 of all three; 1 other rank ended because of it"
    )


@pytest.mark.parametrize(
    ("states", "stopped", "culprits"),
    [
        ({"a0": "waits", "b0": "0F0", "c0": "waits"}, [], ["b0"]),
        ({"a0": "waits", "b0": "0F0", "c0": "waits"}, ["c0"], ["c0"]),
        ({"b0": "waits", "a0": "waits", "c0": "waits"}, [], ["b0"]),
        ({"a0": "0F0", "b0": "0B0", "c0": "waits"}, [], ["a0", "b0"]),
    ],
    ids=["the busy one", "the stopped one", "the first to fall silent", "all busy ones"],
)
def test_who_is_to_blame_for_a_hang(job, states, stopped, culprits):
    beats(job, **states)
    error = diagnosis.hang(job, stopped, 61.0)
    assert blamed(error) == culprits
    assert all("nothing has happened for 61 s" in problem.what for problem in error.problems)
