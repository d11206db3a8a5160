"""The choice: propose, evaluate, rank, and say why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hetsim.costs import CostModel
from hetsim.memory import memory_use
from hetsim.plan import Plan
from hetsim.planner.baselines import Baseline, baselines
from hetsim.planner.bounds import lower_bound_s
from hetsim.planner.explain import explain
from hetsim.planner.gather import fullness_text, gather, overfull
from hetsim.planner.names import plan_name, strategy_of
from hetsim.planner.remedy import nothing_fits
from hetsim.planner.result import Candidate, PlanningResult, Rejection
from hetsim.scenario.types import Search
from hetsim.workload import Training

Evaluate = Callable[[Plan], float]
"""Seconds of a step of a plan."""


def search(costs: CostModel, training: Training, search: Search, evaluate: Evaluate) -> PlanningResult:
    """How to split the chain of `costs` over its cluster: candidates ranked by `evaluate`, beside the baselines.

    The solvers' best plans and the baselines of the searched strategies are evaluated, so the chosen plan is never
    worse than any of them. The same input gives the same result. Raises InfeasibleError where no plan fits, with what
    binds and the cheapest remedy; CostError where missing costs leave no plan.
    """
    found = gather(costs, training, search)
    rejections = list(found.rejections)
    evaluated = _Evaluated(costs, training, evaluate)
    named = baselines(costs, training, search)
    baseline_rows = [row for baseline in named if (row := _best_of(baseline, evaluated, rejections)) is not None]
    for proposal in found.proposals:
        evaluated(proposal.plan)
    ranked = evaluated.ranked()
    unpriceable = tuple(costs.missing(kind.name for kind in costs.cluster.used_types))
    if not ranked:
        raise nothing_fits(costs, training, search, rejections)
    bound_s = lower_bound_s(found.batch_splits, found.layer_splits, ranked[0].step_s)
    return PlanningResult(
        candidates=ranked,
        baselines=tuple(baseline_rows),
        lower_bound_s=bound_s,
        considered=found.considered + len(named),
        infeasible=tuple(rejections),
        unpriceable=unpriceable,
        explanation=explain(ranked, baseline_rows, bound_s, unpriceable, costs.cluster),
    )


class _Evaluated:
    """Plans turned into candidates, each once."""

    def __init__(self, costs: CostModel, training: Training, evaluate: Evaluate) -> None:
        self.costs = costs
        self.training = training
        self.evaluate = evaluate
        self.by_plan: dict[Plan, Candidate | None] = {}

    def __call__(self, plan: Plan) -> Candidate | None:
        """The candidate; None where it does not fit the memory."""
        if plan not in self.by_plan:
            memory = memory_use(plan, self.costs, self.training)
            fits = overfull(memory) is None
            name, strategy = plan_name(plan), strategy_of(plan)
            self.by_plan[plan] = Candidate(name, strategy, plan, self.evaluate(plan), memory) if fits else None
        return self.by_plan[plan]

    def ranked(self) -> tuple[Candidate, ...]:
        """All candidates, best first; on a tie the one with fewer devices, then with fewer microbatches."""

        def key(row: Candidate) -> tuple[float, int, int, str]:
            microbatches = sum(replica.microbatches for replica in row.plan.replicas)
            return row.step_s, len(row.plan.devices), microbatches, str(row.plan)

        return tuple(sorted((row for row in self.by_plan.values() if row is not None), key=key))


def _best_of(baseline: Baseline, evaluated: _Evaluated, rejections: list[Rejection]) -> Candidate | None:
    """The best plan of a baseline, under its name; where none fits, a rejection is noted."""
    rows = [row for plan in baseline.plans if (row := evaluated(plan)) is not None]
    if rows:
        return replace(min(rows, key=lambda row: (row.step_s, str(row.plan))), name=baseline.name)
    worst = overfull(memory_use(baseline.plans[0], evaluated.costs, evaluated.training))
    assert worst is not None, "a plan that is no candidate does not fit"
    rejections.append(Rejection(baseline.name, "memory", fullness_text(worst)))
    return None
