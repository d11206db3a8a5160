"""What a step costs at least on sets of devices, in time, money or energy, without a plan.

Let T be the step, u(p) the device-seconds that pool p is used for (devices times T), y(h) the seconds that host h is, x(k, l) the
part of piece l of the work that devices of type k do, and c(k, l) what all of it would take of them (`work_floor`). Then

    sum over l of c(k, l) x(k, l)  <=  sum over the pools p of type k of u(p)     they compute while they are used,
    sum over k of x(k, l)           =  1                                          all is done,
    low(p) T  <=  u(p)  <=  high(p) T                                             so many devices are used,
    u(p)  <=  y(h) devices of p in h                                              and a host with them,

and a figure of the plan is linear in T, u, y and the left sides: its least value is that of a linear program. That holds for every
plan on any of the sets, whatever its replicas, stages, schedule or exchange: communication and waiting come on top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hetsim.hardware import Cluster
from hetsim.objective import Figure
from hetsim.planner.pools import Pool
from hetsim.planner.stage_costs import Bools, Floats
from hetsim.planner.tariff import Rates
from hetsim.planner.work_floor import WorkFloor

SLACK = 1e-6
"""Programs are solved to 1e-7; a bound has to hold whatever the last digits are."""

Counts = tuple[int, ...]
"""Devices of each pool."""


def least_step_s(work: WorkFloor, cluster: Cluster) -> float:
    """Seconds that a step takes at least on `cluster`, whatever the plan."""
    by_type = {name: tuple(d.name for d in cluster.devices if d.type == name) for name in work.types}
    nothing = dict.fromkeys(work.types, 0.0)
    pools = [Pool(name, devices) for name, devices in by_type.items()]
    floor = SpendingFloor(work, pools, [], {"time": Rates(1.0, nothing, nothing, {})}, {})
    return floor.least("time", (0,) * len(pools), tuple(len(pool) for pool in pools))


@dataclass(frozen=True, slots=True)
class Host:
    """Nodes in which devices of some pools are."""

    names: tuple[str, ...]
    most: Mapping[int, int]
    """Pool -> devices of it in one of the nodes, at most."""

    most_in_all: int
    """Devices in one of them, at most."""


@dataclass(frozen=True)
class SpendingFloor:
    """The program for sets of devices out of `pools`."""

    work: WorkFloor
    pools: Sequence[Pool]
    hosts: Sequence[Host]
    rates: Mapping[Figure, Rates]
    limits: Mapping[Figure, float]

    def least(self, figure: Figure, low: Counts, high: Counts, least_s: float = 0.0) -> float:
        """Under `figure` of every plan within the limits on `low` to `high` devices of each pool; infinite where there is none.

        `least_s`: what is known of the step, which is never shorter on any of them.
        """
        rate, unit = self._rate(figure)
        found = self._solved(rate, low, high, least_s, self.limits)
        return np.inf if found is None else max(0.0, found * unit * (1 - SLACK))

    def longest_s(self, figure: Figure, value: float, low: Counts, high: Counts, least_s: float) -> float:
        """No step on `low` to `high` devices of each pool lasts longer with a `figure` of no more than `value`."""
        if not np.isfinite(value):
            return np.inf
        found = self._solved(-self._unit_step, low, high, least_s, {**self.limits, figure: value})
        return 0.0 if found is None else -found * self._second * (1 + SLACK)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _solved(
        self, objective: Floats, low: Counts, high: Counts, least_s: float, limits: Mapping[Figure, float]
    ) -> float | None:
        """The least value, in units of its own; None where nothing satisfies all rows, minus infinity where there is no least."""
        from scipy.optimize import linprog

        rows, rights = [*self._fixed], [*self._starts(low)]
        for number, (fewest, most) in enumerate(zip(low, high, strict=True)):
            rows += [self._row({0: -most, 1 + number: 1.0}), self._row({0: fewest, 1 + number: -1.0})]
        for number, host in enumerate(self.hosts):
            if len(host.names) > 1 or any(low[pool] for pool in host.most):
                rows.append(self._row({0: 1.0, self._host(number): -1.0}))
        rights += [0.0] * (len(rows) - len(rights))
        for figure, limit in limits.items():
            rate, unit = self._rate(figure)
            rows.append(rate)
            rights.append(limit * (1 + SLACK) / unit)
        bounds = [(least_s / self._second, None), *[(0.0, None)] * (self._first_part - 1), *self._parts]
        found = linprog(
            objective, np.array(rows), np.array(rights), self._whole, np.ones(self._pieces), bounds, method="highs"
        )
        if found.status == 2:
            return None
        return float(found.fun or 0.0) if found.success else -np.inf

    def _rate(self, figure: Figure) -> tuple[Floats, float]:
        """What each variable adds to `figure`, and the unit that this is in: such that the largest is 1."""
        rates, row = self.rates[figure], np.zeros(self._first_part + self._possible.size)
        row[0] = rates.step
        for number, pool in enumerate(self.pools):
            row[1 + number] = rates.device[pool.device_type]
        for number, host in enumerate(self.hosts):
            row[self._host(number)] = min(rates.node[name] for name in host.names)
        busy = np.array([rates.busy[name] for name in self.work.types])
        row[self._first_part :] = (busy[:, None] * self._seconds).ravel()
        unit = float(row.max(initial=0.0)) or 1.0
        return row / unit, unit * self._second

    def _starts(self, low: Counts) -> list[float]:
        """The right sides of the fixed rows."""
        starts = [0.0] * len(self.work.types)
        for pool, fewest in zip(self.pools, low, strict=True):
            kind = self.work.types.index(pool.device_type)
            starts[kind] -= fewest * float(self.work.start_s[kind]) / self._second
        return starts + [0.0] * (len(self._fixed) - len(starts))

    @cached_property
    def _fixed(self) -> list[Floats]:
        """Rows that are the same for all sets: work takes device-seconds, devices take hosts."""
        rows = []
        for number, name in enumerate(self.work.types):
            row = np.zeros(self._first_part + self._possible.size)
            first = self._first_part + number * self._pieces
            row[first : first + self._pieces] = self._seconds[number]
            row[1 : 1 + len(self.pools)] = [-float(pool.device_type == name) for pool in self.pools]
            rows.append(row)
        for number, host in enumerate(self.hosts):
            rows += [self._row({1 + pool: 1.0 / most, self._host(number): -1.0}) for pool, most in host.most.items()]
            together = {1 + pool: 1.0 / host.most_in_all for pool in host.most}
            rows += [
                self._row({**together, self._host(number): -1.0}),
                self._row({0: -len(host.names), self._host(number): 1.0}),
            ]
        return rows

    @cached_property
    def _possible(self) -> Bools:
        return np.isfinite(self.work.seconds)

    @cached_property
    def _seconds(self) -> Floats:
        """[type, piece], in units of `_second`."""
        return np.where(self._possible, self.work.seconds, 0.0) / self._second

    @cached_property
    def _second(self) -> float:
        """The unit of time: such that numbers are neither large nor small."""
        known = self.work.seconds[self._possible]
        return float(known.max(initial=0.0)) or 1.0

    @property
    def _pieces(self) -> int:
        return int(self.work.seconds.shape[1])

    @property
    def _first_part(self) -> int:
        """Index of the first variable that is a part of a piece; before stand the step, the pools and the hosts."""
        return 1 + len(self.pools) + len(self.hosts)

    @cached_property
    def _parts(self) -> list[tuple[float, float]]:
        return [(0.0, 1.0 if may else 0.0) for may in self._possible.ravel()]

    @cached_property
    def _whole(self) -> Floats:
        """All parts of a piece are 1 together."""
        front = np.zeros((self._pieces, self._first_part))
        return np.hstack([front, np.tile(np.eye(self._pieces), len(self.work.types))])

    @property
    def _unit_step(self) -> Floats:
        return self._row({0: 1.0})

    def _host(self, number: int) -> int:
        return 1 + len(self.pools) + number

    def _row(self, values: Mapping[int, float]) -> Floats:
        row = np.zeros(self._first_part + self._possible.size)
        row[list(values)] = list(values.values())
        return row
