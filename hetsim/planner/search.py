"""The choice: propose, evaluate, rank, and say why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hetsim.costs import CostModel
from hetsim.memory import memory_use
from hetsim.plan import Plan
from hetsim.planner.baselines import Baseline, baselines
from hetsim.planner.corners import corners, propose_of_one_type
from hetsim.planner.explain import explain
from hetsim.planner.gather import Effort, Family, data_parallel, fullness_text, hybrids, overfull, pipelines
from hetsim.planner.names import plan_name, strategy_of
from hetsim.planner.remedy import nothing_fits
from hetsim.planner.result import Candidate, PlanningResult, Proposal, Rejection
from hetsim.planner.watch import Watch
from hetsim.scenario.types import Search
from hetsim.workload import Training

Evaluate = Callable[[Plan], float]
"""Seconds of a step of a plan."""

SETTLED = 8
"""Of so many of the best candidates it is known what sharing links makes of their steps."""

SETTLED_ACTIONS = 10_000
"""Unless they have more forwards and backwards than that."""

ROUNDING_S = 0.5e-9
"""What rounding to whole nanoseconds can take off a duration."""


def search(
    costs: CostModel,
    training: Training,
    search: Search,
    evaluate: Evaluate,
    *,
    settle: Evaluate | None = None,
    watch: Watch | None = None,
    effort: Effort | None = None,
) -> PlanningResult:
    """How to split the chain of `costs` over its cluster: candidates ranked by their steps, beside the baselines.

    `evaluate` is quick and never above `settle`, which the best candidates are ranked by in the end; the default is the same.
    The solvers' best plans and the baselines of the searched strategies are evaluated, so the chosen plan is never worse than
    any of them. The same input gives the same result, unless `watch` ends the search before its time. Ctrl-C ends it, too, with
    the best so far. Raises InfeasibleError where no plan fits, with what binds and the cheapest remedy; CostError where missing
    costs leave no plan.
    """
    watch, effort = watch or Watch(), effort or Effort()
    evaluated = _Evaluated(costs, training, evaluate, settle or evaluate)
    rejections: list[Rejection] = []
    named = baselines(costs, training, search)
    baseline_rows = [row for baseline in named if (row := _best_of(baseline, evaluated, rejections)) is not None]
    families = _families(costs, training, search, evaluated, watch, effort)
    propose_of_one_type(costs, training, search, evaluated.take, watch)
    rejections += [rejection for family in families for rejection in family.rejections]
    ranked = evaluated.ranked(1 if watch.over else SETTLED)
    unpriceable = tuple(costs.missing(kind.name for kind in costs.cluster.used_types))
    if not ranked:
        raise nothing_fits(costs, training, search, rejections)
    bound_s = _bound_s(families, costs, ranked[0].step_s)
    baseline_rows = [replace(evaluated.known(row.plan), name=row.name) for row in baseline_rows]
    return PlanningResult(
        candidates=ranked,
        baselines=tuple(baseline_rows),
        corners=corners(ranked, costs),
        lower_bound_s=bound_s,
        considered=sum(family.considered for family in families) + len(named),
        infeasible=tuple(rejections),
        unpriceable=unpriceable,
        explanation=explain(ranked, baseline_rows, bound_s, unpriceable, costs.cluster),
        ended_early=watch.over,
    )


def _families(
    costs: CostModel, training: Training, search: Search, evaluated: _Evaluated, watch: Watch, effort: Effort
) -> list[Family]:
    """All families that are searched, in an order in which each profits from what is known."""
    families: list[Family] = []

    def best_s() -> float:
        return evaluated.best_s

    try:
        if "data_parallel" in search.strategies:
            families.append(data_parallel(costs, training, search, evaluated.take))
        if "hybrid" in search.strategies:
            families.append(Family("hybrids", 0.0))
            families[-1] = hybrids(costs, training, search, evaluated.take, best_s, watch, effort)
        if {"model_parallel", "pipeline"} & set(search.strategies):
            families.append(Family("pipelines", 0.0))
            families[-1] = pipelines(costs, training, search, evaluated.take, best_s, watch, effort)
    except KeyboardInterrupt:
        if not evaluated.ranked():
            raise
        watch.stopped = True
    return families


def _bound_s(families: list[Family], costs: CostModel, achieved_s: float) -> float:
    """Under every step of the families' plans, and not above `achieved_s`, the step of one of them.

    Bounds rest on costs as they are while all devices of a host work; where some rest, the others may compute faster.
    """
    # Start, update, forwards and backwards in up to one piece a layer, and as many exchanges.
    rounding_s = ROUNDING_S * (4 + 4 * len(costs.chain))
    bound_s = min((family.bound_s for family in families), default=0.0)
    return max(0.0, min(achieved_s, bound_s * costs.least_factor - rounding_s))


class _Evaluated:
    """Plans turned into candidates, each once."""

    def __init__(self, costs: CostModel, training: Training, evaluate: Evaluate, settle: Evaluate) -> None:
        self.costs = costs
        self.training = training
        self.evaluate = evaluate
        self.settle = settle
        self.by_plan: dict[Plan, Candidate | None] = {}
        self.settled: set[Plan] = set()
        self.best_s = float("inf")
        """The shortest step of all that are settled."""

        self.actions = 0
        """Forwards and backwards of those."""

    def __call__(self, plan: Plan) -> Candidate | None:
        """The candidate; None where it does not fit the memory."""
        if plan not in self.by_plan:
            memory = memory_use(plan, self.costs, self.training)
            fits = overfull(memory) is None
            name, strategy = plan_name(plan), strategy_of(plan)
            self.by_plan[plan] = Candidate(name, strategy, plan, self.evaluate(plan), memory) if fits else None
        return self._settled_if_best(plan)

    def take(self, proposal: Proposal) -> float:
        """Evaluate what a solver proposes: the seconds of its step, infinite where it does not fit."""
        row = self(proposal.plan)
        return row.step_s if row is not None else float("inf")

    def known(self, plan: Plan) -> Candidate:
        """A candidate that was evaluated before."""
        row = self.by_plan[plan]
        assert row is not None, "only what fits is asked for again"
        return row

    def ranked(self, settled: int = 1) -> tuple[Candidate, ...]:
        """All candidates, best first, the first `settled` of them settled.

        Beyond `SETTLED_ACTIONS` only those are settled that may be the best. On a tie the one with fewer devices, then with fewer
        microbatches, comes first.
        """

        def key(row: Candidate) -> tuple[float, int, int, str]:
            microbatches = sum(replica.microbatches for replica in row.plan.replicas)
            return row.step_s, len(row.plan.devices), microbatches, str(row.plan)

        while True:
            rows = sorted((row for row in self.by_plan.values() if row is not None), key=key)
            unsettled = [row for row in rows[:settled] if row.plan not in self.settled]
            needed = [row for row in unsettled if row.step_s < self.best_s or self.actions < SETTLED_ACTIONS]
            if not needed:
                return tuple(rows)
            self._settle(needed[0])

    def _settled_if_best(self, plan: Plan) -> Candidate | None:
        row = self.by_plan[plan]
        if row is not None and row.step_s < self.best_s and plan not in self.settled:
            self._settle(row)
        return self.by_plan[plan]

    def _settle(self, row: Candidate) -> None:
        self.settled.add(row.plan)
        self.actions += sum(2 * replica.microbatches * len(replica.stages) for replica in row.plan.replicas)
        step_s = self.settle(row.plan)
        self.by_plan[row.plan] = replace(row, step_s=step_s)
        self.best_s = min(self.best_s, step_s)


def _best_of(baseline: Baseline, evaluated: _Evaluated, rejections: list[Rejection]) -> Candidate | None:
    """The best plan of a baseline, under its name; where none fits, a rejection is noted."""
    rows = [row for plan in baseline.plans if (row := evaluated(plan)) is not None]
    if rows:
        return replace(min(rows, key=lambda row: (row.step_s, str(row.plan))), name=baseline.name)
    worst = overfull(memory_use(baseline.plans[0], evaluated.costs, evaluated.training))
    assert worst is not None, "a plan that is no candidate does not fit"
    rejections.append(Rejection(baseline.name, "memory", fullness_text(worst)))
    return None
