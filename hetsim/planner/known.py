"""What a search has found out about single replicas: cuts that are possible, and numbers of microbatches that are not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from hetsim.planner.cut_value import value_s
from hetsim.planner.shortest_cut import Cut
from hetsim.planner.stage_costs import Floats, Ints
from hetsim.planner.stage_grid import StageGrid


@dataclass(frozen=True, slots=True)
class Others:
    """What is assumed of the replicas of a plan."""

    holders: int
    """How many there are at least."""

    single_types: frozenset[str] = frozenset()
    """Types of the devices among them that hold the whole chain."""

    def covers(self, other: Others) -> bool:
        """Whether what is not possible under these assumptions is not possible under those of `other` either."""
        return self.holders <= other.holders and self.single_types <= other.single_types


@dataclass(frozen=True, eq=False)
class KnownCut:
    """A cut that a replica of a shape may have, at one microbatch size."""

    row: int
    """Of the shape."""

    grid: StageGrid
    cut: Cut
    most: int
    """Microbatches that are thought of."""

    _steps_s: dict[Others, Floats] = field(default_factory=dict, init=False)

    def microbatches(self, step_s: float, others: Others) -> int:
        """How many are done within `step_s`."""
        if others not in self._steps_s:
            counts = np.arange(1, self.most + 1)
            seconds = value_s(self.grid, self.cut, counts, others.holders, others.single_types)
            self._steps_s[others] = np.maximum.accumulate(seconds)
        return int(np.searchsorted(self._steps_s[others], step_s, side="right"))


@dataclass(frozen=True, slots=True)
class _TooMany:
    """No cut takes so many microbatches within a step."""

    row: int
    size: int
    count: int
    step_s: float
    others: Others


@dataclass
class Known:
    """All that was found out."""

    cuts: dict[tuple[int, int, Cut], KnownCut] = field(default_factory=dict)
    """By row of the shape, number of the microbatch size, and cut."""

    too_many: list[_TooMany] = field(default_factory=list)
    _by_shape: dict[tuple[int, int], list[KnownCut]] = field(default_factory=lambda: defaultdict(list))

    def most(self, row: int, size: int, step_s: float, others: Others) -> int:
        """Microbatches that some cut of a shape is known to do within `step_s`."""
        return max((cut.microbatches(step_s, others) for cut in self._by_shape[row, size]), default=0)

    def add(self, size: int, found: KnownCut) -> KnownCut:
        """Take in a cut; the same one, where it is known already."""
        key = found.row, size, found.cut
        if key not in self.cuts:
            self.cuts[key] = found
            self._by_shape[found.row, size].append(found)
        return self.cuts[key]

    def rule_out(self, row: int, size: int, count: int, step_s: float, others: Others) -> None:
        """Take in that no cut takes `count` microbatches within `step_s`."""
        self.too_many.append(_TooMany(row, size, count, step_s, others))

    def limit(self, most: Ints, step_s: float, others: Others) -> Ints:
        """`most[row, size]` microbatches, less where that many are known not to be possible within `step_s`."""
        limited = most.copy()
        for fact in self.too_many:
            if fact.step_s >= step_s and fact.others.covers(others):
                limited[fact.row, fact.size] = min(limited[fact.row, fact.size], fact.count - 1)
        return limited

    def best(self, step_s: float, others: Others) -> Iterator[tuple[KnownCut, int]]:
        """By shape: the cut that takes most samples within `step_s`, and its microbatches."""
        found: dict[int, tuple[int, int, KnownCut]] = {}
        for cut in self.cuts.values():
            count = cut.microbatches(step_s, others)
            samples = count * cut.grid.microbatch
            if count and samples > found.get(cut.row, (0,))[0]:
                found[cut.row] = (samples, count, cut)
        for _, (_, count, cut) in sorted(found.items()):
            yield cut, count
