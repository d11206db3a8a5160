"""The search for one pipeline, or plain model parallelism: which devices, in which order, cut where, for how many microbatches.

Every shape (how many places of each kind) with every number of microbatches is a case, with a bound on its step: first the one
that costs nothing (`capacity`), then the exact one (`replica_split`). Cases are solved in the order of their bounds, so that
what is solved when no bound is left below the best plan is all that can matter.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hetsim.costs import CostModel
from hetsim.plan import PlainScheduleName, Plan, Replica, Stage
from hetsim.planner.capacity import shapes_of, size_table
from hetsim.planner.exchange_floor import ExchangeFloor
from hetsim.planner.kinds import Kind, kinds_of
from hetsim.planner.placing import place_by_replica
from hetsim.planner.replica_split import ReplicaSplit
from hetsim.planner.result import Proposal
from hetsim.planner.shortest_cut import Cut, Shape
from hetsim.planner.stage_grid import StageGrid
from hetsim.planner.watch import Watch
from hetsim.workload import Training

MOST_STAGES = 32
"""Longer pipelines are not looked for."""

MOST_SHAPES = 6000
"""Where there are more, neither are some shorter ones."""


def grids_of(costs: CostModel, training: Training, counts: Sequence[int]) -> dict[int, StageGrid]:
    """By number of microbatches that the whole batch is cut into, of those that divide it: what stages cost."""
    kinds, floor, batch = kinds_of(costs), ExchangeFloor(costs), training.global_batch
    return {
        count: StageGrid(costs, training, kinds, batch // count, floor, pipelined=count > 1)
        for count in counts
        if batch % count == 0
    }


@dataclass
class PipelineSearch:
    """The search over one problem."""

    costs: CostModel
    training: Training
    counts: Sequence[int]
    """Numbers of microbatches; those that divide the batch are considered."""

    schedules: Sequence[PlainScheduleName]
    bound_s: float = 0.0
    """No pipeline has a shorter step, as far as the search has come."""

    solved: int = 0
    """Cases that were solved exactly."""

    tried: int = 0
    """Those, and cases that turned out not to be possible."""

    impossible: dict[int, int] = field(default_factory=dict)
    """Number of microbatches -> shapes that the memory or the costs rule out."""

    def run(self, best_s: Callable[[], float], gap: float, most_solved: int, watch: Watch) -> Iterator[Proposal]:
        """Proposals, until no step can be shorter than `best_s()` by more than `gap`, relative, or `most_solved` cases are.

        `bound_s` rises meanwhile.
        """
        queue = list(self._cases(best_s() / (1 + gap)))
        heapq.heapify(queue)
        done_s = np.inf
        # What 1F1B needs of the memory is never more, and its bound holds for GPipe, too.
        schedule: PlainScheduleName = "1f1b" if "1f1b" in self.schedules else "gpipe"
        while queue:
            low_s, _, shape, count = queue[0]
            self.bound_s = min(low_s, done_s, best_s())
            goal_s = best_s() / (1 + gap)
            if low_s >= goal_s or self.solved >= most_solved or watch.over or self.tried >= 10 * most_solved:
                return
            heapq.heappop(queue)
            split = ReplicaSplit(self._grids[count], count, schedule=schedule)
            self.tried += 1
            if (found := split.within(shape, goal_s)).cut is not None:
                self.solved += 1
                found = split.best(shape, goal_s)
            elif goal_s == np.inf:
                self.impossible[count] = self.impossible.get(count, 0) + 1
            done_s = min(done_s, max(low_s, found.low_s))
            if found.cut is not None:
                yield from self._proposals(found.cut, count, found.high_s)
        self.bound_s = min(done_s, best_s())

    @cached_property
    def usable(self) -> list[int]:
        """The numbers of microbatches that divide the batch."""
        return [count for count in dict.fromkeys(self.counts) if self.training.global_batch % count == 0]

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """Places for stages."""
        return kinds_of(self.costs)

    @cached_property
    def shapes(self) -> list[Shape]:
        """Shapes of two stages and more, to as many as there are layers and devices."""
        available = [sum(d.type == kind.device_type for d in self.costs.cluster.devices) for kind in self.kinds]
        limits, widths = [kind.count for kind in self.kinds], [kind.width for kind in self.kinds]
        every = shapes_of(limits, widths, min(self.deepest, MOST_STAGES), MOST_SHAPES)
        return [shape for shape in every if sum(shape) > 1 and self._there(shape, available)]

    @property
    def deepest(self) -> int:
        """The most stages that a pipeline can have."""
        return min(len(self.costs.chain), sum(kind.count for kind in self.kinds if kind.width == 1))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _there(self, shape: Shape, available: Sequence[int]) -> bool:
        """Whether there are as many devices, where several kinds are of one type."""
        used = dict.fromkeys((kind.device_type for kind in self.kinds), 0)
        for kind, places in zip(self.kinds, shape, strict=True):
            used[kind.device_type] += kind.width * places
        there = {kind.device_type: count for kind, count in zip(self.kinds, available, strict=True)}
        return all(used[name] <= there[name] for name in used)

    @cached_property
    def _grids(self) -> dict[int, StageGrid]:
        return grids_of(self.costs, self.training, self.usable)

    def _cases(self, goal_s: float) -> Iterator[tuple[float, int, Shape, int]]:
        """Every shape with every number of microbatches that may be possible, with the least step it may have.

        Where it is soon seen that a step within `goal_s` is not possible, that is the least.
        """
        number = 0
        rows = np.arange(len(self.shapes))
        for count, grid in self._grids.items():
            table = size_table(grid, self.shapes, np.array([count]))
            counts = np.full(len(rows), count)
            held = ~table.holdings.too_many(rows, counts, np.inf)
            late = table.holdings.too_many(rows, counts, goal_s) if np.isfinite(goal_s) else ~held
            least_s = np.where(late, np.maximum(table.least_s[:, -1], goal_s), table.least_s[:, -1])
            for shape, low_s, possible in zip(self.shapes, least_s, held, strict=True):
                number += 1
                if np.isfinite(low_s) and possible:
                    yield float(low_s), number, shape, count
                else:
                    self.impossible[count] = self.impossible.get(count, 0) + 1

    def _proposals(self, cut: Cut, count: int, step_s: float) -> Iterator[Proposal]:
        """The cut under every schedule; with one microbatch they are the same."""
        rows = [[self.kinds[kind] for kind in cut.kinds]]
        places = place_by_replica(self.costs.cluster, rows)
        if places is None:
            return
        stages = tuple(
            Stage(devices[0], start, stop, devices[1:])
            for devices, start, stop in zip(places[0], cut.cuts, cut.cuts[1:], strict=False)
        )
        for schedule in self.schedules if count > 1 else ("gpipe",):
            yield Proposal(Plan((Replica(stages, self.training.global_batch, count),), schedule), step_s)
