"""Which limit on the slowest stage is best: the exact minimum of (M - 1) * slowest + sum, for each number of stages.

For a limit on the slowest stage or link, `StageSearch` finds the least sum; the limits worth trying are the values
that stages and links take. Ranges of them are searched best first. Within a range, the objective is at least (M - 1)
times the lowest limit plus the least sum under the highest, or a floor under it, because a higher limit only adds
placements. A range whose bound is no better than what is known is dropped unseen; the others are solved at their
middle and halved.
"""

from __future__ import annotations

import heapq

import numpy as np

from hetsim.planner.stage_costs import Floats
from hetsim.planner.stage_dp import Placement, StageSearch

SLACK = 1.15
"""A number of stages whose objective cannot come within so many times the best is not followed further."""

NEAR = 0.01
"""Relative. How near the best for one number of stages has to be to its own optimum, where it is not the best of all."""

ROUNDING = 1e-9
"""Relative. Improvements below it are not looked for, so that rounding does not keep the search busy."""


def best_placements(search: StageSearch) -> dict[int, list[Placement]]:
    """For each number of stages from two, the placements met on the way to the best, best first.

    The best of all is exact; the first of every other number of stages that comes within `SLACK` of it is exact to `NEAR`.
    """
    return _LimitSearch(search).run()


class _LimitSearch:
    def __init__(self, search: StageSearch) -> None:
        self.search = search
        self.table = search.table
        self.extra = self.table.microbatches - 1
        # With one microbatch only the sum counts, and it is least without a limit.
        self.limits = self.table.limits_s if self.extra else self.table.limits_s[-1:]
        self.found: dict[int, list[Placement]] = {}

    def run(self) -> dict[int, list[Placement]]:
        ranges: list[tuple[float, int, int, Floats]] = []
        if len(self.limits) and self.table.depth > 1:
            ranges.append((0.0, 0, len(self.limits) - 1, self._floors()))
        while ranges:
            _, low, high, floors = heapq.heappop(ranges)
            active = self._active(low, floors)
            if not active:
                continue
            middle = (low + high) // 2
            sums, next_high = self._try(low, middle, active)
            for first, last, under in ((low, next_high, sums), (middle + 1, high, floors)):
                if first <= last and (left := self._active(first, under)):
                    bound = min(self.extra * self.limits[first] + under[stages] for stages in left)
                    heapq.heappush(ranges, (float(bound), first, last, under))
        return {stages: self.found[stages] for stages in sorted(self.found)}

    def _try(self, low: int, middle: int, active: list[int]) -> tuple[Floats, int]:
        """Solve at limit `middle`: the least sum by number of stages, and the last limit below where one may be larger."""
        solution = self.search.solve(float(self.limits[middle]), max(active))
        sums = np.full(self.table.depth + 1, np.inf)
        next_high = low - 1
        for stages in active:
            sums[stages] = solution.sum_s(stages)
            if self.extra * self.limits[low] + sums[stages] < self._cutoff(stages):
                placement = solution.placement(stages)
                self._keep(stages, placement)
                # Down to its own slowest stage the placement stays the cheapest.
                next_high = max(next_high, int(np.searchsorted(self.limits, placement.bottleneck_s)) - 1)
        return sums, next_high

    def _active(self, low: int, floors: Floats) -> list[int]:
        """Numbers of stages that may still improve at limits from `low`, with sums not below `floors`."""
        bounds = self.extra * self.limits[low] + floors
        return [stages for stages in range(2, self.table.depth + 1) if bounds[stages] < self._cutoff(stages)]

    def _cutoff(self, stages: int) -> float:
        """What an objective has to stay below to be worth finding."""
        best = min((self._objective_s(placements[0]) for placements in self.found.values()), default=np.inf)
        own = self._objective_s(self.found[stages][0]) if stages in self.found else np.inf
        return max(best * (1 - ROUNDING), min(own * (1 - NEAR), best * SLACK))

    def _keep(self, stages: int, placement: Placement) -> None:
        rows = self.found.setdefault(stages, [])
        if placement not in rows:
            rows.append(placement)
            rows.sort(key=self._objective_s)

    def _objective_s(self, placement: Placement) -> float:
        return self.extra * placement.bottleneck_s + placement.sum_s

    def _floors(self) -> Floats:
        """Under the least sum for each number of stages: what any placement takes, were every layer on its fastest type."""
        if self.table.memory_binds:
            solution = self.search.solve(np.inf, self.table.depth)
            return np.array([0.0, *(solution.sum_s(stages) for stages in range(1, self.table.depth + 1))])
        return np.full(self.table.depth + 1, self.table.at_size.layer_s(self.table.microbatches).min(axis=0).sum())
