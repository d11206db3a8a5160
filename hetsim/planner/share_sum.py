"""Shares that add up exactly: min-max over integers, for arbitrary curves.

Given for every device what each share would cost it, find shares that add up to a total and whose largest cost is smallest.
The curves may be anything: not monotone, not convex, with gaps. The method is exact:

* For a limit T the shares that a device may take are a set of integers; which totals several devices can reach is the
  sum of their sets. Sets of integers are the bits of Python's integers, and the sum with a run of k consecutive
  integers takes log k shifts; that with n times the same run no more.
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
    best: float | None = None
    while low < high:
        # The largest value is tried first: most calls that have no answer end there.
        middle = high - 1 if best is None else (low + high) // 2
        if _is_reached(groups, total, float(values[middle])):
            best, high = float(values[middle]), middle
        else:
            low = middle + 1
    return None if best is None else Shares(best, _choose(groups, total, best))


def _is_reached(groups: Sequence[Group], total: int, limit: float) -> bool:
    """Whether the devices reach `total` at costs up to `limit`."""
    reached = 1  # the totals of the devices so far, as bits
    for group in groups:
        reached = _with_group(reached, group, total, limit)
    return bool(reached >> total & 1)


def _with_group(reached: int, group: Group, total: int, limit: float) -> int:
    """The totals up to `total` of `reached` and all devices of a group together."""
    mask = (1 << (total + 1)) - 1
    if (ends := _only_run(_allowed(group, limit, total))) is not None:
        # As a rule what is dearer is larger. Together they then take any number, too.
        first, last = (min(total + 1, group.size * end) for end in ends)
        return _smear(reached, 1, last - first) << first & mask
    runs = _runs(group, limit)
    for _ in range(group.size):
        reached = _with_device(reached, runs, mask)
    return reached


def _with_device(reached: int, runs: Sequence[tuple[int, int, int]], mask: int) -> int:
    """The totals of `reached` and one device more, which takes a share out of one of `runs`."""
    summed = 0
    for stride, first, last in runs:
        summed |= _smear(reached, stride, last - first) << (stride * first)
    return summed & mask


def _allowed(group: Group, limit: float, total: int) -> Bools:
    """[share]: whether a device of `group` may take it within `limit`; shares up to `total`."""
    allowed = np.zeros(total + 1, dtype=bool)
    for option in group.options:
        there = option.cost[: total // option.count + 1] <= limit
        allowed[: option.count * len(there) : option.count] |= there
    return allowed


def _only_run(allowed: Bools) -> tuple[int, int] | None:
    """The first and the last share where all between them are allowed, too; else None."""
    shares = allowed.nonzero()[0]
    return (int(shares[0]), int(shares[-1])) if len(shares) and shares[-1] - shares[0] == len(shares) - 1 else None


def _runs(group: Group, limit: float) -> list[tuple[int, int, int]]:
    """(samples a step, first step, last step) of each run of shares that a device may take within `limit`."""
    return [(option.count, *run) for option in group.options for run in _runs_of(option.cost <= limit)]


def _runs_of(allowed: Bools) -> list[tuple[int, int]]:
    """First and last index of each run of true values."""
    edges = np.flatnonzero(np.diff(allowed, prepend=False, append=False))
    return [(first, stop - 1) for first, stop in edges.reshape(-1, 2).tolist()]


def _smear(bits: int, stride: int, times: int) -> int:
    """The union of `bits` shifted by 0, 1, …, `times` strides."""
    covered = 1
    while covered <= times:
        step = min(covered, times + 1 - covered)
        bits |= bits << (stride * step)
        covered += step
    return bits


def _choose(groups: Sequence[Group], total: int, limit: float) -> tuple[tuple[int, ...], ...]:
    """Shares within `limit` that add up to `total`, each near its part in proportion to what the devices could take."""
    mask, reached = (1 << (total + 1)) - 1, [1]  # by the first 0, 1, 2, … devices
    allowed = [_allowed(group, limit, total) for group in groups]
    for group in groups:
        runs = _runs(group, limit)
        for _ in range(group.size):
            reached.append(_with_device(reached[-1], runs, mask))
    device, left = len(reached) - 1, total
    could = sum(group.size * int(mine.nonzero()[0][-1]) for mine, group in zip(allowed, groups, strict=True))
    chosen: list[list[int]] = []
    for mine, group in reversed(list(zip(allowed, groups, strict=True))):
        shares, row = mine.nonzero()[0], list[int]()
        for _ in range(group.size):
            device -= 1
            wish = left * int(shares[-1]) / (could or 1)
            row.append(_nearest(shares[: np.searchsorted(shares, left, side="right")], wish, left, reached[device]))
            left, could = left - row[-1], could - int(shares[-1])
        chosen.append(row[::-1])
    return tuple(map(tuple, reversed(chosen)))


def _nearest(shares: Ints, wish: float, left: int, reached: int) -> int:
    """The one of `shares`, which rise, next to `wish` that leaves of `left` one of the totals `reached`; the smaller on a tie."""
    after = int(np.searchsorted(shares, wish))
    before = after - 1
    while True:
        ahead = before >= 0 and (after == len(shares) or wish - shares[before] <= shares[after] - wish)
        share = int(shares[before if ahead else after])
        if reached >> (left - share) & 1:
            return share
        before, after = before - ahead, after + (not ahead)
