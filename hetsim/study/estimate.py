"""What a variant of a cluster comes to: each network planned anew on it, predicted, and billed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hetsim.costs import CostModel, CostTable
from hetsim.costs.transfer import with_transferred
from hetsim.economics import Bill, bill
from hetsim.errors import CostError, HetsimError, Problem
from hetsim.objective import SHORTEST_STEP
from hetsim.planner import Watch
from hetsim.planner.result import PlanningResult
from hetsim.planner.search import search
from hetsim.report.summary import summarise_devices
from hetsim.scenario.types import NetworkSpec, Scenario
from hetsim.simulator import Prediction, least_step_s, predict, shared_step_s
from hetsim.study.edits import Variant
from hetsim.workload import Chain


@dataclass(frozen=True, slots=True)
class Answer:
    """One network on one variant."""

    network: str
    weight: float
    plan: str
    prediction: Prediction
    bill: Bill
    gap: float | None
    """By how much the plan may at most miss the best possible one; None: unknown."""

    transferred: tuple[str, ...]
    """Device types that were never measured: their costs are transferred from others."""

    causes: Mapping[str, float]
    """Share of all devices' time in the step by what they do: compute, exposed communication, bubble, idle (owned, not used)."""

    @property
    def samples_per_s(self) -> float:
        """Throughput of the network alone."""
        return self.bill.samples_per_s


@dataclass(frozen=True, slots=True)
class Estimate:
    """All networks on one variant, and what they come to as a mix."""

    variant: Variant
    answers: tuple[Answer, ...]

    @property
    def seconds_per_sample(self) -> float:
        """Of the mix: the networks' weights say how many of all samples are theirs."""
        return self._mixed({a.network: 1 / a.samples_per_s for a in self.answers}) or 0.0

    @property
    def samples_per_s(self) -> float:
        """Throughput of the mix."""
        return 1 / self.seconds_per_sample

    @property
    def per_million(self) -> float | None:
        """Money for a million samples of the mix; None: unknown."""
        return self._mixed({a.network: a.bill.per_million for a in self.answers})

    @property
    def kwh_per_million(self) -> float | None:
        """Energy for a million samples of the mix; None: unknown."""
        return self._mixed({a.network: a.bill.kwh_per_million for a in self.answers})

    @property
    def draws_s(self) -> NDArray[np.float64]:
        """Seconds per sample of the mix under each draw; those of two estimates with one seed are paired."""
        total = sum(a.weight for a in self.answers)
        rows = [a.weight / total * np.array(a.prediction.draws_s) / a.bill.samples for a in self.answers]
        drawn: NDArray[np.float64] = np.sum(rows, axis=0)
        return drawn

    @property
    def bill(self) -> Bill:
        """Of a second of the mix: what an hour costs, averaged over the time that each network takes."""
        times = {a.network: a.weight / a.samples_per_s for a in self.answers}
        total_s = sum(times.values())

        def mean(values: Mapping[str, float | None]) -> float | None:
            known = {name: value for name, value in values.items() if value is not None}
            return None if len(known) < len(values) else sum(times[n] * v for n, v in known.items()) / total_s

        samples = 1_000_000
        step_s = samples * self.seconds_per_sample
        kwh = self.kwh_per_million
        return Bill(
            step_s,
            samples,
            None if kwh is None else kwh * 3.6e6,
            mean({a.network: a.bill.owning_per_h for a in self.answers}),
            mean({a.network: a.bill.electricity_per_h for a in self.answers}),
        )

    def _mixed(self, values: Mapping[str, float | None]) -> float | None:
        weights = {a.network: a.weight for a in self.answers}
        known = {name: value for name, value in values.items() if value is not None}
        if len(known) < len(values):
            return None
        return sum(weights[name] * value for name, value in known.items()) / sum(weights.values())


@dataclass(frozen=True, slots=True)
class Estimator:
    """All that is needed to estimate variants; it travels to other processes."""

    scenario: Scenario
    chains: Mapping[str, Chain]
    tables: Mapping[str, CostTable]
    """Network -> what was measured, or given."""

    time_limit_s: float | None = None
    """For the search of one network's plan; None: until it is done."""

    factors: Mapping[str, float] = field(default_factory=dict)
    """Device type -> by how much its costs are wrong, in a study of what an answer hinges on."""

    def costs(self, variant: Variant, spec: NetworkSpec) -> tuple[CostModel, tuple[str, ...]]:
        """The costs of one network on a variant, and the device types in use whose costs are transferred.

        Raises CostError where a device type can be priced in no way.
        """
        chain, cluster = self.chains[spec.name], variant.cluster
        table = with_slowed(self.tables[spec.name], variant.slowed)
        result = with_transferred(table, chain, cluster.device_types.values(), spec.training.dtype)
        wrong = {kind: (kind, factor) for kind, factor in self.factors.items()}
        model = CostModel(chain, cluster, with_slowed(result.table, wrong))
        used = [kind.name for kind in cluster.used_types]
        try:
            model.require(used)
        except CostError as error:
            mend = "Measure it; or name its entry in the catalogue, from which costs are transferred: catalogue: NAME"
            raise CostError(Problem(f"variant {variant.name}, network {spec.name}", str(error), mend)) from None
        return model, tuple(kind for kind in result.sources if kind in used)

    def plan(self, costs: CostModel, spec: NetworkSpec) -> PlanningResult:
        """The plan of the shortest step of one network: all of a cluster is paid for, used or not, whatever plans are chosen by.

        Raises InfeasibleError where none fits, KeyboardInterrupt where that ended the search.
        """
        watch = Watch(self.time_limit_s)
        found = search(
            costs,
            spec.training,
            replace(self.scenario.search, objective=SHORTEST_STEP),
            lambda plan: least_step_s(plan, costs),
            settle=lambda plan: shared_step_s(plan, costs),
            watch=watch,
        )
        if watch.stopped:
            raise KeyboardInterrupt  # two clusters, one of them planned in haste, say nothing about each other
        return found

    def estimate(self, variant: Variant, *, interval: bool = True) -> Estimate:
        """Everything about one variant; without `interval` its only draw is the prediction, which takes half the time.

        Raises CostError or InfeasibleError, with the variant's name.
        """
        return Estimate(variant, tuple(self._answer(variant, spec, interval) for spec in self.scenario.networks))

    def _answer(self, variant: Variant, spec: NetworkSpec, interval: bool) -> Answer:
        costs, transferred = self.costs(variant, spec)
        try:
            result = self.plan(costs, spec)
        except HetsimError as error:
            problems = [replace(p, where=f"variant {variant.name}, {p.where or spec.name}") for p in error.problems]
            raise type(error)(problems) from None
        plan = result.chosen.plan
        prediction = predict(
            plan,
            costs,
            spec.training,
            seed=self.scenario.seed,
            conditions=self.scenario.simulation,
            interval=interval,
        )
        return Answer(
            spec.name,
            spec.weight,
            str(plan),
            prediction,
            self._bill(variant, spec, prediction),
            result.gap,
            transferred,
            _causes(variant, prediction),
        )

    def _bill(self, variant: Variant, spec: NetworkSpec, prediction: Prediction) -> Bill:
        cluster, timeline = variant.cluster, prediction.timeline
        types = cluster.device_types
        devices = {d.name: (types[d.type].price, types[d.type].power) for d in cluster.devices}
        busy_s = {name: timeline.busy_s(name) for name in timeline.devices}
        nodes = [(node.price, node.power_w) for node in cluster.nodes]
        return bill(prediction.step_s, spec.training.global_batch, busy_s, devices, nodes, self.scenario.economics)


def with_slowed(table: CostTable, slowed: Mapping[str, tuple[str, float]]) -> CostTable:
    """`table` with rows for types that are others, so many times slower."""
    layers = [row for row in table.layers if row.device_type not in slowed]
    for kind, (base, factor) in slowed.items():
        layers += [
            replace(
                row,
                device_type=kind,
                forward_s=row.forward_s * factor,
                backward_s=row.backward_s * factor,
                update_s=row.update_s * factor,
            )
            for row in table.layers
            if row.device_type == base
        ]
    return replace(table, layers=tuple(layers)) if slowed else table


def change(old: Estimate, new: Estimate) -> tuple[float, float, float]:
    """Throughput of `new` over that of `old`, minus 1, and the ends of its 90 % interval, from paired draws."""
    ratios = old.draws_s / new.draws_s
    middle = new.samples_per_s / old.samples_per_s
    low, high = float(np.quantile(ratios, 0.05)), float(np.quantile(ratios, 0.95))
    return middle - 1, min(low, middle) - 1, max(high, middle) - 1


def hours_for(estimate: Estimate, samples: float) -> float:
    """Hours to train so many samples of the mix."""
    return samples * estimate.seconds_per_sample / 3600


def _causes(variant: Variant, prediction: Prediction) -> dict[str, float]:
    """Share of the devices' time by what they do; those that are owned and not used are idle."""
    rows = summarise_devices(prediction.timeline, prediction.plan, network="", case="", label="predicted")
    owned = len(variant.cluster.devices)
    return {
        "compute": sum(row.utilisation for row in rows) / owned,
        "exposed communication": sum(row.exposed_communication for row in rows) / owned,
        "waiting": sum(row.bubble for row in rows) / owned,
        "not used": (owned - len(rows)) / owned,
    }
