"""The prediction of a plan: its timeline, the step with an interval, its memory, and what limits it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hetsim.conditions import USUAL, Conditions
from hetsim.costs import CostModel
from hetsim.exchange import buckets
from hetsim.memory import MemoryCurve, MemoryUse, memory_over_time, memory_use
from hetsim.plan import Plan
from hetsim.schedule import Kind, make_schedule
from hetsim.simulator.draws import draws_s
from hetsim.simulator.engine import simulated_step_s
from hetsim.simulator.milestones import milestones, step_ns
from hetsim.simulator.prices import price
from hetsim.simulator.recurrence import Solution, solve
from hetsim.simulator.symmetry import contended, play, quotient
from hetsim.simulator.wires import least_step_ns
from hetsim.timeline import Timeline
from hetsim.workload import Training

_WORDS = {
    Kind.FORWARD: "compute",
    Kind.BACKWARD: "compute",
    Kind.UPDATE: "update",
    Kind.REDUCE: "gradient exchange",
    Kind.SEND_F: "activations",
    Kind.SEND_B: "activations",
}


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the critical path."""

    what: str
    """`compute on slow0`, `gradient exchange`, …"""

    seconds: float
    share: float
    """Of the step, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one step of a plan is predicted to be."""

    plan: Plan
    timeline: Timeline
    step_s: float
    draws_s: tuple[float, ...]
    """The step under each draw of the costs' errors; those of two plans under one seed are paired."""

    memory: tuple[MemoryUse, ...]
    memory_curves: Mapping[str, MemoryCurve]
    """Device -> what it holds over the step."""

    limits: tuple[Share, ...]
    """What the critical path is made of, largest first; the shares add up to 1. Empty where nothing takes time."""

    @property
    def low_s(self) -> float:
        """5th percentile of the step."""
        return min(float(np.quantile(self.draws_s, 0.05)), self.step_s)

    @property
    def high_s(self) -> float:
        """95th percentile of the step."""
        return max(float(np.quantile(self.draws_s, 0.95)), self.step_s)

    def chance_against(self, other: Prediction) -> float:
        """In which share of the draws this plan is at least as fast as `other`, which was predicted with the same seed; 0 to 1."""
        return float(np.mean(np.array(self.draws_s) <= np.array(other.draws_s)))

    @property
    def limited_by(self) -> str:
        """The largest part of the critical path, in words; "" where nothing in the step takes time."""
        return "" if not self.limits else f"{self.limits[0].what} ({self.limits[0].share:.0%})"


def predict(
    plan: Plan,
    costs: CostModel,
    training: Training,
    *,
    seed: int = 0,
    conditions: Conditions = USUAL,
    interval: bool = True,
) -> Prediction:
    """The prediction of `plan`, by the event model; its interval by seeded draws from the spread of the costs.

    Raises PlanError where the plan does not fit the chain, the cluster or the global batch, CostError where a cost lacks.
    """
    plan.check(costs.chain, costs.cluster, training.global_batch)
    costs.require(dict.fromkeys(costs.cluster.device(name).type for name in plan.devices))
    prices = price(plan, costs)
    timeline = play(plan, costs.chain, prices, conditions.certain)
    return Prediction(
        plan,
        timeline,
        timeline.step_s,
        draws_s(plan, prices, costs, conditions, timeline.step_s, seed) if interval else (timeline.step_s,),
        memory_use(plan, costs, training),
        memory_over_time(timeline, plan, costs, training),
        limits(solve(make_schedule(plan, costs.chain), prices).happened(timeline)),
    )


def limits(solution: Solution) -> tuple[Share, ...]:
    """What the critical path of a step is made of, largest part first."""
    seconds: dict[str, float] = defaultdict(float)
    previous_ns = 0
    for node, until_ns in solution.critical_path():
        word = _WORDS.get(node.action.kind)
        if word is None:
            continue
        on_device = node.action.kind in (Kind.FORWARD, Kind.BACKWARD, Kind.UPDATE)
        # What lies between a cause and its effect (the start of the step, posting a message) counts with the effect.
        seconds[f"{word} on {node.device}" if on_device else word] += (until_ns - previous_ns) / 1e9
        previous_ns = until_ns
    total = sum(seconds.values()) or 1.0
    rows = (Share(what, part, part / total) for what, part in seconds.items())
    return tuple(sorted(rows, key=lambda row: (-row.seconds, row.what)))


def shared_step_s(plan: Plan, costs: CostModel) -> float:
    """Seconds of one step of `plan` where transfers share links and devices share cores: by the event model, where any may.

    Never below `step_s`, and the same where nothing is shared.
    """
    prices = price(plan, costs)
    resources = contended(plan, buckets(plan, costs.chain), prices)
    if not resources:
        return step_ns(plan, costs.chain, prices) / 1e9
    one = quotient(plan, prices, resources)
    return simulated_step_s(one.schedule(costs.chain), one.prices)


def least_step_s(plan: Plan, costs: CostModel) -> float:
    """Seconds that a step of `plan` takes at least, for searches: by the recurrence, or as long as its wires are in use.

    Never above `shared_step_s`, but for exchanges over parameter servers, which the recurrence lets wait for all devices.
    """
    prices = price(plan, costs)
    alone = milestones(plan, costs.chain, prices)
    # Shares are counted in floating point, so a nanosecond in a second is left to them.
    return max(alone.step_ns, least_step_ns(plan, prices, alone.begins_ns) * (1 - 1e-9)) / 1e9


def step_s(plan: Plan, costs: CostModel, slowdown: Mapping[str, float] | None = None) -> float:
    """Seconds of one step of `plan` by the closed recurrence: the quick way, for searches.

    `slowdown`: device -> what its forwards and backwards take, over what they took when the costs were measured.
    """
    scale = None if slowdown is None else lambda device, estimate: estimate.seconds * slowdown[device]
    return step_ns(plan, costs.chain, price(plan, costs, scale)) / 1e9


def busy_s(plan: Plan, costs: CostModel) -> dict[str, float]:
    """Seconds that each device computes in a step of `plan`: forwards, backwards and updates, where it shares no core."""
    prices = price(plan, costs)
    total_ns = dict.fromkeys(plan.devices, 0)
    for replica in plan.replicas:
        count = replica.microbatches
        for number, stage in enumerate(replica.stages):
            key = (stage.device, number)
            stage_ns = count * prices.compute_ns[*key, Kind.FORWARD] + prices.compute_ns[*key, Kind.UPDATE]
            stage_ns += sum(part.duration_ns for part in prices.last_backward[key])
            if count > 1:
                stage_ns += prices.first_backward_ns[key] + (count - 2) * prices.compute_ns[*key, Kind.BACKWARD]
            for device in stage.group:
                total_ns[device] += stage_ns
    return {device: total / 1e9 for device, total in total_ns.items()}
