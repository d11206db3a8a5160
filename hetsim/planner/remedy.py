"""When nothing fits or keeps the limits: what binds, by how much, and the cheapest way out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hetsim.costs import CostModel
from hetsim.errors import InfeasibleError, Problem
from hetsim.memory import MemoryUse, memory_use
from hetsim.objective import Figure, Objective, format_figure, limit_name
from hetsim.plan import PLAIN_SCHEDULES, Plan
from hetsim.planner.families import Effort, fullness_text, overfull
from hetsim.planner.hybrids import hybrids
from hetsim.planner.plain_families import data_parallel, groups_alone, pipelines
from hetsim.planner.result import Candidate, Proposal, Rejection
from hetsim.planner.watch import Watch
from hetsim.scenario.types import STRATEGIES, Search
from hetsim.units import format_bytes
from hetsim.workload import Training

PRECISION = 1.02
"""How near the least memory that would do is looked for, as a factor."""


def nothing_fits(costs: CostModel, training: Training, search: Search, rejections: list[Rejection]) -> InfeasibleError:
    """The error that says that no plan of `search` fits: the binding limit with its numbers, and the cheapest remedy.

    A wider search costs nothing and is tried first; then the least additional memory is looked for.
    Raises CostError where it is for want of costs that no plan is found.
    """
    nearest = _nearest(costs, training, search)
    if nearest is None:
        costs.require(kind.name for kind in costs.cluster.used_types)
        problems = [Problem(row.what, row.detail) for row in rejections if row.reason != "memory"]
        wider = _wider_help(costs, training, search)
        return InfeasibleError([*problems, Problem("", "no plan is possible", wider or "Add devices or strategies")])
    wider = _wider_help(costs, training, search)
    uses = memory_use(nearest, costs, training)
    worst = overfull(uses)
    assert worst is not None, "a plan that fits would have been found"
    what = f'no plan of the searched strategies fits the memory; of the nearest, "{nearest}", {fullness_text(worst)}'
    return InfeasibleError(Problem("", what, wider or f"Take devices with more memory: {_more_memory(uses, costs)}"))


def _more_memory(uses: Sequence[MemoryUse], costs: CostModel) -> str:
    """What devices of each type lack, those of one type together: with all of it the plan fits."""
    lacking: dict[str, int] = {}
    for use in uses:
        if not use.fits:
            kind = costs.cluster.type_of(use.device).name
            lacking[kind] = max(lacking.get(kind, 0), use.peak_bytes - (use.limit_bytes or 0))
    # From 1 KiB on three digits are written, which may be half a per cent less.
    written = {kind: more if more < 1024 else math.ceil(more * 1.005) for kind, more in lacking.items()}
    return " and ".join(f"{kind} with {format_bytes(more)} more" for kind, more in written.items())


def beyond_limits(
    ranked: Sequence[Candidate], objective: Objective, possible: Mapping[Figure, float], *, proven: bool, currency: str
) -> InfeasibleError:
    """The error that says that none of `ranked`, the nearest first, keeps the limits: by how much, and what limits it would keep.

    `possible`: what no plan is under, by figure. `proven`: whether no other plan can keep all of them either.
    """

    def told(figure: Figure, value: float) -> str:
        return format_figure(figure, value, currency)

    problems = []
    for figure, limit in objective.limits.items():
        if (least := possible.get(figure, 0.0)) > limit:
            what = f"the limit is {told(figure, limit)}, and no plan is under {told(figure, least)}"
            problems.append(Problem(f"limit {limit_name(figure)}", what))
    nearest = ranked[0]
    missed = [figure for figure, limit in objective.limits.items() if nearest.figure(figure) > limit]
    figures = " and ".join(told(figure, nearest.figure(figure)) for figure in missed)
    every = " and ".join(told(figure, limit) for figure, limit in objective.limits.items())
    none = "no plan can keep" if proven else f"none of the {len(ranked)} plans that were evaluated keeps"
    raised = " and ".join(f"{limit_name(figure)} to {_raised(figure, nearest.figure(figure))}" for figure in missed)
    what = f'{none} to {every}; the nearest, "{nearest.plan}", comes to {figures}'
    return InfeasibleError([*problems, Problem("limits", what, f"Raise {raised}")])


def _raised(figure: Figure, value: float) -> str:
    """`value` as a limit that it keeps: rounded up."""
    digits = 10 ** (3 - math.floor(math.log10(value))) if value > 0 else 1
    rounded = math.ceil(value * digits) / digits
    return f"{rounded:.4g} s" if figure == "time" else f"{rounded:.4g}"


def _wider_help(costs: CostModel, training: Training, search: Search) -> str | None:
    """The smallest widening of the search under which a plan fits, in words; None where there is none."""
    batch = training.global_batch
    divisors = [m for m in range(2, batch + 1) if batch % m == 0 and m not in search.microbatches]
    every = replace(search, strategies=STRATEGIES, schedules=PLAIN_SCHEDULES)
    for space, words in ((search, []), (every, ["all strategies and schedules"])):
        if words and (plan := fitting(costs, training, space)):
            return _help_text(words, plan)
        # Where not even microbatches of one sample fit, larger ones do not either.
        if not divisors or fitting(costs, training, replace(space, microbatches=(batch,))) is None:
            continue
        for count in divisors:
            if plan := fitting(costs, training, replace(space, microbatches=(count,))):
                return _help_text([*words, f"{count} microbatches"], plan)
    return None


def _help_text(words: list[str], plan: Plan) -> str:
    return f'Let the search use {" and ".join(words)}: then "{plan}" fits'


def fitting(costs: CostModel, training: Training, search: Search) -> Plan | None:
    """Some plan of `search` that fits the memory; None where there is none."""
    found: list[Plan] = []
    watch = Watch()

    def take(proposal: Proposal) -> float:
        if overfull(memory_use(proposal.plan, costs, training)) is None:
            found.append(proposal.plan)
            watch.stopped = True
        return proposal.objective_s

    if "data_parallel" in search.strategies:
        data_parallel(costs, training, search, take)
    every = Effort(pipelines=2000, replicas=500)
    if not found and {"model_parallel", "pipeline"} & set(search.strategies):
        groups_alone(costs, training, search, take)
    if not found and {"model_parallel", "pipeline"} & set(search.strategies):
        pipelines(costs, training, search, take, lambda: float("inf"), watch, every)
    if not found and "hybrid" in search.strategies:
        hybrids(costs, training, search, take, lambda: float("inf"), watch, every)
    return found[0] if found else None


def _nearest(costs: CostModel, training: Training, search: Search) -> Plan | None:
    """The best plan if every device had just so many times its memory that one fits; None where memory is not what binds."""

    def plan_at(factor: float) -> Plan | None:
        return fitting(_with_memory(costs, factor), training, search)

    best = plan_at(float("inf"))
    if best is None:
        return None
    low = high = 1.0
    while (plan := plan_at(high)) is None:
        low, high = high, 2 * high
        if high > 1e6:  # a device without any memory: no factor helps
            return best
    best = plan
    while high / low > PRECISION:
        middle = (low * high) ** 0.5
        plan = plan_at(middle)
        low, high, best = (middle, high, best) if plan is None else (low, middle, plan)
    return best


def _with_memory(costs: CostModel, factor: float) -> CostModel:
    """The same costs on devices with `factor` times the memory; infinite: not limited."""

    def scaled(limit_bytes: int | None) -> int | None:
        return None if limit_bytes is None or factor == float("inf") else int(limit_bytes * factor)

    types = {
        name: replace(kind, memory_bytes=scaled(kind.memory_bytes)) for name, kind in costs.cluster.device_types.items()
    }
    return CostModel(costs.chain, replace(costs.cluster, device_types=types), costs.table)
