"""Many planning problems at once, on any executor: threads, processes, or those of a whole cluster (dask's, mpi4py's)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from hetsim.costs import CostModel, CostTable
from hetsim.economics import UNPRICED, Economics
from hetsim.errors import HetsimError
from hetsim.hardware import Cluster
from hetsim.plan import Plan
from hetsim.planner.families import Effort
from hetsim.planner.result import PlanningResult
from hetsim.planner.search import search
from hetsim.planner.tariff import Tariff
from hetsim.planner.watch import Watch
from hetsim.scenario.types import Search
from hetsim.workload import Chain, Training

StepOf = Callable[[Plan, CostModel], float]
"""Seconds of a step of a plan. To be sent to another process it has to be a function of a module, such as
`hetsim.simulator.least_step_s`."""

BusyOf = Callable[[Plan, CostModel], Mapping[str, float]]
"""Seconds that each device of a plan computes; to be sent to another process, `hetsim.simulator.busy_s`."""

_ALL = Search()
_USUAL = Effort()


@dataclass(frozen=True, slots=True)
class PlanningTask:
    """One problem, as plain data that can be sent to another process."""

    name: str
    """For whoever reads the answer; need not be unique."""

    chain: Chain
    cluster: Cluster
    table: CostTable
    training: Training
    evaluate: StepOf
    """Quick, and never above `settle`; see `search`."""

    settle: StepOf
    """What the best candidates are ranked by."""

    busy_s: BusyOf | None = None
    """Seconds that each device of a plan computes; None: the objective is time alone."""

    economics: Economics = UNPRICED
    search: Search = _ALL
    effort: Effort = _USUAL
    time_limit_s: float | None = None
    """Of this one alone, from when it is begun; None: until the work that is allotted is done."""

    def answer(self) -> PlanningResult:
        """The answer, worked out here and now. Raises InfeasibleError, CostError and InputError as `search` does."""
        costs = CostModel(self.chain, self.cluster, self.table)
        return search(
            costs,
            self.training,
            self.search,
            lambda plan: self.evaluate(plan, costs),
            settle=lambda plan: self.settle(plan, costs),
            tariff=self._tariff(costs),
            watch=Watch(self.time_limit_s),
            effort=self.effort,
        )

    def _tariff(self, costs: CostModel) -> Tariff | None:
        busy_of = self.busy_s
        if busy_of is None:
            return None
        return Tariff(self.cluster, self.economics, self.training.global_batch, lambda plan: busy_of(plan, costs))


@dataclass(frozen=True, slots=True)
class PlanningOutcome:
    """What became of a task: a result, or the reason why there is none."""

    task: PlanningTask
    result: PlanningResult | None = None
    error: HetsimError | None = None
    """That nothing fits, that costs are missing: an answer like others, so that one task does not end a sweep."""


def plan_many(tasks: Iterable[PlanningTask], executor: Executor) -> Iterator[PlanningOutcome]:
    """The outcome of each task, in the order of the tasks, each as soon as it and those before it are there.

    All tasks are handed to `executor` before the first outcome is asked for, and it stays the caller's to shut down. Where the
    caller is interrupted (Ctrl-C), stops asking, or a fault that is no answer is raised, those not begun are cancelled.
    """
    futures: list[Future[PlanningOutcome]] = [executor.submit(outcome_of, task) for task in tasks]
    return _in_order(futures)


def outcome_of(task: PlanningTask) -> PlanningOutcome:
    """The outcome of one task, worked out here and now."""
    try:
        return PlanningOutcome(task, task.answer())
    except HetsimError as error:
        return PlanningOutcome(task, error=error)


def _in_order(futures: list[Future[PlanningOutcome]]) -> Iterator[PlanningOutcome]:
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()
