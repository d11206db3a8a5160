"""The cheapest contiguous cut of a chain over unlike devices in free order, when no stage may take longer than a limit.

Dynamic programming from the end of the chain: `best[u, h, j]` is the least sum of stage and link times with which
layers j to the end can be placed on u[p] devices of each pool p, the first of these stages on pool h. A stage [j, i)
on pool h is put before a placement of the layers from i on u - e_h. Going backwards, the number of stages behind a
new one is known, and with it the microbatches that 1F1B keeps in flight there: memory is an exact constraint on each
stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hetsim.plan import ScheduleName, Stage
from hetsim.planner.device_counts import Level, levels_of
from hetsim.planner.pools import Pool, pick
from hetsim.planner.stage_costs import Bools, Floats
from hetsim.planner.stage_table import StageTable


@dataclass(frozen=True, slots=True)
class Placement:
    """Stages on pools, and what one microbatch takes on them."""

    pools: tuple[int, ...]
    """Index of the pool of each stage."""

    cuts: tuple[int, ...]
    """Start of each stage, and the end of the last: 0, …, layers."""

    bottleneck_s: float
    """The slowest stage or link."""

    sum_s: float
    """All stages and links, and the start and update of the first stage."""

    def stages(self, pools: Sequence[Pool]) -> tuple[Stage, ...]:
        """The stages on devices of `pools`."""
        runs = zip(pick(pools, self.pools), self.cuts, self.cuts[1:], strict=False)
        return tuple(Stage(name, start, stop) for name, start, stop in runs)


@dataclass(frozen=True)
class StageSearch:
    """The dynamic programme over one table of stages, under one schedule."""

    table: StageTable
    schedule: ScheduleName

    def solve(self, limit_s: float, depth: int) -> Solution:
        """The cheapest placements on 1 to `depth` devices in which no stage or link takes longer than `limit_s`."""
        allowed = self.table.stage_s <= limit_s
        widest = int(np.flatnonzero(allowed.any(axis=(0, 2))).max(initial=-1)) + 1
        stage_s = np.where(allowed, self.table.stage_s + self.table.first_s, np.inf)[:, :widest]
        link_s = np.pad(np.where(self.table.link_s <= limit_s, self.table.link_s, np.inf), ((0, 0), (0, 0), (0, widest)))
        bands: list[Floats] = []
        levels: list[Floats] = []
        for level, fits in enumerate(self._fits_by_level[:depth]):
            same = level > 0 and fits is self._fits_by_level[level - 1]
            bands.append(bands[-1] if same else np.where(fits[:, :widest], stage_s, np.inf))
            levels.append(self._next_level(level, levels[-1], bands[-1], link_s) if level else self._first_level(bands[0]))
        return Solution(self, tuple(levels), tuple(bands), link_s)

    @cached_property
    def counts(self) -> tuple[Level, ...]:
        """The ways to choose 1, 2, … devices by pool."""
        return levels_of([len(pool) for pool in self.table.pools], self.table.depth)

    @cached_property
    def _fits_by_level(self) -> tuple[Bools, ...]:
        table, count = self.table, self.table.microbatches
        in_flight = [count if self.schedule == "gpipe" else min(count, level + 1) for level in range(table.depth)]
        by_number = {number: table.fits(number) for number in dict.fromkeys(in_flight)}
        return tuple(by_number[number] for number in in_flight)

    def _first_level(self, band: Floats) -> Floats:
        """The last stage of the chain alone."""
        best = self._nothing(0, band)
        lengths = np.arange(1, band.shape[1] + 1)
        starts = self.table.layers - lengths
        for pool, (rows, _) in enumerate(self.counts[0].one_less):
            best[rows[:, None], pool, starts] = band[pool, lengths - 1, starts]
        return best

    def _next_level(self, level: int, behind: Floats, band: Floats, link_s: Floats) -> Floats:
        """One stage more in front of the placements `behind`."""
        best = self._nothing(level, band)
        layers, widest = self.table.layers, band.shape[1]
        for pool, (rows, rows_behind) in enumerate(self.counts[level].one_less):
            joined = (behind[rows_behind] + link_s[pool]).min(axis=1)
            cheapest = np.full((len(rows), layers), np.inf)
            total = np.empty_like(cheapest)
            for length in range(1, widest + 1):
                # A stage of this length at every start; what stands behind starts at its end.
                np.add(joined[:, length : length + layers], band[pool, length - 1], out=total)
                np.minimum(cheapest, total, out=cheapest)
            best[rows, pool, :layers] = cheapest
        return best

    def _nothing(self, level: int, band: Floats) -> Floats:
        """A table without placements, [row, pool, start]; starts behind the chain, as far as a stage is long, stay so."""
        shape = (len(self.counts[level].rows), len(self.table.pools), self.table.layers + 1 + band.shape[1])
        return np.full(shape, np.inf)


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """The cheapest placements under a limit, by number of stages."""

    search: StageSearch
    levels: tuple[Floats, ...]
    bands: tuple[Floats, ...]
    link_s: Floats

    def sum_s(self, stages: int) -> float:
        """The least sum with `stages` stages; infinite where there is none."""
        return float(self.levels[stages - 1][:, :, 0].min())

    def placement(self, stages: int) -> Placement:
        """The placement of that least sum, read back from the tables."""
        table, start, level = self.search.table, 0, stages - 1
        whole = self.levels[level][:, :, 0]
        row, pool = (int(index) for index in np.unravel_index(whole.argmin(), whole.shape))
        pools, cuts, times = [pool], [0], [0.0]
        while level > 0:
            with_it, without = self.search.counts[level].one_less[pool]
            row = int(without[np.searchsorted(with_it, row)])
            stops = np.arange(start + 1, min(start + self.bands[level].shape[1], table.layers) + 1)
            stage_s = self.bands[level][pool, stops - start - 1, start]
            totals = self.levels[level - 1][row][:, stops] + self.link_s[pool][:, stops] + stage_s
            behind, place = (int(index) for index in np.unravel_index(totals.argmin(), totals.shape))
            stop = int(stops[place])
            times += [table.stage_s[pool, place, start], table.link_s[pool, behind, stop]]
            pools.append(behind)
            cuts.append(stop)
            pool, start, level = behind, stop, level - 1
        times.append(table.stage_s[pool, table.layers - start - 1, start])
        return Placement(tuple(pools), (*cuts, table.layers), float(max(times)), self.sum_s(stages))
