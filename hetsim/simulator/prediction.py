"""The prediction of a plan: its timeline, the step with an interval, its memory, and what limits it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hetsim.costs import CostModel, Estimate
from hetsim.memory import MemoryUse, memory_use
from hetsim.plan import Plan
from hetsim.schedule import Kind, Schedule, make_schedule
from hetsim.simulator.engine import simulate
from hetsim.simulator.prices import price
from hetsim.simulator.recurrence import solve, step_ns
from hetsim.timeline import Timeline
from hetsim.workload import Training

INTERVAL_DRAWS = 200
"""Draws behind the 90 % interval; its ends then wander by about a tenth of its width."""

MODEL_SPREAD = 0.06
"""Half the 95 % interval of what a device's measured times miss in a real plan (colder caches, busier neighbours), relative to
them. It is what docs/accuracy.md shows; a table that was written by hand is taken at its word."""

DRIFT_SPREAD = 0.10
"""The same of how far a host's speed moves from the calibration to the run, for all its devices together."""

Draw = Mapping[str, float]
"""Device -> a standard normal number."""

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
    low_s: float
    """5th percentile of the step."""

    high_s: float
    """95th percentile of the step."""

    memory: tuple[MemoryUse, ...]
    limits: tuple[Share, ...]
    """What the critical path is made of, largest first; the shares add up to 1."""

    @property
    def limited_by(self) -> str:
        """The largest part of the critical path, in words."""
        return f"{self.limits[0].what} ({self.limits[0].share:.0%})"


def predict(plan: Plan, costs: CostModel, training: Training, *, seed: int = 0) -> Prediction:
    """The prediction of `plan`, by the event model; its interval by seeded draws from the spread of the costs.

    Raises PlanError where the plan does not fit the chain, the cluster or the global batch, CostError where a cost lacks.
    """
    plan.check(costs.chain, costs.cluster, training.global_batch)
    costs.require(dict.fromkeys(costs.cluster.device(name).type for name in plan.devices))
    schedule = make_schedule(plan, costs.chain)
    timeline = simulate(schedule, price(schedule, costs))
    low_s, high_s = _interval(schedule, costs, timeline.step_s, seed)
    memory = memory_use(plan, costs, training, schedule)
    return Prediction(plan, timeline, timeline.step_s, low_s, high_s, memory, limits(schedule, costs))


def limits(schedule: Schedule, costs: CostModel) -> tuple[Share, ...]:
    """What the critical path of `schedule` is made of, largest part first."""
    solution = solve(schedule, price(schedule, costs))
    seconds: dict[str, float] = defaultdict(float)
    previous_ns = 0
    for node in solution.critical_path():
        word = _WORDS.get(node.action.kind)
        if word is None:
            continue
        on_device = node.action.kind in (Kind.FORWARD, Kind.BACKWARD, Kind.UPDATE)
        # What lies between a cause and its effect (the start of the step, posting a message) counts with the effect.
        seconds[f"{word} on {node.device}" if on_device else word] += (solution.end_ns[node] - previous_ns) / 1e9
        previous_ns = solution.end_ns[node]
    total = sum(seconds.values()) or 1.0
    rows = (Share(what, part, part / total) for what, part in seconds.items())
    return tuple(sorted(rows, key=lambda row: (-row.seconds, row.what)))


def _interval(schedule: Schedule, costs: CostModel, step_s: float, seed: int) -> tuple[float, float]:
    """5th and 95th percentile of the step when every cost is drawn from its spread.

    A spread is half a 95 % interval, so 1.96 standard deviations. Errors of one device are taken as common to all its layers, which
    is the wider assumption, and the drift as common to all devices of a node.
    """
    random = np.random.default_rng(seed)
    steps = []
    for _ in range(INTERVAL_DRAWS):
        own = {device: float(random.standard_normal()) for device in sorted(schedule.actions)}
        common = {node.name: float(random.standard_normal()) for node in costs.cluster.nodes}
        drift = {device: common[costs.cluster.device(device).node] for device in own}

        def drawn(device: str, estimate: Estimate, own: Draw = own, drift: Draw = drift) -> float:
            if estimate.provenance == "specified":
                return estimate.seconds * max(0.1, 1 + own[device] * estimate.spread / 1.96)
            error = own[device] * math.hypot(estimate.spread, MODEL_SPREAD) + drift[device] * DRIFT_SPREAD
            return estimate.seconds * max(0.1, 1 + error / 1.96)

        steps.append(step_ns(schedule, price(schedule, costs, drawn)) / 1e9)
    low_s, high_s = np.quantile(steps, [0.05, 0.95])
    return min(float(low_s), step_s), max(float(high_s), step_s)


def step_s(plan: Plan, costs: CostModel, slowdown: Mapping[str, float] | None = None) -> float:
    """Seconds of one step of `plan` by the closed recurrence: the quick way, for searches.

    `slowdown`: device -> what its forwards and backwards take, over what they took when the costs were measured.
    """
    schedule = make_schedule(plan, costs.chain)
    scale = None if slowdown is None else lambda device, estimate: estimate.seconds * slowdown[device]
    return step_ns(schedule, price(schedule, costs, scale)) / 1e9
