"""How sure a step is: the same step under many draws of what is not known of its costs, and of what varies and disturbs it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hetsim.conditions import Conditions
from hetsim.costs import CostModel, Estimate
from hetsim.plan import Plan
from hetsim.simulator.prices import Prices, price
from hetsim.simulator.recurrence import program_of
from hetsim.simulator.symmetry import play

INTERVAL_DRAWS = 200
"""Draws behind the 90 % interval; its ends then wander by about a tenth of its width."""

MODEL_SPREAD = 0.06
"""Half the 95 % interval of what a device's measured times miss in a real plan (colder caches, busier neighbours), relative to
them. It is what docs/accuracy.md shows; a table that was written by hand is taken at its word."""

DRIFT_SPREAD = 0.10
"""The same of how far a host's speed moves from the calibration to the run, for all its devices together."""

Draw = Mapping[str, float]
"""Device -> a random number."""


def draws_s(
    plan: Plan, prices: Prices, costs: CostModel, conditions: Conditions, nominal_s: float, seed: int
) -> tuple[float, ...]:
    """The step, of `nominal_s` by the event model, once per draw; the n-th draws of two plans under one seed belong together.

    The draws go by the recurrence, which knows of no sharing and of no disturbance: what these add to the step as it is, they are
    taken to add to each draw in proportion. What a disturbance adds that does not always happen is added where it does.
    """
    program, devices = program_of(plan, costs.chain, prices)
    values_ns = [program.values_ns(price(plan, costs, scale), devices) for scale in _scales(plan, costs, seed)]
    steps_s = program.steps_ns(np.array(values_ns).T, conditions.jitter, seed) / 1e9
    alone_s = max(program.ends_ns(program.durations_ns(program.values_ns(prices, devices)))) / 1e9
    steps_s *= nominal_s / alone_s if alone_s else 1.0
    return tuple(steps_s + _disturbed_s(plan, prices, costs, conditions, nominal_s, seed))


def _disturbed_s(
    plan: Plan, prices: Prices, costs: CostModel, conditions: Conditions, nominal_s: float, seed: int
) -> NDArray[np.float64]:
    """What the disturbances that are possible add to each draw."""
    random = np.random.default_rng([seed, len(conditions.possible)])
    added_s = np.zeros(INTERVAL_DRAWS)
    for disturbance in conditions.possible:
        with_it = play(plan, costs.chain, prices, (*conditions.certain, disturbance)).step_s
        added_s += np.where(random.random(INTERVAL_DRAWS) < disturbance.chance, with_it - nominal_s, 0.0)
    return added_s


class _Scale:
    """How one draw changes a cost."""

    def __init__(self, missed: Draw, measured: Draw) -> None:
        self._missed = missed
        self._measured = measured

    def __call__(self, device: str, estimate: Estimate) -> float:
        error = self._measured[device] * estimate.spread
        if estimate.provenance != "specified":
            error += self._missed[device]
        return estimate.seconds * max(0.1, 1 + error / 1.96)


def _scales(plan: Plan, costs: CostModel, seed: int) -> list[_Scale]:
    """One for each draw.

    A spread is half a 95 % interval, so 1.96 standard deviations. How a node drifts and what was measured wrong on a device are the
    same for every plan of a seed and every cluster that has them; what the model misses is the plan's own. Errors of a device
    are taken as common to all its layers, which is the wider assumption.
    """
    drift = {node.name: _normal(seed, "drift", node.name) for node in costs.cluster.nodes}
    missed, measured = {}, {}
    for name in plan.devices:
        node = costs.cluster.device(name).node
        missed[name] = drift[node] * DRIFT_SPREAD + _normal(seed, "missed", f"{name} in {plan}") * MODEL_SPREAD
        measured[name] = _normal(seed, "measured", name)
    return [
        _Scale({n: float(row[i]) for n, row in missed.items()}, {n: float(row[i]) for n, row in measured.items()})
        for i in range(INTERVAL_DRAWS)
    ]


def _normal(seed: int, what: str, name: str) -> NDArray[np.float64]:
    """Random numbers that belong to `name`, whatever else there is."""
    return np.random.default_rng([seed, zlib.crc32(f"{what} {name}".encode())]).standard_normal(INTERVAL_DRAWS)
