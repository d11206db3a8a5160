"""What the places of a replica can hold of the chain in a given time: a quick proof that some numbers of microbatches are too many.

Layers cannot be cut, so a place rarely holds just as much as it has time for. Say what is held is measured by weights, one a layer.
A stage with l others behind it, on kind k, that has to keep its bracket (see `replica_split`) under a limit, takes no longer than
some time for a microbatch; of all runs of layers that take no longer and fit the memory with the microbatches in flight, l + 1 at
most, one weighs most. If the heaviest runs of all places together weigh less than the chain, no cut exists. Each kind gets the
positions that suit it best, as if they were not taken by others; what one microbatch takes to pass all stages is the least in which
runs of these weights are passed, the quickest kind first. Whatever the weights, no cut that exists is ruled out; several are tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hetsim.planner.shortest_cut import Shape
from hetsim.planner.stage_costs import Bools, Floats, Ints
from hetsim.planner.stage_grid import StageGrid

POWERS = 64
"""Microbatches are fewer than two to this power."""

ROUNDS = 3
"""How often the time of passing and what can be held beside it are worked out from each other, at most."""

WORTH_A_ROUND = 1e-3
"""By how much, relative, the time of passing has to have grown for some shape."""


@dataclass(frozen=True)
class Holdings:
    """What places can hold, at one microbatch size."""

    grid: StageGrid
    shapes: Sequence[Shape]
    pass_s: Floats
    """[shape]: what a microbatch takes to pass all stages, at least."""

    beside_s: Floats
    """[shape]: what of that is not computed by layers."""

    def too_many(self, rows: Ints, counts: Ints, step_s: float) -> Bools:
        """Whether so many microbatches cannot be done within `step_s`, by shape (its row) and number of microbatches."""
        found = np.zeros(len(rows), dtype=bool)
        for weights in self._weights:
            open_rows = np.flatnonzero(~found)
            found[open_rows] = weights.too_many(self, rows[open_rows], counts[open_rows], step_s)
        return found

    @cached_property
    def used(self) -> Ints:
        """[shape, kind]: places."""
        return np.array(self.shapes, dtype=np.int64).reshape(len(self.shapes), len(self.grid.kinds))

    @cached_property
    def shares(self) -> Floats:
        """[kind]: the largest share that a forward has of a layer."""
        grid = self.grid
        forward_s = np.array([np.diagonal(grid.forward_s[kind][:, 1:]) for kind in range(len(grid.kinds))])
        layer_s = self.layer_s
        shares = np.divide(forward_s, layer_s, out=np.zeros_like(layer_s), where=np.isfinite(layer_s) & (layer_s > 0))
        return np.asarray(shares.max(axis=1))

    @cached_property
    def layer_s(self) -> Floats:
        """[kind, layer]: forward and backward, infinite where not priced."""
        return np.array([self.grid.layer_s(kind) for kind in range(len(self.grid.kinds))])

    @cached_property
    def _weights(self) -> list[_Weights]:
        """Each kind's own times, and the least of all relative to the whole chain."""
        own = [row for row in self.layer_s if np.isfinite(row).all() and row.sum() > 0]
        relative = [row / row.sum() for row in own]
        if not own:
            return []
        rows = [np.min(relative, axis=0), *relative]
        unlike = [
            row for place, row in enumerate(rows) if not any(np.allclose(row, other, rtol=1e-3) for other in rows[:place])
        ]
        return [_Weights(self.grid, row) for row in unlike]


@dataclass(frozen=True)
class _Weights:
    """The same by one measure of what is held."""

    grid: StageGrid
    layer: Floats

    def too_many(self, of: Holdings, rows: Ints, counts: Ints, step_s: float) -> Bools:
        places = of.used[rows]
        depth = places.sum(axis=1)
        pass_s = of.pass_s[rows]
        found = np.zeros(len(rows), dtype=bool)
        for _ in range(ROUNDS):
            left = np.flatnonzero(~found)
            room_s = np.subtract(step_s, pass_s[left], out=np.full(len(left), -np.inf), where=np.isfinite(pass_s[left]))
            held = self._most_held(of, places[left], depth[left], counts[left], room_s)
            found[left] = (step_s < pass_s[left]) | (held.sum(axis=1) < self._total * (1 - 1e-9))
            longer_s = np.maximum(pass_s[left], self._pass_s(held) + of.beside_s[rows[left]])
            if (longer_s <= pass_s[left] * (1 + WORTH_A_ROUND)).all():
                break
            pass_s[left] = longer_s
        return found

    def _most_held(self, of: Holdings, places: Ints, depth: Ints, counts: Ints, room_s: Floats) -> Floats:
        """[case, kind]: the weight of what its places hold at most, with `room_s` for the brackets."""
        behind = np.arange(int(depth.max(initial=0)))
        ahead = np.minimum(counts[:, None] - 1, behind)
        rounds = counts[:, None, None] - 1 - of.shares[:, None] * ahead[:, None, :]
        limit_s = np.divide(room_s[:, None, None], rounds, out=np.full(rounds.shape, np.inf), where=rounds > 0)
        there = (behind < depth[:, None])[:, None, :] & (places > 0)[:, :, None] & (room_s >= 0)[:, None, None]
        case, kind, position = np.nonzero(there)
        each = np.full(there.shape, -1.0)
        in_flight, powers = ahead[case, position] + 1, np.frexp(counts)[1][case] - 1
        each[there] = self._runs.heaviest(kind, in_flight, powers, limit_s[there])
        best = -np.sort(-each, axis=2)
        taken = behind < places[:, :, None]
        return np.asarray(np.where(taken & (best > 0), best, 0.0).sum(axis=2))

    def _pass_s(self, held: Floats) -> Floats:
        """What passing the whole chain takes at least, where kinds hold no more than `held`."""
        left = np.full(len(held), self._total)
        seconds = np.zeros(len(held))
        for kind in np.argsort(self._least_s, kind="stable"):
            mine = np.minimum(held[:, kind], left)
            rate_s = self._least_s[kind]
            seconds += np.where(mine > 0, mine, 0.0) * (rate_s if np.isfinite(rate_s) else 0.0)
            left = left - mine
        return seconds

    @cached_property
    def _least_s(self) -> Floats:
        """[kind]: the least seconds of a first microbatch for what weighs 1."""
        first_s = np.array([self.grid.layer_first_s(kind) for kind in range(len(self.grid.kinds))])
        ratio = np.divide(first_s, self.layer, out=np.full_like(first_s, np.inf), where=self.layer > 0)
        return np.asarray(ratio.min(axis=1))

    @cached_property
    def _total(self) -> float:
        return float(self.layer.sum())

    @cached_property
    def _runs(self) -> _Runs:
        return _Runs(self.grid, self.layer)


@dataclass
class _Runs:
    """The heaviest runs of layers within a time, by kind, microbatches in flight, and about how many there are in all.

    Runs that are alike in these make a block: their times in rising order, and the heaviest of those that take no longer.
    """

    grid: StageGrid
    layer: Floats
    """What each layer weighs."""

    _number: Ints = field(init=False)
    """[kind, in flight, power]: of the block; -1: not made yet."""

    _ends: list[int] = field(default_factory=lambda: [0])
    _times_s: Floats = field(default_factory=lambda: np.zeros(0))
    _heaviest: Floats = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        self._number = np.full((len(self.grid.kinds), self.grid.layers + 1, POWERS), -1)

    def heaviest(self, kind: Ints, in_flight: Ints, powers: Ints, limit_s: Floats) -> Floats:
        """Of each case, whose microbatches are a power of two, at least: the weight of the heaviest run within `limit_s`."""
        cells = kind, in_flight, powers
        new = self._number[cells] < 0
        for cell in sorted(set(zip(*(of[new].tolist() for of in cells), strict=True))):
            self._add(*cell)
        block, ends = self._number[cells], np.array(self._ends)
        return self._searched(ends[block], ends[block + 1], limit_s * (1 + 1e-12))

    def _searched(self, first: Ints, last: Ints, limit_s: Floats) -> Floats:
        """In each case's own block, by halving: how many times are within the limit."""
        low, high = first.copy(), last.copy()
        while (open_cases := low < high).any():
            middle = (low + high) // 2
            within = open_cases & (self._times_s[np.minimum(middle, len(self._times_s) - 1)] <= limit_s)
            low = np.where(within, middle + 1, low)
            high = np.where(open_cases & ~within, middle, high)
        found = np.zeros(len(first))
        some = low > first
        found[some] = self._heaviest[low[some] - 1]
        return found

    def _add(self, kind: int, in_flight: int, power: int) -> None:
        """Make a block."""
        start, stop = np.triu_indices(self.grid.layers, 0)
        stop = stop + 1
        times_s = self.grid.period_s[kind][start, stop]
        fits = self.grid.fits(in_flight, 1 << power)[kind][start, stop] & np.isfinite(times_s)
        done = np.concatenate(([0.0], np.cumsum(self.layer)))
        times_s, weights = times_s[fits], (done[stop] - done[start])[fits]
        order = np.argsort(times_s, kind="stable")
        self._number[kind, in_flight, power] = len(self._ends) - 1
        self._times_s = np.concatenate((self._times_s, times_s[order]))
        self._heaviest = np.concatenate((self._heaviest, np.maximum.accumulate(weights[order])))
        self._ends.append(len(self._times_s))
