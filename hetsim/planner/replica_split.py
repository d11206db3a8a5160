"""The exact best cut of one replica over given places: their kinds are known, their order and the cuts are free.

What is minimised is under every step that 1F1B can make of M microbatches, and near it. Work happens in this order at
least, for every stage k of P: the first microbatch passes forward through all stages, and backward down to stage k; until then
stage k was forward min(M, P - k + 1) times. The rest of its M forwards and M backwards follow one after the other, and after
its last backward a microbatch passes backward through the stages before it. Then the first stage, the last to end, exchanges
what is left of its gradients and is updated. With t for a stage's forward and backward, f for its forward::

    step >= sum of t + sum of links + max over k of [(M - 1) t(k) - min(M - 1, P - k) f(k)] + what follows on the first stage

and a link is as good as a stage there, with the longer of its two messages for t and nothing for f. Under GPipe no backward of
a stage comes before its last forward, so nothing is taken off for f. No stage is used that would alone overrun a step that is
already known: M t(k), what is left of its exchange, and its update.

A stage with w others behind it waits twice for a microbatch to come back from them: for the first before its first backward, for
the last before its last. Under 1F1B, with M > w + 1, it is forward and backward M - 1 - w times in between, so::

    step >= sum of t + sum of links + (M - 1 - w) t(k) + sum of t behind k + what follows on the first stage

Links on the way back do not count. Then that is true of GPipe, too, whose bracket is (M - 1) times the longest t, and 1F1B and
GPipe have one bound. Where the least sum is looked for, they are in the sum, and count less w times the longest of all.

What a stage has left after its last backward also comes after the last microbatch has been forward through all stages and backward
to it, which waits for the M forwards of any stage, under either schedule::

    step >= sum of f + sum over k' >= k of b(k') + (M - 1) max of f + what follows on stage k

and for the brackets of stage k and those behind it, which are over when k is backward for the last time::

    step >= sum of f before k + sum of t from k on + links + max over k' >= k of the bracket of k' + what follows on stage k

Under a limit on the bracket, `shortest_cut` finds the least sum; and it finds the least bracket, which is where limits start. They
are halved from there until the least of limit plus sum is known to `NEAR`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from hetsim.plan import PlainScheduleName
from hetsim.planner.cut_value import fills_evenly, longest_link_s, value_s
from hetsim.planner.shortest_cut import Cut, Found, Shape, best_cut
from hetsim.planner.stage_costs import Floats
from hetsim.planner.stage_grid import StageGrid

NEAR = 2e-3
"""Relative. How far the value that is found may be above the one that is proved."""

STAGES_NEAR = 0.02
"""Relative. How near the step that is assumed for single stages comes to the one that is found."""

GUESS = 1.25
"""Times the work shared perfectly: the limit under which the narrowest cut is looked for first."""


@dataclass(frozen=True, slots=True)
class SplitBounds:
    """What is known of the best cut."""

    low_s: float
    """No cut has a shorter step; infinite where none is possible."""

    high_s: float
    """The value of `cut`."""

    cut: Cut | None


@dataclass(frozen=True)
class ReplicaSplit:
    """One replica of `microbatches` microbatches, whose gradients are exchanged with those of `holders` - 1 others."""

    grid: StageGrid
    microbatches: int
    holders: int = 1
    beside: frozenset[str] = frozenset()
    """Types of single devices among the others."""

    schedule: PlainScheduleName = "1f1b"

    def in_flight(self, behind: int) -> int:
        """The most microbatches that a stage with so many others behind it holds at a time."""
        return self.microbatches if self.schedule == "gpipe" else min(self.microbatches, behind + 1)

    def best(self, shape: Shape, below_s: float = np.inf) -> SplitBounds:
        """The best cut over places of `shape`. Steps from `below_s` on are not looked for: then it is the lower bound, without
        a cut.

        Which stages alone overrun a step depends on the step: where the best is well below the one that was assumed, less is.
        """
        found = self._under(shape, below_s)
        if found.cut is None:
            return found
        low_s, high_s = found.low_s, min(below_s, found.high_s)
        while low_s < high_s * (1 - STAGES_NEAR) and low_s < below_s * (1 - NEAR):
            middle_s = (low_s + high_s) / 2
            tried = self._under(shape, middle_s)
            if tried.low_s >= middle_s:
                low_s = middle_s
            else:
                low_s, high_s, found = max(low_s, tried.low_s), middle_s, tried
        assert found.cut is not None, "a step that is reached has a cut"
        return SplitBounds(low_s, found.high_s, found.cut)

    def within(self, shape: Shape, step_s: float) -> SplitBounds:
        """Any cut over places of `shape` whose value is within `step_s`; the lower bound is `step_s` where there is none.

        Where it cannot be told, as the value of the best is too near, there is no cut, and the lower bound is less.
        """
        problem = _Problem.of(self, shape, step_s)
        if problem is None:
            return SplitBounds(np.inf, np.inf, None)
        found = problem.within(step_s) or problem.search(step_s, any_within=True)
        return found if found.high_s <= step_s else SplitBounds(found.low_s, np.inf, None)

    @cached_property
    def left_s(self) -> Floats:
        """What every stage has left after its last backward."""
        return self.grid.left_s(self.holders, self.beside)

    @cached_property
    def alone_s(self) -> Floats:
        """[kind, start, stop]: what a stage takes if it has to wait for nothing."""
        grid = self.grid
        work_s = grid.first_s + grid.rest_s(self.microbatches)
        return work_s + self.left_s + grid.overhead_s[:, None, None]

    def _under(self, shape: Shape, below_s: float) -> SplitBounds:
        problem = _Problem.of(self, shape, below_s)
        return SplitBounds(np.inf, np.inf, None) if problem is None else problem.search(below_s)


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    split: ReplicaSplit
    shape: Shape
    stage_s: list[Floats]
    """By number of stages behind: [kind, start, stop], infinite where the stage is not possible."""

    bracket_s: list[Floats]
    """By number of stages behind: what the stage has to keep under the limit; infinite likewise."""

    link_bracket_s: Floats
    late_s: Floats | None
    """What a stage has left after its last backward, and the least that forwards before it take; None where nothing is
    exchanged."""

    between_s: list[Floats]
    """By number of stages behind: what the stage computes between the ways back of the first and the last microbatch, less what is
    not of a way back in what it and all behind come to: both together it has to keep under the limit. Minus infinity where all
    microbatches are forward first."""

    @classmethod
    def of(cls, split: ReplicaSplit, shape: Shape, below_s: float) -> _Problem | None:
        grid, count, depth = split.grid, split.microbatches, sum(shape)
        if depth > grid.layers:
            return None
        left_s = split.left_s + grid.overhead_s[:, None, None]
        in_time = split.alone_s <= below_s * (1 + 1e-12)
        rest_s, forward_s = grid.rest_s(count), np.where(np.isfinite(grid.forward_s), grid.forward_s, 0.0)
        longest_s = longest_link_s(grid, [kind for kind, places in enumerate(shape) if places])
        stage_s, bracket_s, between_s = [], [], []
        for behind in range(depth):
            fits = grid.fits(split.in_flight(behind), count)
            seconds = np.where(fits & in_time, grid.first_s, np.inf)
            if behind == depth - 1:
                seconds[:, 0] += np.where(np.isfinite(seconds[:, 0]), left_s[:, 0], 0.0)
                seconds[:, 1:] = np.inf
            else:
                seconds[:, 0] = np.inf
            stage_s.append(seconds)
            ahead = 0 if split.schedule == "gpipe" else min(count - 1, behind)
            bracket_s.append(np.where(np.isfinite(seconds), rest_s - ahead * forward_s, np.inf))
            if split.schedule == "gpipe" or count - 1 <= behind:
                between_s.append(np.full_like(rest_s, -np.inf))
            else:
                own_s = np.where(np.isfinite(seconds), seconds, 0.0)
                between_s.append((count - 1 - behind) / (count - 1) * rest_s - own_s - behind * longest_s)
        longer_s = np.maximum(grid.one_way_s, np.swapaxes(grid.one_way_s, 0, 1))
        link_bracket_s = (count - 1) * np.where(np.isfinite(longer_s), longer_s, 0.0)  # no link: its time is infinite, too
        late_s = None
        if split.holders > 1:
            late_s = split.left_s + _forwards_before_s(grid, shape)[None, :, None]
            late_s[:, 0] = 0.0  # what the first stage has left is in its own seconds
        return cls(split, shape, stage_s, bracket_s, link_bracket_s, late_s, between_s)

    def search(self, below_s: float, *, any_within: bool = False) -> SplitBounds:
        """The best cut. The least possible bracket comes first: it starts the halving, and its cut says what is too long.

        With `any_within` a cut within `below_s` is as good as the best.
        """
        narrow = self._narrowest()
        if narrow is None:
            return SplitBounds(np.inf if below_s == np.inf else below_s, np.inf, None)
        best, least_s = narrow.cut, max(narrow.value, self._least_bracket_s())
        high_s = self._value_s(best)

        def done() -> bool:
            return any_within and high_s <= below_s

        # A cut with a longer bracket than this is no better, as its sum is no less than that of all layers.
        longest_s = min(high_s, below_s) - self._least_sum_s()
        found = self._solve(longest_s * (1 + 1e-12), within_s=below_s, bracket_s=least_s) if longest_s >= least_s else None
        if found is None or done():
            low_s = min(high_s, below_s) if not done() else least_s
            return SplitBounds(low_s, high_s, best)
        if (value_s := self._value_s(found.cut)) < high_s:
            best, high_s = found.cut, value_s
        # No bracket is below the least.
        ranges = [(least_s, self._last(longest_s, found, value_s), found.value)]
        low_s, halved = high_s, True
        while ranges and not done():
            ranges.sort(key=lambda row: -(row[0] + row[2]))
            first, last, sum_s = ranges[-1]
            low_s = min(first + sum_s, high_s)
            if low_s >= min(high_s, below_s) * (1 - NEAR) or last - first < NEAR * 0.1 * max(high_s, 1e-12):
                break
            ranges.pop()
            # By turns the limit under which there is nothing left to find, if no cut is possible, and the middle.
            enough = min(high_s, below_s) * (1 - 0.9 * NEAR) - sum_s
            middle = enough if halved and first < enough < last else (first + last) / 2
            halved = middle != enough
            found = self._solve(middle, within_s=below_s, bracket_s=first)
            if found is not None:
                if (value_s := self._value_s(found.cut)) < high_s:
                    best, high_s = found.cut, value_s
                if (end := self._last(middle, found, value_s)) >= first:
                    ranges.append((first, end, found.value))
            ranges.append((middle, last, sum_s))
        low_s = min(low_s, high_s)
        return SplitBounds(low_s, high_s, best)

    def within(self, step_s: float) -> SplitBounds | None:
        """A cut whose value is within `step_s`, or that there is none; None where that cannot be told so quickly.

        The least sum under a limit on the bracket leaves less for the bracket, which is the next limit.
        """
        sum_s, least_s = self._least_sum_s(), self._least_bracket_s()
        limit_s: float | None = None
        while (room_s := step_s - sum_s) >= least_s * (1 - 1e-12):
            if limit_s is not None and room_s >= limit_s * (1 - 1e-12):
                return None
            limit_s = room_s
            found = self._solve(limit_s * (1 + 1e-12), within_s=step_s, bracket_s=least_s)
            if found is None:
                break
            if (value_s := self._value_s(found.cut)) <= step_s:
                return SplitBounds(sum_s, value_s, found.cut)
            sum_s = found.value
        return SplitBounds(step_s, np.inf, None)

    def _last(self, limit_s: float, found: Found, value_s: float) -> float:
        """The longest bracket that is still of interest, where `found` has the least sum under `limit_s`, and comes to `value_s`.

        If that is bracket and sum, a cut with a longer bracket is no better. Where more counts than they tell, it may be.
        """
        bracket_s = self._bracket_of(found.cut)
        return bracket_s if value_s <= (bracket_s + found.value) * (1 + 1e-12) else limit_s

    def _value_s(self, cut: Cut) -> float:
        """What the cut comes to, all told."""
        split = self.split
        if split.holders == 1 and split.schedule == "gpipe":
            return self._sum_s(cut) + self._bracket_of(cut)
        return float(value_s(split.grid, cut, np.array([split.microbatches]), split.holders, split.beside)[0])

    def _narrowest(self) -> Found | None:
        """The cut with the least largest bracket, first looked for under a limit: short stages are soon worked out."""
        guess_s = GUESS * self._least_bracket_s()
        found = self._solve(guess_s, "largest") if guess_s > 0 else None
        return found or self._solve(np.inf, "largest")

    def _least_bracket_s(self) -> float:
        """Under every bracket: the work of all layers, shared perfectly.

        Whatever each kind's time is weighed by, no cut makes the weighed times of all stages less than the least of each layer. The
        weights are what makes the whole chain weigh the same on every kind.
        """
        kinds = [kind for kind, count in enumerate(self.shape) if count]
        grid = self.split.grid
        layer_s = np.array([grid.layer_s(kind) for kind in kinds])
        whole_s = layer_s.sum(axis=1)
        weight = 1 / np.maximum(np.where(np.isfinite(whole_s), whole_s, whole_s.min()), 1e-12)
        if not np.isfinite(weight).all() or not (weight > 0).all():
            return 0.0
        speed, count = float(np.array(self.shape)[kinds] @ weight), np.array(self.split.microbatches)
        least_s = float((weight[:, None] * layer_s).min(axis=0).sum()) / speed * max(0.0, self._least_ratio())
        if not fills_evenly(np.array(sum(self.shape)), count, weight.min(), weight.max()):
            return least_s
        first_s = np.array([grid.layer_first_s(kind) for kind in kinds])
        return max(least_s, (int(count) - 1) * float((weight[:, None] * first_s).min(axis=0).sum()) / speed)

    def _least_sum_s(self) -> float:
        """Under every sum: each layer on its fastest kind."""
        kinds = [kind for kind, count in enumerate(self.shape) if count]
        layer_s = np.array([self.split.grid.layer_first_s(kind) for kind in kinds]).min(axis=0)
        return float(layer_s.sum())

    def _sum_s(self, cut: Cut) -> float:
        """The sum that goes with a cut."""
        depth = len(cut.kinds)
        stages = zip(cut.kinds, cut.cuts, cut.cuts[1:], strict=False)
        sum_s = sum(float(self.stage_s[depth - 1 - place][stage]) for place, stage in enumerate(stages))
        between = zip(cut.kinds, cut.kinds[1:], cut.cuts[1:], strict=False)
        return sum_s + sum(float(self.split.grid.link_s[link]) for link in between)

    def _bracket_of(self, cut: Cut) -> float:
        """The largest bracket of a cut."""
        depth = len(cut.kinds)
        stages = zip(cut.kinds, cut.cuts, cut.cuts[1:], strict=False)
        largest, come_s = 0.0, 0.0
        for behind, stage in enumerate(reversed(list(stages))):
            come_s += float(self.stage_s[behind][stage])
            largest = max(largest, float(self.bracket_s[behind][stage]), come_s + float(self.between_s[behind][stage]))
            if behind < depth - 1:
                come_s += float(self.split.grid.link_s[cut.kinds[-2 - behind], stage[0], stage[1]])
        between = zip(cut.kinds, cut.kinds[1:], cut.cuts[1:], strict=False)
        return max([largest, *(float(self.link_bracket_s[link]) for link in between)])

    def _least_ratio(self) -> float:
        """The least bracket over the period of any stage."""
        rows = []
        for bracket_s in self.bracket_s:
            finite = np.isfinite(self.split.grid.period_s) & (self.split.grid.period_s > 0)
            rows.append(float((bracket_s[finite] / self.split.grid.period_s[finite]).min(initial=np.inf)))
        return min(rows) if np.isfinite(min(rows)) else 0.0

    def _solve(
        self, limit_s: float, total: Literal["sum", "largest"] = "sum", *, within_s: float = np.inf, bracket_s: float = 0.0
    ) -> Found | None:
        """The cut with the least sum, or the least largest bracket, where no bracket is above `limit_s`.

        Steps are to be within `within_s`, of cuts with a bracket of at least `bracket_s`.
        """
        values = self.stage_s if total == "sum" else self.bracket_s
        allowed = [
            np.where(bracket <= limit_s, value, np.inf) for bracket, value in zip(self.bracket_s, values, strict=True)
        ]
        link_s = self.split.grid.link_s
        if total == "largest":
            link_s = np.where(np.isfinite(link_s), self.link_bracket_s, np.inf)
        room = self._room(limit_s, within_s, bracket_s) if total == "sum" and limit_s < np.inf else None
        return best_cut(self.shape, allowed, np.where(self.link_bracket_s <= limit_s, link_s, np.inf), total, room)

    def _room(self, limit_s: float, within_s: float, bracket_s: float) -> list[Floats]:
        """By number of stages behind: what a stage and all behind it may come to, where no bracket is above `limit_s`; as above."""
        room = [limit_s - seconds for seconds in self.between_s]
        if self.late_s is None or within_s == np.inf:
            return room
        left_s = np.where(np.isfinite(self.late_s), within_s * (1 + 1e-12) - self.late_s, -1.0)  # less than any stage takes
        passed_s = left_s - bracket_s * self.split.grid.least_forward_share
        for behind, (own_s, between_s) in enumerate(zip(self.bracket_s, self.between_s, strict=True)):
            # Before its last backward its own bracket has passed, of either kind, beside what it and all behind come to.
            own_rooms = left_s - own_s, (left_s - between_s) / 2
            room[behind] = np.minimum.reduce((room[behind], passed_s, *own_rooms))
        return room


def _forwards_before_s(grid: StageGrid, shape: Shape) -> Floats:
    """[start]: the least that the forwards of all layers before `start` take."""
    kinds = [kind for kind, count in enumerate(shape) if count]
    layer_s = np.array([np.diagonal(grid.forward_s[kind][:, 1:]) for kind in kinds]).min(axis=0)
    return np.concatenate(([0.0], np.cumsum(layer_s)[:-1]))
