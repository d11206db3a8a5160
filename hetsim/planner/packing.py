"""Which replicas to make of the devices there are, so that together they take the most samples: a knapsack over device types.

Exact by dynamic programming over how many devices of each type are used, where there are few such numbers and the best choice
has no more replicas than are allowed; else by linear programming, whose value is an upper bound and whose solution is rounded
down and filled up.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hetsim.planner.stage_costs import Floats, Ints

MOST_STATES = 1_000
"""Numbers of devices used by type, up to which the knapsack is solved exactly."""


@dataclass(frozen=True, slots=True)
class Packing:
    """The replicas chosen."""

    most: float
    """No choice takes more samples."""

    chosen: tuple[int, ...]
    """Columns, each as often as it is used: a choice that is possible, if not always the best."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What limits a packing, and what one more of each would be worth in samples: linear programming's dual.

    No packing takes more than `most` as long as no column takes more than its price.
    """

    most: float
    device: Floats
    """Of one more of what is used: [type] of a device, and on from there, where other things are used, too, of each."""

    replica: float
    """Of a replica more; negative where there have to be more than would take most."""

    required: float
    """What it takes away that one of the required columns has to be among them."""

    def of(self, usage: Ints | Floats, *, required: bool) -> Floats:
        """[column]: the price of columns with this `usage`."""
        price: Floats = usage @ self.device + self.replica - (self.required if required else 0.0)
        return price

    def raised(self, most: float) -> Prices:
        """Prices that hold for more than they have to, so that all packings together may take `most`."""
        required = max(0.0, self.required - (most - self.most))
        before = self.most + self.required - required
        factor = (most + required) / (before + required) if before + required > 0 else 1.0
        return Prices(most, self.device * factor, self.replica * factor, required)

    def scaled(self, most: float) -> Prices:
        """Prices in proportion, at which all packings together would take `most`."""
        factor = most / self.most
        return Prices(most, self.device * factor, self.replica * factor, self.required * factor)


def relaxed(
    capacities: Floats, usage: Ints | Floats, available: Sequence[float], replicas: int, required: int, fewest: int = 0
) -> tuple[Prices, Floats]:
    """The prices at which `pack` could not take more, if columns might be used in fractions; and how often each is used then.

    `fewest`: replicas that there have to be. Where columns are too few, or none is required, something that takes a loss stands in
    for them.
    """
    from scipy.optimize import linprog

    loss = float(capacities.max(initial=1.0)) * replicas
    each = np.ones(len(capacities))
    needs = np.vstack((usage.T, each, -each, -(np.arange(len(capacities)) < required).astype(float)))
    stands_in = np.append(np.zeros(len(needs) - 2), [-float(fewest), -1.0])
    found = linprog(
        np.append(-capacities, loss),
        A_ub=np.column_stack((needs, stands_in)),
        b_ub=[*available, replicas, -fewest, -1.0],
        method="highs",
    )
    assert found.x is not None, "what stands in is always possible"
    worth = -np.asarray(found.ineqlin.marginals, dtype=float)
    prices = Prices(-float(found.fun or 0.0), worth[:-3], float(worth[-3] - worth[-2]), float(worth[-1]))
    return prices, np.asarray(found.x[:-1], dtype=float)


def pack(
    capacities: Floats, usage: Ints, available: Sequence[int], replicas: int, required: int, *, rounded: bool = True
) -> Packing:
    """The most samples of all replicas: column c takes `capacities[c]` and uses `usage[c]` devices by type.

    One of the first `required` columns is among them, and there are up to `replicas` of them. Without `rounded` nothing is said
    but how many samples.
    """
    useful = np.concatenate([part + _undominated(capacities[rows], usage[rows]) for part, rows in _parts(required)])
    firsts = int((useful < required).sum())
    if not firsts:
        return Packing(0.0, ())
    if math.prod(size + 1 for size in available) <= MOST_STATES:
        chosen = _exactly(capacities[useful], usage[useful], available, firsts)
        if len(chosen) <= replicas:
            columns = tuple(int(useful[c]) for c in chosen)
            most = float(capacities[list(columns)].sum()) if columns else 0.0
            return Packing(most, columns)
    prices, amounts = relaxed(capacities[useful], usage[useful], available, replicas, firsts)
    most, support = max(0.0, prices.most), np.flatnonzero(amounts > 1e-9)
    if not rounded or not len(support):
        return Packing(most, ())
    whole = [int(column) for column in support for _ in range(int(amounts[column] + 1e-9))]
    if not any(column < firsts for column in whole):
        whole = [int(support[0]), *whole][:replicas]
    left = np.asarray(available) - usage[useful][whole].sum(axis=0)
    while whole and (left < 0).any():
        left = left + usage[useful][whole.pop()]
    if not any(column < firsts for column in whole):
        return Packing(most, ())
    whole += _fill_up(capacities[useful], usage[useful], left, replicas - len(whole))
    return Packing(most, tuple(int(useful[c]) for c in whole))


def _parts(required: int) -> tuple[tuple[int, slice], ...]:
    """The required columns and the others, each with the number of its first."""
    return (0, slice(None, required)), (required, slice(required, None))


def _undominated(capacities: Floats, usage: Ints) -> Ints:
    """Of the columns that use the same devices, the one that takes most; none that takes nothing."""
    order = np.argsort(-capacities, kind="stable")
    order = order[capacities[order] > 0]
    _, first = np.unique(usage[order], axis=0, return_index=True)
    return np.asarray(order[np.sort(first)], dtype=np.int64)


def _exactly(capacities: Floats, usage: Ints, available: Sequence[int], required: int = 0) -> list[int]:
    """The best columns, each as often as it is used; one of the first `required`, if any are."""
    shape = tuple(size + 1 for size in available)
    best = np.zeros(shape)
    last = np.full(shape, -1, dtype=np.int64)
    for column, (capacity, uses) in enumerate(zip(capacities, usage.tolist(), strict=True)):
        if any(u > a for u, a in zip(uses, available, strict=True)):
            continue
        most = min(a // u for u, a in zip(uses, available, strict=True) if u)
        into = tuple(slice(u, None) for u in uses)
        out_of = tuple(slice(None, size - u) for u, size in zip(uses, shape, strict=True))
        for _ in range(most):
            with_it = best[out_of] + capacity
            better = with_it > best[into]
            if not better.any():
                break
            best[into] = np.where(better, with_it, best[into])
            last[into] = np.where(better, column, last[into])
    if not required:
        return _read(available, last, usage)
    beside = [
        capacity + best[tuple(left)] if (left := np.asarray(available) - uses).min() >= 0 else -1.0
        for capacity, uses in zip(capacities[:required], usage[:required], strict=True)
    ]
    first = int(np.argmax(beside))
    return [first, *_read(np.asarray(available) - usage[first], last, usage)] if beside[first] >= 0 else []


def _read(available: Sequence[int] | Ints, last: Ints, usage: Ints) -> list[int]:
    """The columns behind the best choice out of `available`.

    What a choice was made of may have been improved since, with columns that came later; it is then made of those, which is no
    worse.
    """
    state = np.asarray(available)
    chosen: list[int] = []
    while (column := int(last[tuple(state)])) >= 0:
        chosen.append(column)
        state = state - usage[column]
    return chosen


def _fill_up(capacities: Floats, usage: Ints, left: Ints, replicas: int) -> list[int]:
    """Replicas of the devices that rounding down left over: exactly where these are few, else the most samples a device first."""
    if math.prod(int(n) + 1 for n in left) <= MOST_STATES:
        return _exactly(capacities, usage, [int(n) for n in left])[: max(0, replicas)]
    chosen: Counter[int] = Counter()
    for column in np.argsort(-capacities / usage.sum(axis=1), kind="stable"):
        while chosen.total() < replicas and (usage[column] <= left).all():
            chosen[int(column)] += 1
            left = left - usage[column]
    return list(chosen.elements())
