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

Under a limit on the bracket, dynamic programming from the end of the chain finds the least sum: `best[u][h, j]` for layers from j
on, on the places u, the first of which is of kind h. How many stages follow a new one is then known, so that its bracket and its
memory are, too. Limits are halved until the least of limit plus sum is known to `NEAR`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product

import numpy as np

from hetsim.plan import PlainScheduleName
from hetsim.planner.stage_costs import Floats
from hetsim.planner.stage_grid import StageGrid

NEAR = 2e-3
"""Relative. How far the value that is found may be above the one that is proved."""

STAGES_NEAR = 0.02
"""Relative. How near the step that is assumed for single stages comes to the one that is found."""

Shape = tuple[int, ...]
"""How many places of each kind a replica has."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Stages on kinds, in order."""

    kinds: tuple[int, ...]
    cuts: tuple[int, ...]
    """Start of each stage, and the end of the last: 0, …, layers."""


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
    whole: bool = False
    """Whether one of the others is a single device."""

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
        low_s, high_s = found.low_s, min(below_s, max(found.high_s, self._slowest_alone_s(found.cut)))
        while low_s < high_s * (1 - STAGES_NEAR) and low_s < below_s * (1 - NEAR) and high_s > found.high_s:
            middle_s = (low_s + high_s) / 2
            tried = self._under(shape, middle_s)
            if tried.low_s >= middle_s:
                low_s = middle_s
            else:
                low_s, high_s, found = max(low_s, tried.low_s), middle_s, tried
        assert found.cut is not None, "a step that is reached has a cut"
        return SplitBounds(low_s, max(found.high_s, self._slowest_alone_s(found.cut)), found.cut)

    @cached_property
    def left_s(self) -> Floats:
        """What every stage has left after its last backward."""
        return self.grid.left_s(self.holders, whole=self.whole)

    @cached_property
    def alone_s(self) -> Floats:
        """[kind, start, stop]: what a stage takes if it has to wait for nothing."""
        grid = self.grid
        work_s = grid.first_s + grid.rest_s(self.microbatches)
        return work_s + self.left_s + grid.overhead_s[:, None, None]

    def _slowest_alone_s(self, cut: Cut) -> float:
        return max(float(self.alone_s[stage]) for stage in zip(cut.kinds, cut.cuts, cut.cuts[1:], strict=False))

    def _under(self, shape: Shape, below_s: float) -> SplitBounds:
        problem = _Problem.of(self, shape, below_s)
        return SplitBounds(np.inf, np.inf, None) if problem is None else problem.search(below_s)


def value_s(grid: StageGrid, cut: Cut, most: int, holders: int, *, whole: bool = False) -> Floats:
    """What is minimised, for one cut and 0 to `most` microbatches; infinite where the memory does not hold them, and for none.

    No less than what any of its stages takes alone.
    """
    counts = np.arange(most + 1)
    extra = counts - 1
    stages = list(zip(cut.kinds, cut.cuts, cut.cuts[1:], strict=False))
    every_left_s = grid.left_s(holders, whole=whole)
    left_s = [float(every_left_s[stage] + grid.overhead_s[stage[0]]) for stage in stages]
    sum_s = float(sum(grid.first_s[stage] for stage in stages)) + left_s[0]
    bracket_s, alone_s = np.zeros(most + 1), np.zeros(most + 1)
    for number, stage in enumerate(stages):
        behind = len(stages) - 1 - number
        alone_s = np.maximum(alone_s, grid.first_s[stage] + extra * grid.period_s[stage] + left_s[number])
        own_s = extra * grid.period_s[stage] - np.minimum(extra, behind) * grid.forward_s[stage]
        own_s[~grid.fits_counts(*stage, np.minimum(counts, behind + 1), counts)] = np.inf
        bracket_s = np.maximum(bracket_s, own_s)
    for (a, _, stop), (b, _, _) in pairwise(stages):
        sum_s += float(grid.link_s[a, b, stop])
        bracket_s = np.maximum(bracket_s, extra * max(grid.one_way_s[a, b, stop], grid.one_way_s[b, a, stop]))
    seconds: Floats = np.maximum(sum_s + bracket_s, alone_s)
    seconds[0] = np.inf
    return seconds


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    grid: StageGrid
    shape: Shape
    stage_s: list[Floats]
    """By number of stages behind: [kind, start, stop], infinite where the stage is not possible."""

    bracket_s: list[Floats]
    """By number of stages behind: what the stage has to keep under the limit."""

    link_bracket_s: Floats

    @classmethod
    def of(cls, split: ReplicaSplit, shape: Shape, below_s: float) -> _Problem | None:
        grid, count, depth = split.grid, split.microbatches, sum(shape)
        if depth > grid.layers:
            return None
        left_s = split.left_s + grid.overhead_s[:, None, None]
        in_time = split.alone_s < below_s
        stage_s, bracket_s = [], []
        for behind in range(depth):
            fits = grid.fits(split.in_flight(behind), count)
            seconds = np.where(fits & in_time, grid.first_s, np.inf)
            if behind == depth - 1:
                seconds[:, 0] += np.where(np.isfinite(seconds[:, 0]), left_s[:, 0], 0.0)
                seconds[:, 1:] = np.inf
            else:
                seconds[:, 0] = np.inf
            stage_s.append(seconds)
            forward_s = np.where(np.isfinite(grid.forward_s), grid.forward_s, 0.0)
            ahead = 0 if split.schedule == "gpipe" else min(count - 1, behind)
            bracket_s.append(grid.rest_s(count) - ahead * forward_s)
        longer_s = np.maximum(grid.one_way_s, np.swapaxes(grid.one_way_s, 0, 1))
        link_bracket_s = (count - 1) * np.where(np.isfinite(longer_s), longer_s, 0.0)  # no link: its time is infinite, too
        return cls(grid, shape, stage_s, bracket_s, link_bracket_s)

    def search(self, below_s: float) -> SplitBounds:
        solution = self._solve(np.inf)
        if solution is None:
            return SplitBounds(np.inf if below_s == np.inf else below_s, np.inf, None)
        sum_s, cut, bracket_s = solution
        best, high_s = cut, sum_s + bracket_s
        # Limits above a placement's own bracket change nothing, and none below zero allows more than zero does.
        ranges = [(min(self._least_bracket_s(), bracket_s), bracket_s, sum_s)]
        low_s = high_s
        while ranges:
            ranges.sort(key=lambda row: -(row[0] + row[2]))
            first, last, sum_s = ranges[-1]
            low_s = min(first + sum_s, high_s)
            if low_s >= min(high_s, below_s) * (1 - NEAR) or last - first < NEAR * 0.1 * max(high_s, 1e-12):
                break
            ranges.pop()
            middle = (first + last) / 2
            solution = self._solve(middle)
            if solution is not None:
                under_s, cut, bracket_s = solution
                if under_s + bracket_s < high_s:
                    best, high_s = cut, under_s + bracket_s
                if bracket_s >= first:
                    ranges.append((first, bracket_s, under_s))
            ranges.append((middle, last, sum_s))
        low_s = min(low_s, high_s)
        return SplitBounds(low_s, high_s, best)

    def _least_bracket_s(self) -> float:
        """Under every bracket: the work of all layers, each on its fastest place, shared perfectly."""
        kinds = [kind for kind, count in enumerate(self.shape) if count]
        layer_s = np.array([self.grid.layer_s(kind) for kind in kinds])
        ratio = self._least_ratio()
        return float(layer_s.min(axis=0).sum()) / sum(self.shape) * max(0.0, ratio)

    def _least_ratio(self) -> float:
        """The least bracket over the period of any stage."""
        rows = []
        for bracket_s in self.bracket_s:
            finite = np.isfinite(self.grid.period_s) & (self.grid.period_s > 0)
            rows.append(float((bracket_s[finite] / self.grid.period_s[finite]).min(initial=np.inf)))
        return min(rows) if np.isfinite(min(rows)) else 0.0

    def _solve(self, limit_s: float) -> tuple[float, Cut, float] | None:
        """The least sum where no bracket is above `limit_s`, its placement, and that one's largest bracket."""
        depth, layers, kinds = sum(self.shape), self.grid.layers, len(self.shape)
        link_s = np.where(self.link_bracket_s <= limit_s, self.grid.link_s, np.inf)
        allowed = [
            np.where(bracket <= limit_s, stage, np.inf) for stage, bracket in zip(self.stage_s, self.bracket_s, strict=True)
        ]
        levels: list[dict[Shape, Floats]] = []
        for behind in range(depth):
            rows: dict[Shape, Floats] = {}
            for used in _within(self.shape, behind + 1):
                best = np.full((kinds, layers + 1), np.inf)
                for kind in range(kinds):
                    if not used[kind]:
                        continue
                    if behind == 0:
                        best[kind, :layers] = allowed[0][kind, :, layers]
                    else:
                        joined = (levels[-1][_less(used, kind)] + link_s[kind]).min(axis=0)
                        if behind == depth - 1:
                            best[kind, 0] = (allowed[behind][kind, 0] + joined).min()
                        else:
                            best[kind, :layers] = (allowed[behind][kind] + joined).min(axis=1)
                rows[used] = best
            levels.append(rows)
        kind = int(levels[-1][self.shape][:, 0].argmin())
        sum_s = float(levels[-1][self.shape][kind, 0])
        if not np.isfinite(sum_s):
            return None
        return sum_s, *self._read(levels, allowed, link_s, kind)

    def _read(
        self, levels: list[dict[Shape, Floats]], allowed: list[Floats], link_s: Floats, kind: int
    ) -> tuple[Cut, float]:
        """The placement behind the least sum, and its largest bracket."""
        used, start, kinds, cuts, largest = self.shape, 0, [kind], [0], 0.0
        for behind in range(len(levels) - 1, -1, -1):
            if behind == 0:
                stop = self.grid.layers
            else:
                used = _less(used, kind)
                totals = levels[behind - 1][used] + link_s[kind] + allowed[behind][kind, start]
                after, stop = (int(index) for index in np.unravel_index(totals.argmin(), totals.shape))
                largest = max(largest, float(self.link_bracket_s[kind, after, stop]))
            largest = max(largest, float(self.bracket_s[behind][kind, start, stop]))
            cuts.append(stop)
            if behind:
                kinds.append(after)
                kind, start = after, stop
        return Cut(tuple(kinds), tuple(cuts)), largest


def _within(shape: Shape, total: int) -> Iterator[Shape]:
    """The ways to take `total` places of `shape`."""
    return (used for used in product(*(range(count + 1) for count in shape)) if sum(used) == total)


def _less(shape: Shape, kind: int) -> Shape:
    return (*shape[:kind], shape[kind] - 1, *shape[kind + 1 :])
