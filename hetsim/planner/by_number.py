"""Batch splits over so many devices that their sets cannot be listed: a bound for each number of devices, and a set that may
reach it.

What an exchange of gradients takes at least depends on how many devices take part (`exchange_floor`). Given that, a step of T
seconds lets a device of each type take a share of some size at most, and n devices take most when they are those with the
largest shares. The least T at which they take the whole batch is under every step of n devices. The exchange ends for all at
once, and then the step lasts as long as the slowest update: which type that is of is tried, too. Numbers are then tried in the
order of their bounds; what they would take without any exchange, which is soon known, tells which need not be looked at.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from hetsim.planner.exchange_floor import ExchangeFloor
from hetsim.planner.share_costs import ShareCosts
from hetsim.planner.stage_costs import Floats, Ints

NEAR = 1e-4
"""Relative. How exactly the least T is found."""


@dataclass(frozen=True)
class ByNumber:
    """One batch over devices of some types."""

    batch: int
    curves: Sequence[ShareCosts]
    """By type."""

    sizes: Sequence[int]
    """Devices of each type."""

    counts: Sequence[int]
    """Numbers of microbatches."""

    bucket_bytes: Sequence[int]
    floor: ExchangeFloor
    _known_s: dict[tuple[int, float], float] = field(default_factory=dict)

    def sets(self) -> Iterator[tuple[float, Ints]]:
        """(under every step of so many devices, how many of each type may reach it), by rising bounds."""
        for low_s, (number, update_s) in self._rising():
            cheapest = self._cheapest(number, update_s)
            members = self._fullest(self._largest(cheapest, low_s * (1 + NEAR)), number)
            if members.sum() == number:
                yield low_s, members

    @property
    def low_s(self) -> float:
        """Under every step; infinite where the batch cannot be taken."""
        return next((low_s for low_s, _ in self._rising()), float("inf"))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _rising(self) -> Iterator[tuple[float, tuple[int, float]]]:
        """(under every step of such, (number of devices, slowest update)) by rising bounds, where they can take the batch."""
        most = min(sum(self.sizes), self.batch)
        alone = {update_s: self._cheapest(1, update_s) for update_s in sorted({curves.update_s for curves in self.curves})}
        cases = [
            (self._low_s(rows, number), False, (number, update_s))
            for update_s, rows in alone.items()
            for number in range(1, most + 1)
        ]
        heapq.heapify(cases)
        while cases:
            low_s, with_exchange, case = heapq.heappop(cases)
            if low_s == float("inf"):
                return
            if with_exchange:
                yield low_s, case
            else:
                heapq.heappush(cases, (max(low_s, self._with_exchange_s(case)), True, case))

    def _with_exchange_s(self, case: tuple[int, float]) -> float:
        """Under every step of so many devices with that slowest update; infinite where they cannot take the batch."""
        if case not in self._known_s:
            self._known_s[case] = self._low_s(self._cheapest(*case), case[0])
        return self._known_s[case]

    def _low_s(self, cheapest: Sequence[Floats], number: int) -> float:
        finite = [int(np.searchsorted(row, np.inf)) for row in cheapest]
        high_s = max(float(row[end - 1]) for row, end in zip(cheapest, finite, strict=True))
        if not self._takes(cheapest, number, high_s):
            return float("inf")
        low_s = 0.0
        while high_s - low_s > NEAR * high_s:
            middle = (low_s + high_s) / 2
            low_s, high_s = (low_s, middle) if self._takes(cheapest, number, middle) else (middle, high_s)
        return low_s

    def _takes(self, cheapest: Sequence[Floats], number: int, step_s: float) -> bool:
        largest = self._largest(cheapest, step_s)
        return bool(self._fullest(largest, number) @ largest >= self.batch)

    def _largest(self, cheapest: Sequence[Floats], step_s: float) -> Ints:
        """By type: the largest share within `step_s`."""
        return np.array([int(np.searchsorted(row, step_s, side="right")) - 1 for row in cheapest])

    def _cheapest(self, number: int, update_s: float) -> list[Floats]:
        """By type: the least that a share of so many samples or more makes the step last, rising; index: samples."""
        sizes = np.asarray(self.bucket_bytes, dtype=float)
        tails_s = np.cumsum(self.floor.reduce_s(number, sizes)[::-1])[::-1]
        rows = []
        for curves in self.curves:
            best = np.full(self.batch + 1, np.inf)
            best[0] = 0.0
            if curves.update_s <= update_s:
                pieces = curves.alone(self.counts) if number == 1 else curves.together(self.counts, tails_s, update_s)
                for option in pieces:
                    shares = option.count * np.arange(len(option.cost))
                    best[shares[1:]] = np.minimum(best[shares[1:]], option.cost[1:])
            rows.append(np.minimum.accumulate(best[::-1])[::-1])
        return rows

    def _fullest(self, largest: Ints, number: int) -> Ints:
        """How many devices of each type, `number` in all, take most; those that can take nothing take no part."""
        members = np.zeros(len(self.sizes), dtype=np.int64)
        for kind in np.argsort(-largest, kind="stable"):
            if largest[kind] > 0:
                members[kind] = min(self.sizes[kind], number - int(members.sum()))
        return members
