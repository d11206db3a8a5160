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

    impossible: dict[int, int] = field(default_factory=dict)
    """Number of microbatches -> shapes that the memory or the costs rule out."""

    def run(self, best_s: Callable[[], float], gap: float, most_solved: int, watch: Watch) -> Iterator[Proposal]:
        """Proposals, until no step can be shorter than `best_s()` by more than `gap`, relative, or `most_solved` cases are.

        `bound_s` rises meanwhile.
        """
        queue = list(self._cases())
        heapq.heapify(queue)
        open_s, tried = np.inf, 0
        while queue:
            low_s, number, shape, count, exact = heapq.heappop(queue)
            self.bound_s = min(low_s, open_s, best_s())
            if low_s >= best_s() / (1 + gap) or self.solved >= most_solved or watch.over or tried >= 10 * most_solved:
                return
            if exact:
                open_s = min(open_s, low_s)  # solved, proposed, and still under the best: the bound stays there
                continue
            # What 1F1B needs of the memory is never more, and its bound holds for GPipe, too.
            schedule: PlainScheduleName = "1f1b" if "1f1b" in self.schedules else "gpipe"
            found = ReplicaSplit(self._grids[count], count, schedule=schedule).best(shape)
            tried += 1
            if found.cut is None:
                self.impossible[count] = self.impossible.get(count, 0) + 1
                continue
            self.solved += 1
            heapq.heappush(queue, (max(low_s, found.low_s), number, shape, count, True))
            yield from self._proposals(found.cut, count, found.high_s)
        self.bound_s = min(open_s, best_s())

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
        depth = min(len(self.costs.chain), len(self.costs.cluster.devices), MOST_STAGES)
        limits, widths = [kind.count for kind in self.kinds], [kind.width for kind in self.kinds]
        every = shapes_of(limits, widths, depth, MOST_SHAPES)
        return [shape for shape in every if sum(shape) > 1 and self._there(shape, available)]

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
        floor, batch = ExchangeFloor(self.costs), self.training.global_batch
        return {
            count: StageGrid(self.costs, self.training, self.kinds, batch // count, floor, pipelined=count > 1)
            for count in self.usable
        }

    def _cases(self) -> Iterator[tuple[float, int, Shape, int, bool]]:
        number = 0
        for count, grid in self._grids.items():
            table = size_table(grid, self.shapes, np.array([count]))
            for shape, low_s in zip(self.shapes, table.least_s[:, -1], strict=True):
                number += 1
                if np.isfinite(low_s):
                    yield float(low_s), number, shape, count, False
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
