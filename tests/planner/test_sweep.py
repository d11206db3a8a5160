"""Sweeps: the same answers on any executor, in order, errors as values, and nothing left running for one who stops."""

import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest
from planner_cases import simple_costs

from hetsim.errors import InfeasibleError
from hetsim.planner.sweep import PlanningTask, outcome_of, plan_many
from hetsim.scenario.types import Search
from hetsim.simulator import least_step_s, shared_step_s
from hetsim.workload import Training

SPACE = Search(microbatches=(1, 2, 4))


def task(name, devices, batch=8, **options):
    costs = simple_costs({"a": [0.001, 0.002, 0.003], "b": [0.002, 0.002, 0.002]}, devices, **options)
    return PlanningTask(name, costs.chain, costs.cluster, costs.table, Training(batch), least_step_s, shared_step_s, SPACE)


TASKS = [
    task("two", ["a", "b"]),
    task("nothing fits", ["a", "b"], memory={"a": 10, "b": 10}, parameters=(1000,)),
    task("four", ["a", "b", "a", "b"], batch=12),
    task("one", ["a"], batch=3),
]


class Inline(Executor):
    """No pool at all: works out each task when it is submitted."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


EXECUTORS = {
    "none": Inline,
    "threads": lambda: ThreadPoolExecutor(3),
    "processes": lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")),
}


@pytest.mark.parametrize("kind", EXECUTORS)
def test_any_executor_gives_the_same_answers_in_order(kind):
    with EXECUTORS[kind]() as executor:
        found = list(plan_many(TASKS, executor))
    expected = [outcome_of(one) for one in TASKS]
    assert [row.task.name for row in found] == ["two", "nothing fits", "four", "one"]
    assert [row.result for row in found] == [row.result for row in expected]
    assert isinstance(found[1].error, InfeasibleError)
    assert found[1].error.problems == expected[1].error.problems
    assert all((row.result is None) != (row.error is None) for row in found)


def test_who_stops_asking_leaves_nothing_to_do():
    """The second task holds the only thread until the sweep is given up: those after it never begin."""
    gate, begun = threading.Event(), []

    class Gated(PlanningTask):
        def answer(self):
            begun.append(self.name)
            if self.name != "0":
                gate.wait(60)
            return super().answer()

    rows = [
        Gated(str(n), one.chain, one.cluster, one.table, one.training, one.evaluate, one.settle)
        for n, one in enumerate([TASKS[0]] * 5)
    ]
    with ThreadPoolExecutor(1) as pool:
        outcomes = plan_many(rows, pool)
        first = next(outcomes)
        outcomes.close()
        gate.set()
    assert first.task.name == "0"
    assert set(begun) <= {"0", "1"}


def test_an_interrupt_cancels_what_has_not_begun():
    class Interrupted(Future):
        def result(self, timeout=None):
            raise KeyboardInterrupt

    class Pool(Executor):
        def __init__(self):
            self.futures = []

        def submit(self, fn, /, *args, **kwargs):
            self.futures.append(Interrupted())
            return self.futures[-1]

    pool = Pool()
    with pytest.raises(KeyboardInterrupt):
        list(plan_many(TASKS, pool))
    assert all(future.cancelled() for future in pool.futures)


def test_faults_that_are_no_answer_are_raised():
    broken = PlanningTask("broken", None, TASKS[0].cluster, TASKS[0].table, Training(4), least_step_s, shared_step_s)
    with ThreadPoolExecutor(1) as pool, pytest.raises((AttributeError, TypeError)):
        list(plan_many([broken], pool))
