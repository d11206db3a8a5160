"""Shares that add up exactly: min-max over integers, for arbitrary curves.

Given for every device what each share would cost it, find shares that add up to a total and whose largest cost is smallest.
The curves may be anything: not monotone, not convex, with gaps. The method is exact:

* For a limit T the shares that a device may take are a set of integers; which totals several devices can reach is the
  sum of their sets. Sets of integers are the bits of Python's integers, and the sum with a run of k consecutive
  integers takes log k shifts.
* A larger T only adds shares, so feasibility is monotone in T, and the smallest feasible T is one of the values that
  the curves take: binary search over these ends at the optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hetsim.planner.stage_costs import Bools, Floats, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Shares that come in equal pieces: what a share of `count` * m costs, for m = 0, 1, …"""

    count: int
    cost: Floats
    """By m; infinite where it cannot be taken."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Devices with the same curves."""

    size: int
    options: tuple[Pieces, ...]
    """Ways to take a share; the cheapest counts."""


@dataclass(frozen=True, slots=True)
class Shares:
    """The best shares and the largest cost among them."""

    largest: float
    shares: tuple[tuple[int, ...], ...]
    """By group and device of the group."""


def smallest_maximum(groups: Sequence[Group], total: int, below: float = np.inf) -> Shares | None:
    """The shares that add up to `total` with the smallest largest cost, or None where that is not `below` the given cost."""
    every = np.concatenate([option.cost for group in groups for option in group.options])
    values = np.unique(every[every < below])
    low, high = 0, len(values)  # the answer is among values[low:high], should there be one
    best: tuple[float, list[int]] | None = None
    while low < high:
        # The largest value is tried first: most calls that have no answer end there.
        middle = (low + high) // 2 if best else high - 1
        reached = _reach(groups, total, float(values[middle]))
        if reached is None:
            low = middle + 1
        else:
            best, high = (float(values[middle]), reached), middle
    if best is None:
        return None
    return Shares(best[0], _choose(groups, total, *best))


def _reach(groups: Sequence[Group], total: int, limit: float) -> list[int] | None:
    """The totals (as bits) that the first 0, 1, 2, … devices reach at costs up to `limit`; None unless all reach `total`."""
    reached = [1]
    mask = (1 << (total + 1)) - 1
    for group in groups:
        runs = [(option.count, *run) for option in group.options for run in _runs(option.cost <= limit)]
        for _ in range(group.size):
            summed = 0
            for stride, first, last in runs:
                summed |= _smear(reached[-1], stride, last - first) << (stride * first)
            reached.append(summed & mask)
    return reached if reached[-1] >> total & 1 else None


def _runs(allowed: Bools) -> list[tuple[int, int]]:
    """First and last index of each run of true values."""
    places = allowed.nonzero()[0]
    if not len(places):
        return []
    first, last = int(places[0]), int(places[-1])
    if last - first + 1 == len(places):  # as a rule: what is dearer is larger
        return [(first, last)]
    ends = (places[1:] - places[:-1] > 1).nonzero()[0]
    firsts, lasts = places[[0, *(ends + 1)]], places[[*ends, len(places) - 1]]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def _smear(bits: int, stride: int, times: int) -> int:
    """The union of `bits` shifted by 0, 1, …, `times` strides."""
    covered = 1
    while covered <= times:
        step = min(covered, times + 1 - covered)
        bits |= bits << (stride * step)
        covered += step
    return bits


def _choose(groups: Sequence[Group], total: int, limit: float, reached: list[int]) -> tuple[tuple[int, ...], ...]:
    """Shares within `limit` that add up to `total`, each near its part in proportion to what the devices could take."""
    allowed = [_allowed(group, limit, total) for group in groups]
    device = len(reached) - 1
    most = [int(shares[-1]) for shares, group in zip(allowed, groups, strict=True) for _ in range(group.size)]
    chosen: list[list[int]] = []
    left = total
    for shares, group in reversed(list(zip(allowed, groups, strict=True))):
        mine: list[int] = []
        for _ in range(group.size):
            device -= 1
            wish = left * most[device] / (sum(most[: device + 1]) or 1)
            possible = (int(share) for share in shares if share <= left and reached[device] >> (left - int(share)) & 1)
            mine.append(min(possible, key=lambda share: (abs(share - wish), share)))
            left -= mine[-1]
        chosen.append(mine[::-1])
    return tuple(map(tuple, reversed(chosen)))


def _allowed(group: Group, limit: float, total: int) -> Ints:
    """The shares up to `total` that a device of `group` may take within `limit`, in rising order."""
    shares = [option.count * np.flatnonzero(option.cost <= limit) for option in group.options]
    rising = np.unique(np.concatenate(shares))
    return rising[rising <= total]
