"""What the commands share about plans: searching them, reading them from the command line, predicting them, showing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from hetsim.cli.session import Session
from hetsim.costs import CostModel
from hetsim.economics import Bill
from hetsim.errors import InputError, PlanError, Problem
from hetsim.measurement import Measurement
from hetsim.memory import check_memory
from hetsim.objective import Figure
from hetsim.plan import Exchange, Plan
from hetsim.planner.names import outline
from hetsim.planner.result import Candidate, PlanningResult, figure_of
from hetsim.planner.search import search
from hetsim.planner.sensitivity import Sensitivity, sensitivities
from hetsim.planner.tariff import Tariff
from hetsim.planner.watch import Watch
from hetsim.report.rows import EVEN_SPLIT, CandidateRow
from hetsim.scenario.document import Key, read_document
from hetsim.scenario.types import NetworkSpec, Scenario
from hetsim.simulator import Prediction, busy_s, least_step_s, predict, shared_step_s, step_s

if TYPE_CHECKING:
    import pandas as pd

SHOWN_CANDIDATES = 8

Risk = Literal["median", "p90"]


@dataclass(frozen=True, slots=True)
class Planned:
    """One network with its costs and the planner's answer."""

    spec: NetworkSpec
    costs: CostModel
    result: PlanningResult
    scenario: Scenario
    tariff: Tariff
    risk: Risk = "median"
    """What the candidates are ranked by: their figures in the middle, or those that they stay under nine times in ten."""

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

    def to_frame(self) -> pd.DataFrame:
        """One row each of the best candidates, as `plans.json` has them."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in candidate_rows(self)])

    def _repr_html_(self) -> str:
        """The same for notebooks, without what is empty."""
        frame = self.to_frame()
        told = [name for name in frame if any(value not in (None, "") for value in frame[name])]
        return str(frame[[name for name in told if name not in ("network", "plan", "currency")]].to_html(index=False))

    def predict(self, plan: Plan) -> Prediction:
        """The prediction of `plan` for this network."""
        scenario = self.scenario
        return predict(plan, self.costs, self.spec.training, seed=scenario.seed, conditions=scenario.simulation)

    def predict_at_run_speed(self, plan: Plan, measurement: Measurement) -> float | None:
        """Seconds of a step of `plan` at the speed that its devices had while `measurement` was taken; None: unknown.

        It is where devices share cores: their canaries met each other.
        """
        slowdown = {}
        for device in plan.devices:
            if self.costs.shares_core(device):
                return None
            before_s, meanwhile_s = self.costs.canary_s(device), measurement.canary_s.get(device)
            if before_s is None or meanwhile_s is None:
                return None
            slowdown[device] = meanwhile_s / before_s
        return step_s(plan, self.costs, slowdown)


def plan_network(session: Session, spec: NetworkSpec, watch: Watch | None = None) -> Planned:
    """The planner's answer for one network, within what `watch` allows.

    Raises InfeasibleError where no plan fits, CostError where costs are missing.
    """
    return planned_with(session.costs(spec), spec, session.with_powers(), watch)


def planned_with(costs: CostModel, spec: NetworkSpec, scenario: Scenario, watch: Watch | None = None) -> Planned:
    """The same with costs that are known."""
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
        needed = f"{' and '.join(f for f in scenario.search.objective.figures if f != 'time')} cannot be told"
        what = f"{row.owner} {row.name}: {row.what}, so {needed}".replace(" :", ":")
        problems.append(Problem(document.where(keys[row.owner]) if document else "", what, row.help))
    raise InputError(problems)


def improvements(planned: Planned) -> tuple[Sensitivity, ...]:
    """What would make the chosen plan's step shorter, the best first; none where the search ended early, or Ctrl-C ends this."""
    if planned.result.ended_early:
        return ()
    try:
        return sensitivities(planned.result.chosen.plan, planned.costs, step_s)
    except KeyboardInterrupt:
        return ()


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


def extrapolated(plan: Plan, costs: CostModel) -> list[str]:
    """Which layers' costs of `plan` lie beyond all that was measured: `k80-0 at 40 samples`, of devices that are alike the first.

    Those of types that were never measured are not told again.
    """
    found: dict[tuple[str, int], str] = {}
    for replica in plan.replicas:
        size, pipelined = replica.microbatch_samples, replica.is_pipelined
        for stage in replica.stages:
            width = len(stage.group)
            estimates = (
                of(stage.device, layer, size, pipelined=pipelined, tensor_parallel=width)
                for layer in stage.layers
                for of in (costs.forward, costs.backward)
            )
            if any(estimate.provenance == "extrapolated" for estimate in estimates):
                found.setdefault((costs.cluster.device(stage.device).type, size), f"{stage.device} at {size} samples")
    return list(found.values())


def _predictions(planned: Planned, plans: Sequence[Plan]) -> list[Prediction]:
    """Of each plan; Ctrl-C ends it with those there are, if there are any."""
    made: list[Prediction] = []
    for plan in plans:
        try:
            made.append(planned.predict(plan))
        except KeyboardInterrupt:
            if not made:
                raise
            break
    return made


def candidate_rows(planned: Planned) -> list[CandidateRow]:
    """The best candidates that keep the limits as rows of a table, each with its interval."""
    even = next((b for b in planned.result.baselines if b.name == EVEN_SPLIT), None)
    within = [row for row in planned.result.candidates if row.excess(planned.result.objective) <= 0]
    predictions = _predictions(planned, [candidate.plan for candidate in within[:SHOWN_CANDIDATES]])
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
                outline=outline(prediction.plan, planned.costs.cluster),
                step_s=prediction.step_s,
                low_s=prediction.low_s,
                high_s=prediction.high_s,
                p90_s=float(np.quantile(prediction.draws_s, 0.9)),
                vs_even=even.step_s / prediction.step_s if even and prediction.step_s else None,
                peak_memory_share=fullest.peak_bytes / fullest.limit_bytes if fullest and fullest.limit_bytes else None,
                peak_memory_device=fullest.device if fullest else "",
                activations_known=fullest is None or fullest.activations_known,
                extrapolated=", ".join(extrapolated(prediction.plan, planned.costs)),
                limited_by=prediction.limited_by,
                chance=float(np.mean(planned.draws(prediction) <= planned.draws(predictions[0]))),
                money_per_million=bill.per_million,
                kwh_per_million=bill.kwh_per_million,
                currency=planned.tariff.economics.currency,
            )
        )
    return rows
