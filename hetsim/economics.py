"""What training costs in money and energy, from what the user says of prices and power. What is not said stays unknown: None.

Formulas, each a sum over what is paid for. Of a cluster that is all that it owns, used by the plan or not, because what stands
idle is paid for as well; of a plan (`hetsim.planner.tariff`) it is the devices that it uses and the nodes that these are in:

* energy of a step = PUE x (sum over devices of busy_w x busy_s + idle_w x (step_s - busy_s) + sum over nodes of power x step_s);
* price of an hour = sum of rents and of purchase / life, each over the hours of the life, plus energy x price of electricity;
* per million samples = price of an hour / samples in an hour x 10^6.

Straight-line amortisation, and PUE as The Green Grid defines it: energy of the facility over that of the computers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

HOUR_S = 3600.0
JOULES_PER_KWH = 3.6e6
MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Price:
    """Of one device, or of one node without its devices; in the scenario's currency."""

    purchase: float | None = None
    life_s: float | None = None
    """Over which the purchase is written off."""

    per_h: float | None = None
    """Rent."""

    @property
    def hourly(self) -> float | None:
        """What an hour of owning it costs, used or not; None: unknown."""
        if self.per_h is not None:
            return self.per_h
        if self.purchase is not None and self.life_s is not None:
            return self.purchase / (self.life_s / HOUR_S)
        return None


@dataclass(frozen=True, slots=True)
class Power:
    """Of one device."""

    busy_w: float | None = None
    """While it computes."""

    idle_w: float | None = None
    """While it does not."""

    assumed: bool = False
    """Whether `busy_w` is the board's limit out of the catalogue: what it takes in training nobody said."""


@dataclass(frozen=True, slots=True)
class Economics:
    """What holds for the whole cluster."""

    currency: str = "USD"
    electricity_per_kwh: float | None = None
    pue: float = 1.0
    """Energy of the facility over that of the computers: 1 without cooling and losses."""


UNPRICED = Economics()
"""Nothing is said of money."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What one step comes to on a cluster. None: something that it takes is unknown."""

    step_s: float
    samples: int
    energy_j: float | None
    """Of a step, with the facility's share."""

    owning_per_h: float | None
    """Rents and amortisation."""

    electricity_per_h: float | None

    @property
    def samples_per_s(self) -> float:
        """Throughput."""
        return self.samples / self.step_s

    @property
    def per_h(self) -> float | None:
        """Money for an hour of training."""
        return _sum((self.owning_per_h, self.electricity_per_h))

    @property
    def per_million(self) -> float | None:
        """Money for a million samples."""
        return None if self.per_h is None else self.per_h / HOUR_S * self.step_s / self.samples * MILLION

    @property
    def kwh_per_million(self) -> float | None:
        """Energy for a million samples."""
        return None if self.energy_j is None else self.energy_j / JOULES_PER_KWH / self.samples * MILLION


def bill(
    step_s: float,
    samples: int,
    busy_s: Mapping[str, float],
    devices: Mapping[str, tuple[Price | None, Power | None]],
    nodes: Iterable[tuple[Price | None, float | None]],
    economics: Economics,
) -> Bill:
    """The bill of a step of `step_s` seconds that trains `samples`.

    `devices`: of all that are owned, what they cost and take; `busy_s`: seconds that each of them computes, 0 where it is left out.
    `nodes`: price and watts of each node beside its devices; where nothing at all is said of nodes, they count as nothing.
    """
    told_nodes = [row for row in nodes if row != (None, None)]
    energy = [_energy_j(power, busy_s.get(name, 0.0), step_s) for name, (_, power) in devices.items()]
    energy += [None if watts is None else watts * step_s for _, watts in told_nodes]
    total_j = _sum(energy)
    owning = [_hourly(price) for price, _ in devices.values()] + [_hourly(price) for price, _ in told_nodes if price]
    facility_j = None if total_j is None else total_j * economics.pue
    electricity = 0.0 if economics.electricity_per_kwh == 0 else None
    if facility_j is not None and economics.electricity_per_kwh is not None:
        watts = facility_j / step_s if step_s else 0.0
        electricity = watts * HOUR_S / JOULES_PER_KWH * economics.electricity_per_kwh
    return Bill(step_s, samples, facility_j, _sum(owning), electricity)


def pay_back_h(spent: float, before: Bill, after: Bill, amortised_per_h: float) -> float | None:
    """Hours of training until what was spent has come in again; None: unknown, infinite: never.

    What comes in is what the old cluster would have cost for the samples that the new one trains in an hour, less what that hour
    costs without the write-off of what was bought (`amortised_per_h`), which is what is to be paid back.
    """
    if before.per_h is None or after.per_h is None:
        return None
    saved_per_h = before.per_h / before.samples_per_s * after.samples_per_s - (after.per_h - amortised_per_h)
    return spent / saved_per_h if saved_per_h > 0 else float("inf")


def _energy_j(power: Power | None, busy_s: float, step_s: float) -> float | None:
    if power is None:
        return None
    parts = ((power.busy_w, busy_s), (power.idle_w, step_s - busy_s))
    return _sum(None if watts is None else watts * seconds for watts, seconds in parts if seconds > 0)


def _hourly(price: Price | None) -> float | None:
    return None if price is None else price.hourly


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum; None where any part is unknown: a sum of some would pass for the whole."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total
