"""What plans cost in money and energy: the bill of each, and the rates that bounds are made from.

A plan pays for the devices that it uses, while they compute and while they wait, and for the nodes that these are in, for as long
as its step lasts. What it leaves out could do something else, and costs it nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from hetsim.economics import HOUR_S, JOULES_PER_KWH, MILLION, Bill, Economics, Power, Price, bill
from hetsim.errors import InputError, Problem
from hetsim.hardware import Cluster, Node
from hetsim.objective import Figure
from hetsim.plan import Plan

BusyOf = Callable[[Plan], Mapping[str, float]]
"""Seconds that each device of a plan computes in a step."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What a figure comes to for a step: each times the seconds that it is about."""

    step: float
    """For each second of the step."""

    device: Mapping[str, float]
    """Device type -> for each second that one of its devices is used, computing or not."""

    busy: Mapping[str, float]
    """Device type -> for each second that one computes, on top; never negative."""

    node: Mapping[str, float]
    """Node -> for each second that any of its devices is used."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that a figure needs and nobody told."""

    owner: Literal["economics", "device type", "node"]
    name: str
    what: str
    help: str


@dataclass(frozen=True)
class Tariff:
    """Prices and power of one cluster, for steps of so many samples."""

    cluster: Cluster
    economics: Economics
    samples: int
    busy_of: BusyOf

    def bill(self, plan: Plan, step_s: float) -> Bill:
        """The bill of a step of `plan` that lasts `step_s`. What it takes that is unknown makes the figure unknown, never zero."""
        types = self.cluster.device_types
        kinds = {name: types[self.cluster.device(name).type] for name in plan.devices}
        homes = dict.fromkeys(self.cluster.device(name).node for name in plan.devices)
        return bill(
            step_s,
            self.samples,
            self.busy_of(plan),
            {name: (kind.price, kind.power) for name, kind in kinds.items()},
            [(node.price, node.power_w) for node in self.cluster.nodes if node.name in homes],
            self.economics,
        )

    def require(self, figures: Sequence[Figure]) -> None:
        """Raise InputError with all that is not known and that `figures` need."""
        if unknown := self.unknown(figures):
            raise InputError([Problem(f"{row.owner} {row.name}".strip(), row.what, row.help) for row in unknown])

    def unknown(self, figures: Sequence[Figure]) -> list[Unknown]:
        """All that is not known and that `figures` need."""
        rows: list[Unknown] = []
        if "money" in figures:
            rows += self._unknown_prices()
        if "energy" in figures or ("money" in figures and self.economics.electricity_per_kwh != 0):
            rows += self._unknown_powers()
        return rows

    def rates(self, figure: Figure) -> Rates:
        """The rates of one figure, all of which are known (see `require`); of money and energy for a million samples."""
        types = {kind.name: kind for kind in self.cluster.used_types}
        if figure == "time":
            nothing = dict.fromkeys(types, 0.0)
            return Rates(1.0, nothing, nothing, dict.fromkeys((node.name for node in self.cluster.nodes), 0.0))
        by_joule = self._scale * self.economics.pue / JOULES_PER_KWH
        by_hour = 0.0
        if figure == "money":
            by_joule *= self.economics.electricity_per_kwh or 0.0
            by_hour = self._scale / HOUR_S
        used, busy = {}, {}
        for name, kind in types.items():
            power, price = kind.power or Power(), kind.price or Price()
            idle_w, busy_w = power.idle_w or 0.0, power.busy_w or 0.0
            # One that took less while it computes would be taken to compute all the time: under what it comes to.
            used[name] = by_joule * min(idle_w, busy_w) + by_hour * (price.hourly or 0.0)
            busy[name] = by_joule * max(0.0, busy_w - idle_w)
        node = {
            row.name: by_joule * (row.power_w or 0.0) + by_hour * ((row.price or Price()).hourly or 0.0)
            for row in self.cluster.nodes
        }
        return Rates(0.0, used, busy, node)

    @cached_property
    def _scale(self) -> float:
        return MILLION / self.samples

    def _unknown_prices(self) -> Iterator[Unknown]:
        if self.economics.electricity_per_kwh is None:
            mend = "Write it, 0 where rents include it: economics: {electricity: 0.15}"
            yield Unknown("economics", "", "the price of electricity is unknown", mend)
        for kind in self.cluster.used_types:
            if kind.price is None or kind.price.hourly is None:
                mend = "Write it: price: {per_hour: 1.2}, or price: {purchase: 9000, life: 4 years}"
                yield Unknown("device type", kind.name, "its price is unknown", mend)
        for node in self._told_nodes:
            if node.price is not None and node.price.hourly is None:
                mend = "Write it: price: {per_hour: 0.4}, or price: {purchase: 2000, life: 5 years}"
                yield Unknown("node", node.name, "its price is unknown", mend)

    def _unknown_powers(self) -> Iterator[Unknown]:
        for kind in self.cluster.used_types:
            power = kind.power or Power()
            lacking = [name for name, watts in (("busy", power.busy_w), ("idle", power.idle_w)) if watts is None]
            if lacking:
                what = f"its power is unknown while it is {' and while it is '.join(lacking)}"
                yield Unknown("device type", kind.name, what, "Write it: power: {busy: 250 W, idle: 30 W}")
        for node in self._told_nodes:
            if node.power_w is None:
                yield Unknown("node", node.name, "its power is unknown, beside its devices", "Write it: power: 200 W")

    @property
    def _told_nodes(self) -> list[Node]:
        """Nodes of which something is said; where nothing is, they count as nothing."""
        return [node for node in self.cluster.nodes if (node.price, node.power_w) != (None, None)]
