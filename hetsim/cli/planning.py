"""What the commands share about plans: searching them, reading them from the command line, predicting them, showing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hetsim.cli.session import Session
from hetsim.costs import CostModel
from hetsim.economics import Bill
from hetsim.errors import InfeasibleError, InputError, PlanError, Problem
from hetsim.measurement import Measurement
from hetsim.memory import check_memory
from hetsim.objective import Figure, format_figure, limit_name
from hetsim.plan import Exchange, Plan
from hetsim.planner.explain import explain
from hetsim.planner.result import Candidate, PlanningResult, figure_of
from hetsim.planner.search import search
from hetsim.planner.sensitivity import Sensitivity, sensitivities
from hetsim.planner.tariff import Tariff
from hetsim.planner.watch import Watch
from hetsim.report.rows import EVEN_SPLIT, CandidateRow
from hetsim.scenario.document import Key, read_document
from hetsim.scenario.types import NetworkSpec, Scenario
from hetsim.simulator import Prediction, busy_s, least_step_s, predict, shared_step_s, step_s

SHOWN_CANDIDATES = 8

MOST_CAREFUL = 40
"""Candidates of which the 90th percentile is worked out."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One network with its costs and the planner's answer."""

    spec: NetworkSpec
    costs: CostModel
    result: PlanningResult
    scenario: Scenario
    tariff: Tariff

    def bill(self, plan: Plan, step_s: float) -> Bill:
        """The bill of a step of `plan`, of what it uses; unknown where prices or powers are."""
        return self.tariff.bill(plan, step_s)

    def draws(self, prediction: Prediction, figure: Figure | None = None) -> NDArray[np.float64]:
        """What the plan comes to under each draw of its costs, in `figure` (None: the one that plans are chosen by).

        In a longer step everything is taken to be longer: computing takes the same share of it.
        """
        chosen = figure or self.result.objective.least
        value = figure_of(chosen, prediction.step_s, self.bill(prediction.plan, prediction.step_s))
        return value * np.array(prediction.draws_s) / (prediction.step_s or 1.0)

    def predict(self, plan: Plan) -> Prediction:
        """The prediction of `plan` for this network."""
        scenario = self.scenario
        return predict(plan, self.costs, self.spec.training, seed=scenario.seed, conditions=scenario.simulation)

    def predict_at_run_speed(self, plan: Plan, measurement: Measurement) -> float | None:
        """Seconds of a step of `plan` at the speed that its devices had while `measurement` was taken; None: unknown."""
        slowdown = {}
        for device in plan.devices:
            before_s, meanwhile_s = self.costs.canary_s(device), measurement.canary_s.get(device)
            if before_s is None or meanwhile_s is None:
                return None
            slowdown[device] = meanwhile_s / before_s
        return step_s(plan, self.costs, slowdown)


def plan_network(session: Session, spec: NetworkSpec, watch: Watch | None = None) -> Planned:
    """The planner's answer for one network, within what `watch` allows.

    Raises InfeasibleError where no plan fits, CostError where costs are missing.
    """
    costs, scenario = session.costs(spec), session.with_powers()
    tariff = Tariff(scenario.cluster, scenario.economics, spec.training.global_batch, lambda plan: busy_s(plan, costs))
    if not scenario.search.objective.is_time_alone:
        _require(tariff, scenario)
    found = search(
        costs,
        spec.training,
        scenario.search,
        lambda plan: least_step_s(plan, costs),
        settle=lambda plan: shared_step_s(plan, costs),
        tariff=tariff,
        watch=watch,
    )
    return Planned(spec, costs, found, scenario, tariff)


def _require(tariff: Tariff, scenario: Scenario) -> None:
    """Raise InputError with the place in the scenario's file of all that its objective needs and does not find there."""
    unknown = tariff.unknown(scenario.search.objective.figures)
    if not unknown:
        return
    document = read_document(scenario.path) if scenario.path else None
    nodes = [node.name for node in scenario.cluster.nodes]
    problems = []
    for row in unknown:
        keys: dict[str, tuple[Key, ...]] = {
            "economics": ("economics",),
            "device type": ("cluster", "device_types", row.name),
            "node": ("cluster", "nodes", nodes.index(row.name) if row.name in nodes else 0),
        }
        needed = f"{' and '.join(scenario.search.objective.figures)} cannot be told"
        what = f"{row.owner} {row.name}: {row.what}, so {needed}".replace(" :", ":")
        problems.append(Problem(document.where(keys[row.owner]) if document else "", what, row.help))
    raise InputError(problems)


def improvements(planned: Planned) -> tuple[Sensitivity, ...]:
    """What would make the chosen plan's step shorter, the best first."""
    return sensitivities(planned.result.chosen.plan, planned.costs, step_s)


def by_risk(planned: Planned) -> Planned:
    """The same with the best candidates ranked by the figure that each stays under nine times in ten, and held to limits by that.

    Raises InfeasibleError where none of them keeps the limits nine times in ten.
    """
    result, objective = planned.result, planned.result.objective

    def careful(row: Candidate, figure: Figure) -> float:
        return float(np.quantile(planned.draws(predictions[row.plan], figure), 0.9))

    def rank(row: Candidate) -> tuple[float, float]:
        excess = (careful(row, figure) / limit - 1 for figure, limit in objective.limits.items())
        return max((0.0, *excess)), careful(row, objective.least)

    predictions: dict[Plan, Prediction] = {}
    ranks: dict[Plan, tuple[float, float]] = {}
    for row in result.candidates[:MOST_CAREFUL]:
        # Draws seldom shorten a step in nine cases of ten, so one that is behind as it is stays behind.
        if len(ranks) >= SHOWN_CANDIDATES and row.figure(objective.least) > min(ranks.values())[1]:
            break
        predictions[row.plan] = planned.predict(row.plan)
        ranks[row.plan] = rank(row)
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
    return replace(planned, result=replace(careful_result, explanation=(*words, sentence)))


def _too_risky(planned: Planned, best: Candidate, careful: Callable[[Candidate, Figure], float]) -> InfeasibleError:
    currency = planned.tariff.economics.currency
    problems = [
        Problem(
            f"limit {limit_name(figure)}",
            f"is {format_figure(figure, limit, currency)}, and no plan keeps to it nine times in ten; "
            f'the nearest, "{best.plan}", stays under {format_figure(figure, careful(best, figure), currency)}',
            "Raise it, or choose by the middle: --risk median",
        )
        for figure, limit in planned.result.objective.limits.items()
        if careful(best, figure) > limit
    ]
    return InfeasibleError(problems)


def plans_of_user(session: Session, spec: NetworkSpec, texts: Sequence[str]) -> list[Plan]:
    """The plans that the user wrote, checked against the network, the cluster, the batch and the memory."""
    costs = session.known_costs(spec)
    plans = [Plan.parse(text) for text in texts]
    for plan in plans:
        try:
            plan.check(costs.chain, costs.cluster, spec.training.global_batch)
        except PlanError as error:
            raise _of_one_network(error, session, spec) from None
        check_memory(plan, costs, spec.training)
    return plans


def _of_one_network(error: PlanError, session: Session, spec: NetworkSpec) -> PlanError:
    """`error`, telling which network the plan does not fit where there are several; it may have been meant for another."""
    names = [network.name for network in session.scenario.networks]
    if len(names) == 1:
        return error
    others = " or ".join(f"--network {name}" for name in names if name != spec.name)
    meant = f"If it is meant for another network: {others}"
    return PlanError([Problem(f"{spec.name}, {row.where}", row.what, row.help or meant) for row in error.problems])


def to_run(result: PlanningResult) -> dict[str, Candidate]:
    """The plans worth running, by label: the chosen one, each baseline, and the best of each strategy and schedule with rings."""
    rows = {str(result.chosen.plan): result.chosen}
    for baseline in result.baselines:
        rows.setdefault(str(baseline.plan), baseline)
    best_of_kind: dict[tuple[str, str], Candidate] = {}
    for candidate in (row for row in result.candidates if row.plan.exchange == Exchange()):
        best_of_kind.setdefault((candidate.strategy, candidate.plan.schedule), candidate)
    for candidate in best_of_kind.values():
        rows.setdefault(str(candidate.plan), candidate)
    labelled: dict[str, Candidate] = {}
    for candidate in rows.values():
        label = _label(result, candidate)
        labelled[label if label not in labelled else f"{label}: {candidate.plan}"] = candidate
    return labelled


def _label(result: PlanningResult, candidate: Candidate) -> str:
    """What a plan is called in a comparison: a baseline's own name where it is one, so that the even split is always found."""
    names = [baseline.name for baseline in result.baselines if baseline.plan == candidate.plan]
    return names[0] if names else candidate.name


def candidate_rows(planned: Planned) -> list[CandidateRow]:
    """The best candidates that keep the limits as rows of a table, each with its interval."""
    even = next((b for b in planned.result.baselines if b.name == EVEN_SPLIT), None)
    within = [row for row in planned.result.candidates if row.excess(planned.result.objective) <= 0]
    predictions = [planned.predict(candidate.plan) for candidate in within[:SHOWN_CANDIDATES]]
    rows = []
    for rank, prediction in enumerate(predictions, 1):
        fullest = max(
            (use for use in prediction.memory if use.limit_bytes),
            key=lambda u: u.peak_bytes / (u.limit_bytes or 1),
            default=None,
        )
        bill = planned.bill(prediction.plan, prediction.step_s)
        rows.append(
            CandidateRow(
                network=planned.spec.name,
                rank=rank,
                plan=str(prediction.plan),
                step_s=prediction.step_s,
                low_s=prediction.low_s,
                high_s=prediction.high_s,
                vs_even=even.step_s / prediction.step_s if even and prediction.step_s else None,
                peak_memory_share=fullest.peak_bytes / fullest.limit_bytes if fullest and fullest.limit_bytes else None,
                peak_memory_device=fullest.device if fullest else "",
                limited_by=prediction.limited_by,
                chance=float(np.mean(planned.draws(prediction) <= planned.draws(predictions[0]))),
                money_per_million=bill.per_million,
                kwh_per_million=bill.kwh_per_million,
                currency=planned.tariff.economics.currency,
            )
        )
    return rows
