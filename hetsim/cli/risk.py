"""`--risk p90`: plans by what they stay under nine times in ten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hetsim.cli.planning import SHOWN_CANDIDATES, Planned, planned_with
from hetsim.costs import CostModel, LayerCost
from hetsim.errors import InfeasibleError, Problem
from hetsim.objective import Figure, format_figure, limit_name
from hetsim.plan import Plan
from hetsim.planner import Candidate, Watch
from hetsim.planner.evaluation import rank
from hetsim.planner.explain import explain
from hetsim.simulator import Prediction, shared_step_s

MOST_CAREFUL = 64
"""Candidates of which the 90th percentile is worked out."""

OF_SPREAD = 1.2816 / 1.96
"""The 90th percentile of a normal distribution in half its 95 % interval, which is what spreads are."""


def by_risk(planned: Planned, watch: Watch | None = None) -> Planned:
    """The same with the best candidates ranked by the figure that each stays under nine times in ten, and held to limits by that.

    Beside the candidates there are, those of a search whose costs are all as high as they are one time in ten: they lean less on
    what is unsure. Raises InfeasibleError where none of all keeps the limits nine times in ten.
    """
    objective = planned.result.objective
    result = replace(planned.result, candidates=tuple(_with_careful_ones(planned, watch)))

    def careful(row: Candidate, figure: Figure) -> float:
        return float(np.quantile(planned.draws(predictions[row.plan], figure), 0.9))

    def careful_rank(row: Candidate) -> tuple[float, float]:
        excess = (careful(row, figure) / limit - 1 for figure, limit in objective.limits.items())
        return max((0.0, *excess)), careful(row, objective.least)

    predictions: dict[Plan, Prediction] = {}
    ranks: dict[Plan, tuple[float, float]] = {}
    for row in result.candidates[:MOST_CAREFUL]:
        best_excess, best_value = min(ranks.values(), default=(1.0, 0.0))
        # Nine draws of ten are hardly all shorter than the step, so one that is behind as it is stays behind.
        if len(ranks) >= SHOWN_CANDIDATES and best_excess <= 0 and row.figure(objective.least) > best_value:
            break
        predictions[row.plan] = planned.predict(row.plan)
        ranks[row.plan] = careful_rank(row)
    looked_at = result.candidates[: len(ranks)]
    best = min(looked_at, key=lambda row: ranks[row.plan])
    if ranks[best.plan][0] > 0:
        raise _too_risky(planned, best, careful)
    candidates = (*sorted(looked_at, key=lambda row: ranks[row.plan]), *result.candidates[len(ranks) :])
    after = f"before {looked_at[0].name}, which is better in the middle" if best is not looked_at[0] else "too"
    told = format_figure(objective.least, ranks[best.plan][1], planned.tariff.economics.currency)
    sentence = f"Nine times in ten {best.name} stays under {told}; by that it comes first, {after}."
    careful_result = replace(result, candidates=candidates)
    words = explain(careful_result, planned.costs.cluster, planned.tariff.economics.currency)
    return replace(planned, result=replace(careful_result, explanation=(*words, sentence)), risk="p90")


def _too_risky(planned: Planned, best: Candidate, careful: Callable[[Candidate, Figure], float]) -> InfeasibleError:
    currency = planned.tariff.economics.currency
    problems = [
        Problem(
            f"limit {limit_name(figure)}",
            f"is {format_figure(figure, limit, currency)}, and no plan that was evaluated keeps to it nine times in ten; "
            f'the nearest, "{best.plan}", stays under {format_figure(figure, careful(best, figure), currency)}',
            "Raise it, or choose by the middle: --risk median",
        )
        for figure, limit in planned.result.objective.limits.items()
        if careful(best, figure) > limit
    ]
    return InfeasibleError(problems)


def _with_careful_ones(planned: Planned, watch: Watch | None) -> list[Candidate]:
    """The candidates with those of the search with high costs, best first as they are in the middle."""
    costs = planned.costs
    table = replace(costs.table, layers=tuple(map(_high, costs.table.layers)))
    found = list(planned.result.candidates)
    try:
        careful = planned_with(CostModel(costs.chain, costs.cluster, table), planned.spec, planned.scenario, watch)
    except (InfeasibleError, KeyboardInterrupt):
        return found
    known = {row.plan for row in found}
    for row in careful.result.candidates[:SHOWN_CANDIDATES]:
        if row.plan not in known:
            step_s = shared_step_s(row.plan, costs)
            bill = planned.bill(row.plan, step_s) if row.bill is not None else None
            found.append(replace(row, step_s=step_s, bill=bill))
    return sorted(found, key=lambda row: rank(row, planned.result.objective))


def _high(row: LayerCost) -> LayerCost:
    """The costs of a layer as they are exceeded one time in ten."""
    factor = 1 + OF_SPREAD * row.spread
    return replace(row, forward_s=factor * row.forward_s, backward_s=factor * row.backward_s)
