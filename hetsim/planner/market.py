"""What devices, links and replicas are worth in samples, if a step is to be possible: the linear programs behind one question.

Their columns are replicas, in fractions: each takes samples, devices, and time of the links that its nodes have (`crossings`). One
program has the replicas that are known to be possible within the step: if they take the batch, so may a plan. The other has one of
every shape, and in it each takes what is still hoped of it: if these do not take the batch, no plan does. Between the two, `hopes`
looks at the shapes that the second makes use of, and finds that what is hoped of them is possible, or too much.

A replica that takes less than its shape could is a mean of two columns: as much as it could, and nothing, with what it uses
whatever it does. Single devices have a column for each share of the batch that they may take; those that take more than their price
are added until there are none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hetsim.planner.hybrid_problem import HybridProblem
from hetsim.planner.known import Known, Others
from hetsim.planner.packing import Prices, relaxed
from hetsim.planner.stage_costs import Bools, Floats, Ints

EXACT = 1e-9
"""Of the batch: a device that takes more than its price by less is not priced in. A thousand of them are within what is sure."""

AT_ONCE = 60
"""Columns that are added at a time."""

NEVER = 1 << 60
"""More microbatches than there are."""


@dataclass(frozen=True, slots=True, eq=False)
class _Uses:
    """What replicas of several stages use: [column, row], whatever they do, and for each sample."""

    shapes: Ints
    """[column]: the shape; there are as many columns of one as ways to count what it puts on links."""

    fixed: Floats
    sample: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """Replicas of several stages, as columns of a program."""

    shapes: Ints
    samples: Floats
    rows: Floats
    """[column, row]: what they use."""

    there: Bools
    """Whether they are possible."""


@dataclass
class Market:
    """The replicas of a plan, as many as `others` says at least and up to `replicas`, within a step of `step_s`."""

    problem: HybridProblem
    known: Known
    others: Others
    banned: frozenset[int]
    """Kinds of which no replica is a single device."""

    replicas: int
    step_s: float
    _active: Bools | None = None
    _shares: list[tuple[int, int]] = field(default_factory=list)
    """Single devices that are columns: their kinds, and their shares of the batch."""

    def possible(self) -> tuple[float, tuple[int, ...]]:
        """The most samples that replicas take which are known, and the kinds of single devices among these."""
        samples = np.zeros(len(self.problem.shapes))
        for cut, count in self.known.best(self.step_s, self.others):
            samples[cut.row] = count * cut.grid.microbatch
        prices, _, alone = self._priced(samples)
        return prices.most, alone

    def hoped(self, most: Ints) -> tuple[Prices, Ints]:
        """The prices of what there is, if `most[shape, size]` microbatches are possible, and the shapes that are made use of.

        No plan takes more samples than these prices come to.
        """
        there = np.where(most >= self._least[:, None], most * self.problem.own, 0)
        prices, shapes, _ = self._priced(there.max(axis=1, initial=0).astype(float))
        return prices, shapes

    def offers(self, most: Ints, prices: Prices) -> tuple[Ints, Floats]:
        """[shape, size]: the fewest microbatches that are more than their price, and by how much `most` are, for each device."""
        uses, own = self._uses, self.problem.own
        price = prices.of(uses.fixed, required=True)
        worth = 1 - uses.sample @ prices.device
        needed, excess = np.full(most.shape, NEVER), np.full(most.shape, -np.inf)
        for size in range(len(own)):
            gain = own[size] * worth
            more = np.divide(price * (1 + 1e-12), gain, out=np.full(len(price), float(NEVER)), where=gain > 0)
            counts = np.floor(np.clip(more, 0, NEVER / 2)).astype(np.int64) + 1
            np.minimum.at(needed[:, size], uses.shapes, counts)
            np.maximum.at(excess[:, size], uses.shapes, most[uses.shapes, size] * gain - price)
        devices = self.problem.usage[: len(most)].sum(axis=1)
        return np.maximum(self._least[:, None], needed), excess / devices[:, None]

    # --- inside ------------------------------------------------------------------------------------------------------

    def _priced(self, samples: Floats) -> tuple[Prices, Ints, tuple[int, ...]]:
        """The program where replicas of each shape take so many `samples`, or less: its prices, and what is made use of, shapes and
        kinds of single devices.

        Most columns are never worth their price: only those are solved with that were, at the prices without them.
        """
        columns = self._columns(samples)
        while True:
            prices, shapes, alone = self._solved(columns)
            more = self._add_columns(columns, prices)
            if not self._add_shares(prices) and not more:
                return prices, shapes, alone

    def _columns(self, samples: Floats) -> _Columns:
        uses = self._uses
        taken = samples[uses.shapes]
        rows = uses.fixed + uses.sample * taken[:, None]
        if not self.problem.crossings.matter:
            return _Columns(uses.shapes, taken, rows, taken > 0)
        idle = np.concatenate((taken, np.zeros(len(taken))))
        return _Columns(np.tile(uses.shapes, 2), idle, np.vstack((rows, uses.fixed)), np.tile(taken > 0, 2))

    def _solved(self, columns: _Columns) -> tuple[Prices, Ints, tuple[int, ...]]:
        there = np.flatnonzero(columns.there & self._wanted(columns))
        rows = [columns.rows[there], *(self._alone[kind][1][share, None] for kind, share in self._shares)]
        capacities = np.concatenate((columns.samples[there], [float(share) for _, share in self._shares]))
        room = [*self.problem.available, *self.problem.crossings.room_s(self.step_s)]
        prices, amounts = relaxed(capacities, np.vstack(rows), room, self.replicas, len(there), self.others.holders)
        used = amounts > 0
        alone = {kind for (kind, _), taken in zip(self._shares, used[len(there) :], strict=True) if taken}
        return prices, np.unique(columns.shapes[there[used[: len(there)]]]), tuple(sorted(alone))

    def _wanted(self, columns: _Columns) -> Bools:
        """[column]: whether it is solved with; first those that take most for each device."""
        if self._active is None:
            devices = self.problem.usage[: len(self.problem.shapes)].sum(axis=1)[columns.shapes]
            self._active = np.zeros(len(devices), dtype=bool)
            self._active[np.argsort(-columns.samples / devices, kind="stable")[:AT_ONCE]] = True
        return self._active

    def _add_columns(self, columns: _Columns, prices: Prices) -> bool:
        """Solve with those, too, that take most beyond their price; whether there were any."""
        wanted = self._wanted(columns)
        excess = np.where(columns.there & ~wanted, columns.samples - prices.of(columns.rows, required=True), -np.inf)
        best = np.argsort(-excess, kind="stable")[:AT_ONCE]
        more = best[excess[best] > EXACT * self.problem.training.global_batch]
        wanted[more] = True
        return bool(len(more))

    def _add_shares(self, prices: Prices) -> bool:
        """Take in those shares of single devices, one of each kind, that take most beyond their price; whether there were any."""
        before = len(self._shares)
        for kind, (possible, uses) in self._alone.items():
            excess = np.where(possible, np.arange(len(possible)) - prices.of(uses, required=False), -np.inf)
            share = int(excess.argmax())
            if excess[share] > EXACT * self.problem.training.global_batch and (kind, share) not in self._shares:
                self._shares.append((kind, share))
        return len(self._shares) > before

    @cached_property
    def _uses(self) -> _Uses:
        devices = self.problem.usage[: len(self.problem.shapes)].astype(float)
        if not self.problem.crossings.matter:
            return _Uses(np.arange(len(devices)), devices, np.zeros_like(devices))
        shapes, fixed, sample = [], [], []
        for way in self.problem.crossings.ways(self.others):
            shapes.append(way.shapes)
            fixed.append(np.hstack((devices[way.shapes], way.fixed_s)))
            each = np.concatenate((np.zeros(devices.shape[1]), way.sample_s))
            sample.append(np.tile(each, (len(way.shapes), 1)))
        return _Uses(np.concatenate(shapes), np.vstack(fixed), np.vstack(sample))

    @cached_property
    def _alone(self) -> dict[int, tuple[Bools, Floats]]:
        """By kind of a single device: whether each share is possible, and what it uses."""
        problem, found = self.problem, {}
        for kind, cost_s in problem.alone_at_least_s(self.others).items():
            if kind not in self.banned:
                devices = np.tile(problem.usage[len(problem.shapes) + kind].astype(float), (len(cost_s), 1))
                links = problem.crossings.of_alone(kind, problem.alone_begins_s[kind], self.others)
                uses = np.hstack((devices, links)) if problem.crossings.matter else devices
                found[kind] = cost_s <= self.step_s, uses
        return found

    @cached_property
    def _least(self) -> Ints:
        """[shape]: the fewest microbatches; a group of devices alone may take its share at once."""
        return np.array([2 if sum(shape) > 1 else 1 for shape in self.problem.shapes], dtype=np.int64)
