"""The exact contiguous layer split over unlike devices, for pipelines and plain model parallelism.

What is minimised, with M microbatches, is the usual estimate of a pipeline's step (Huang et al. 2019; Narayanan et
al. 2021)::

    (M - 1) * slowest + sum of stages + sum of links + start and update of the first stage

`slowest` is the slowest stage or link; a stage's time is forward and backward of one microbatch, a link's is the
activations of one microbatch forth and their gradients back. With M = 1 this is model parallelism, where it is the
step itself as long as no later stage's update outlasts the backward of those before it.

It is minimised exactly over the order of the devices, which of them are used, and all cuts that fit the memory:
`stage_dp` finds the least sum under a limit on the slowest, `limit_search` the best limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hetsim.costs import CostModel
from hetsim.plan import Plan, Replica, ScheduleName
from hetsim.planner.limit_search import best_placements
from hetsim.planner.pools import Pool
from hetsim.planner.result import Proposal
from hetsim.planner.stage_costs import stage_costs
from hetsim.planner.stage_dp import Placement, StageSearch
from hetsim.planner.stage_table import StageTable
from hetsim.workload import Training


@dataclass(frozen=True)
class LayerSplit:
    """The problem of cutting the chain for one number of microbatches, which divides the global batch."""

    costs: CostModel
    training: Training
    pools: tuple[Pool, ...]
    microbatches: int

    def best(self, schedule: ScheduleName, keep: int = 1) -> list[Proposal]:
        """Cuts into two stages and more, by rising objective: up to `keep` for each number of stages.

        The best of all is exact, the first for each other number of stages nearly so; see `limit_search.best_placements`.
        """
        kept = self._under(schedule) if self.table.memory_binds else self._unlimited
        chosen = [self._proposal(placement, schedule) for placements in kept.values() for placement in placements[:keep]]
        return sorted(chosen, key=lambda row: row.objective_s)

    def stage_counts(self, schedule: ScheduleName) -> list[int]:
        """The numbers of stages, from two, for which some placement is priced and fits the memory."""
        depth = self.table.depth
        if not self.table.memory_binds and not self.table.at_size.unpriced.any():
            return list(range(2, depth + 1))
        solution = StageSearch(self.table, schedule).solve(np.inf, depth)
        return [stages for stages in range(2, depth + 1) if np.isfinite(solution.sum_s(stages))]

    @cached_property
    def table(self) -> StageTable:
        """The stages and links to choose from."""
        types = tuple(dict.fromkeys(pool.device_type for pool in self.pools))
        at_size = stage_costs(
            self.costs, types, self.training.global_batch // self.microbatches, pipelined=self.microbatches > 1
        )
        return StageTable(self.costs, self.training, self.pools, self.microbatches, at_size)

    @cached_property
    def _unlimited(self) -> dict[int, list[Placement]]:
        """The placements where memory forbids nothing: the same under every schedule, so solved once."""
        return self._under("gpipe")

    def _under(self, schedule: ScheduleName) -> dict[int, list[Placement]]:
        return best_placements(StageSearch(self.table, schedule))

    def _proposal(self, placement: Placement, schedule: ScheduleName) -> Proposal:
        replica = Replica(placement.stages(self.pools), self.training.global_batch, self.microbatches)
        plan = Plan((replica,), schedule)
        objective_s = (self.microbatches - 1) * placement.bottleneck_s + placement.sum_s
        return Proposal(plan, objective_s)
