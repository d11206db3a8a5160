"""The prediction of a plan: its timeline, the step with an interval, its memory, and what limits it."""

from __future__ import annotations

import zlib
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
from hetsim.simulator.recurrence import program_of, solve, step_ns
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
"""Device -> a random number."""

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
    limits: tuple[Share, ...]
    """What the critical path is made of, largest first; the shares add up to 1."""

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
        """The largest part of the critical path, in words."""
        return f"{self.limits[0].what} ({self.limits[0].share:.0%})"


def predict(plan: Plan, costs: CostModel, training: Training, *, seed: int = 0) -> Prediction:
    """The prediction of `plan`, by the event model; its interval by seeded draws from the spread of the costs.

    Raises PlanError where the plan does not fit the chain, the cluster or the global batch, CostError where a cost lacks.
    """
    plan.check(costs.chain, costs.cluster, training.global_batch)
    costs.require(dict.fromkeys(costs.cluster.device(name).type for name in plan.devices))
    schedule = make_schedule(plan, costs.chain)
    prices = price(plan, costs)
    timeline = simulate(schedule, prices)
    draws_s = _draws_s(plan, costs, seed)
    memory = memory_use(plan, costs, training, schedule)
    return Prediction(plan, timeline, timeline.step_s, draws_s, memory, limits(schedule, costs))


def limits(schedule: Schedule, costs: CostModel) -> tuple[Share, ...]:
    """What the critical path of `schedule` is made of, largest part first."""
    solution = solve(schedule, price(schedule.plan, costs))
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


def _draws_s(plan: Plan, costs: CostModel, seed: int) -> tuple[float, ...]:
    """The step when every cost is drawn from its spread, once per draw; the n-th draws of two plans belong together.

    A spread is half a 95 % interval, so 1.96 standard deviations. The drift of a node and what was measured wrong on a device are
    the same for every plan of a seed; what the model misses is the plan's own. Errors of one device are taken as common to all its
    layers, which is the wider assumption.
    """
    names = [device.name for device in costs.cluster.devices]
    nodes = [node.name for node in costs.cluster.nodes]
    node_of = np.array([nodes.index(device.node) for device in costs.cluster.devices])
    shared, own = np.random.default_rng(seed), np.random.default_rng([seed, zlib.crc32(str(plan).encode())])
    program, devices = program_of(plan, costs.chain, price(plan, costs))
    values_ns = []
    for _ in range(INTERVAL_DRAWS):
        drift = shared.standard_normal(len(nodes))[node_of] * DRIFT_SPREAD
        missed = dict(zip(names, drift + own.standard_normal(len(names)) * MODEL_SPREAD, strict=True))
        measured = dict(zip(names, shared.standard_normal(len(names)), strict=True))

        def drawn(device: str, estimate: Estimate, missed: Draw = missed, measured: Draw = measured) -> float:
            error = measured[device] * estimate.spread
            if estimate.provenance != "specified":
                error += missed[device]
            return estimate.seconds * max(0.1, 1 + error / 1.96)

        values_ns.append(program.values_ns(price(plan, costs, drawn), devices))
    return tuple(program.steps_ns(np.array(values_ns).T) / 1e9)


def step_s(plan: Plan, costs: CostModel, slowdown: Mapping[str, float] | None = None) -> float:
    """Seconds of one step of `plan` by the closed recurrence: the quick way, for searches.

    `slowdown`: device -> what its forwards and backwards take, over what they took when the costs were measured.
    """
    scale = None if slowdown is None else lambda device, estimate: estimate.seconds * slowdown[device]
    return step_ns(plan, costs.chain, price(plan, costs, scale)) / 1e9
