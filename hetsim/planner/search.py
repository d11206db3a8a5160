"""The choice: propose, evaluate, rank, and say why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hetsim.costs import CostModel
from hetsim.errors import InfeasibleError, InputError
from hetsim.memory import memory_use
from hetsim.objective import Figure, Objective
from hetsim.planner.baselines import Baseline, baselines
from hetsim.planner.corners import corners, propose_of_one_type
from hetsim.planner.device_sets import SetSearch
from hetsim.planner.evaluation import SETTLED, Evaluate, Evaluations, Race, rank
from hetsim.planner.explain import explain
from hetsim.planner.families import Effort, Family, fullness_text, overfull
from hetsim.planner.remedy import beyond_limits, fitting, nothing_fits
from hetsim.planner.result import Candidate, PlanningResult, Rejection
from hetsim.planner.spending_floor import least_step_s
from hetsim.planner.step_search import search_steps
from hetsim.planner.tariff import Tariff
from hetsim.planner.variants import Variants
from hetsim.planner.watch import Watch
from hetsim.planner.work_floor import work_floor
from hetsim.scenario.types import Search
from hetsim.workload import Training

ROUNDING = 1e-9
"""Relative: of sums of costs in another order."""


def search(
    costs: CostModel,
    training: Training,
    search: Search,
    evaluate: Evaluate,
    *,
    settle: Evaluate | None = None,
    tariff: Tariff | None = None,
    watch: Watch | None = None,
    effort: Effort | None = None,
) -> PlanningResult:
    """How to split the chain of `costs` over its cluster: candidates ranked by the search's objective, beside the baselines.

    `evaluate` is quick and never above `settle`, which the best candidates are ranked by in the end; the default is the same.
    The solvers' best plans and the baselines of the searched strategies are evaluated, so the chosen plan is never worse than
    any of them. `tariff`: needed where the objective is not time alone. The same input gives the same result, unless `watch` ends
    the search before its time. Ctrl-C ends it, too, with the best so far. Raises InfeasibleError where no plan fits or keeps the
    limits, with what binds and the cheapest remedy; CostError where missing costs leave no plan; InputError where the objective
    needs prices or powers that are unknown.
    """
    watch, effort, objective = watch or Watch(), effort or Effort(), search.objective
    paid = _checked(tariff, search)
    evaluations = Evaluations(costs, training, evaluate, settle or evaluate, objective, paid)
    race = Race(evaluations)
    rejections: list[Rejection] = []
    named = baselines(costs, training, search)
    baseline_rows = [row for baseline in named if (row := _best_of(baseline, evaluations, race, rejections)) is not None]
    steps = search_steps(costs, training, search, race, watch, effort)
    propose_of_one_type(costs, training, search, race, watch)
    bound_s = _bound_of_all_s(steps.bound_s, costs, training, search)
    sets = None
    if paid is not None and race.best_s < float("inf"):
        sets = SetSearch(costs, training, search, paid, evaluations, watch, effort)
        sets.run(bound_s)
    bound = sets.bound if sets is not None else bound_s
    families = [*steps.families, *_of_sets(sets), *_of_variants(costs, search, evaluations, watch)]
    rejections += [rejection for family in families for rejection in family.rejections]
    ranked = _ranked(evaluations, search, watch, rejections)
    currency = paid.economics.currency if paid else ""
    if ranked[0].excess(objective) > 0:
        raise _none_keeps_the_limits(ranked, objective, sets, bound, bound_s, currency)
    result = PlanningResult(
        candidates=ranked,
        baselines=tuple(replace(evaluations.known(row.plan), name=row.name) for row in baseline_rows),
        corners=corners(ranked, costs),
        objective=objective,
        lower_bound=_rounded(bound, ranked[0].figure(objective.least)),
        lower_bound_s=_rounded(bound_s, min(row.step_s for row in ranked)),
        plain_bound_s=steps.bound_s if search.has_variants else None,
        considered=sum(family.considered for family in families) + len(named),
        ruled_out=sum(family.ruled_out for family in families),
        left_open=sum(family.left_open for family in families),
        evaluated=evaluations.evaluated,
        unsearched=tuple(family.unsearched for family in families if family.unsearched),
        infeasible=tuple(rejections),
        unpriceable=tuple(costs.missing(kind.name for kind in costs.cluster.used_types)),
        ended_early=watch.over,
    )
    return replace(result, explanation=explain(result, costs.cluster, currency))


def _ranked(evaluations: Evaluations, search: Search, watch: Watch, rejections: list[Rejection]) -> tuple[Candidate, ...]:
    """The candidates, best first; where time was over before there was one, some plan that fits.

    Raises InfeasibleError where none fits, KeyboardInterrupt where Ctrl-C ended the search before there was one.
    """
    costs, training = evaluations.costs, evaluations.training
    if found := evaluations.ranked(1 if watch.over else SETTLED):
        return found
    if watch.stopped:
        raise KeyboardInterrupt
    plan = fitting(costs, training, search) if watch.over else None
    if plan is None:
        raise nothing_fits(costs, training, search, rejections)
    evaluations.candidate(plan)
    return evaluations.ranked()


def _rounded(bound: float, best: float) -> float:
    """`bound`, which is no more than `best` but for the rounding of sums, without that: only a wrong bound is above `best`."""
    return best if best < bound <= best * (1 + ROUNDING) else bound


def _bound_of_all_s(plain_s: float, costs: CostModel, training: Training, search: Search) -> float:
    """Under every step of all that is searched: of plain plans it is `plain_s`; of variants only the work is known, and so it is
    where the search was ended before it had a bound."""
    if plain_s and not search.has_variants:
        return plain_s
    return min(plain_s or float("inf"), least_step_s(work_floor(costs, training.global_batch), costs.cluster))


def _none_keeps_the_limits(
    ranked: Sequence[Candidate], objective: Objective, sets: SetSearch | None, bound: float, bound_s: float, currency: str
) -> InfeasibleError:
    """What to raise where even the best of `ranked` is beyond the limits: with what is possible in each figure."""
    possible: dict[Figure, float] = {"time": bound_s}
    if sets is not None:
        possible |= {figure: sets.least(figure) for figure in objective.limits if figure != "time"}
    proven = bound == float("inf") or (objective.step_s is not None and objective.step_s < bound_s)
    return beyond_limits(ranked, objective, possible, proven=proven, currency=currency)


def _checked(tariff: Tariff | None, search: Search) -> Tariff | None:
    """The tariff, which knows all that the objective needs; None where it needs none."""
    if search.objective.is_time_alone:
        return None
    if tariff is None:
        raise InputError(f"plans are to be chosen by {search.objective.least}, and nothing is said of prices and power")
    tariff.require(search.objective.figures)
    return tariff


def _of_variants(costs: CostModel, search: Search, evaluations: Evaluations, watch: Watch) -> list[Family]:
    """The variants of good plans, which are tried, as a family; none where none are searched."""
    if not search.has_variants or evaluations.best_known is None:
        return []
    tried = Variants(costs, search, evaluations, watch).run()
    return [Family("variants", 0.0, tried, tried)]


def _of_sets(sets: SetSearch | None) -> list[Family]:
    """The sets of devices, as a family beside those of plans; none where none were searched."""
    if sets is None:
        return []
    rejections = []
    if sets.impossible:
        detail = "no plan on them keeps the limits"
        rejections.append(Rejection("sets of devices", "limits", detail, sets.impossible))
    return [Family("sets of devices", sets.bound, sets.considered, sets.solved, rejections, sets.left_open)]


def _best_of(baseline: Baseline, evaluations: Evaluations, race: Race, rejections: list[Rejection]) -> Candidate | None:
    """The best plan of a baseline, under its name; where none fits, a rejection is noted."""
    rows = [row for plan in baseline.plans if (row := race.see(plan)) is not None]
    if rows:
        return replace(min(rows, key=lambda row: rank(row, evaluations.objective)), name=baseline.name)
    worst = overfull(memory_use(baseline.plans[0], evaluations.costs, evaluations.training))
    assert worst is not None, "a plan that is no candidate does not fit"
    rejections.append(Rejection(baseline.name, "memory", fullness_text(worst)))
    return None
