"""How sure a step is: the same step under many draws of what is not known of its costs, and of what varies and disturbs it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hetsim.conditions import Conditions
from hetsim.costs import CostModel, Estimate
from hetsim.plan import Plan
from hetsim.simulator.prices import Prices, price
from hetsim.simulator.program import Program
from hetsim.simulator.recurrence import program_of
from hetsim.simulator.symmetry import play

INTERVAL_DRAWS = 200
"""Draws behind the 90 % interval; its ends then wander by about a tenth of its width."""

MODEL_SPREAD = 0.06
"""Half the 95 % interval of what a device's measured times miss in a real plan (colder caches, busier neighbours), relative to
them. It is what docs/accuracy.md shows; a table that was written by hand is taken at its word."""

DRIFT_SPREAD = 0.10
"""The same of how far a host's speed moves from the calibration to the run, for all its devices together."""

LEAST = 0.1
"""No draw makes a duration less than so much of it."""

Rows = NDArray[np.float64]


def draws_s(
    plan: Plan, prices: Prices, costs: CostModel, conditions: Conditions, nominal_s: float, seed: int
) -> tuple[float, ...]:
    """The step, of `nominal_s` by the event model, once per draw; the n-th draws of two plans under one seed belong together.

    The draws go by the recurrence, which knows of no sharing and of no disturbance: what these add to the step as it is, they are
    taken to add to each draw in proportion. What a disturbance adds that does not always happen is added where it does.
    """
    program, devices = program_of(plan, costs.chain, prices)
    steps_s = program.steps_ns(_drawn_ns(program, devices, plan, prices, costs, seed), conditions.jitter, seed) / 1e9
    alone_s = max(program.ends_ns(program.durations_ns(program.values_ns(prices, devices)))) / 1e9
    steps_s *= nominal_s / alone_s if alone_s else 1.0
    return tuple(steps_s + _disturbed_s(plan, prices, costs, conditions, nominal_s, seed))


def _disturbed_s(plan: Plan, prices: Prices, costs: CostModel, conditions: Conditions, nominal_s: float, seed: int) -> Rows:
    """What the disturbances that are possible add to each draw."""
    random = np.random.default_rng([seed, len(conditions.possible)])
    added_s = np.zeros(INTERVAL_DRAWS)
    for disturbance in conditions.possible:
        with_it = play(plan, costs.chain, prices, (*conditions.certain, disturbance)).step_s
        added_s += np.where(random.random(INTERVAL_DRAWS) < disturbance.chance, with_it - nominal_s, 0.0)
    return added_s


def _drawn_ns(program: Program, devices: Sequence[str], plan: Plan, prices: Prices, costs: CostModel, seed: int) -> Rows:
    """[slot, draw]: the durations under each draw.

    They are sums of costs, so what an error adds to one is in proportion to the error, and known once that is known for one.
    """
    as_it_is = np.array(program.values_ns(prices, devices), dtype=float)[:, None]
    drawn = as_it_is
    device_of = [min(slot[1], len(devices) - 1) for slot in program.slots]  # where it is no device, nothing is added
    for scale, numbers in ((_as_measured, _measured(plan, seed)), (_as_missed, _missed(plan, costs, seed))):
        by_device = np.array([numbers[device] for device in devices])
        moved = np.array(program.values_ns(price(plan, costs, scale), devices), dtype=float)[:, None]
        drawn = drawn + (moved - as_it_is) * by_device[device_of]
    whole: Rows = np.rint(np.maximum(drawn, LEAST * as_it_is))
    return whole


def _as_measured(_device: str, estimate: Estimate) -> float:
    """A cost that is longer by one standard deviation of what was measured wrong: spreads are half a 95 % interval."""
    return estimate.seconds * (1 + estimate.spread / 1.96)


def _as_missed(_device: str, estimate: Estimate) -> float:
    """A cost that is twice as long because of what the model misses; what somebody wrote down is taken at its word."""
    return estimate.seconds * (1.0 if estimate.provenance == "specified" else 2.0)


def _measured(plan: Plan, seed: int) -> dict[str, Rows]:
    """Device -> standard normal numbers: what was measured wrong on it, the same for every plan of a seed and every cluster.

    Errors of a device are taken as common to all its layers, which is the wider assumption.
    """
    return {name: _normal(seed, "measured", name) for name in plan.devices}


def _missed(plan: Plan, costs: CostModel, seed: int) -> dict[str, Rows]:
    """Device -> by how much, relative, its costs are missed: by the drift of its node, the same for every plan of a seed, and by
    the model, which is the plan's own."""
    drift = {node.name: _normal(seed, "drift", node.name) for node in costs.cluster.nodes}
    return {
        name: (
            drift[costs.cluster.device(name).node] * DRIFT_SPREAD
            + _normal(seed, "missed", f"{name} in {plan}") * MODEL_SPREAD
        )
        / 1.96
        for name in plan.devices
    }


def _normal(seed: int, what: str, name: str) -> Rows:
    """Random numbers that belong to `name`, whatever else there is."""
    return np.random.default_rng([seed, zlib.crc32(f"{what} {name}".encode())]).standard_normal(INTERVAL_DRAWS)
