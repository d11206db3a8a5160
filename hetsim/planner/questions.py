"""Questions about single replicas of a shape: whether one takes so many microbatches within a step; what was answered is kept."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hetsim.planner.hybrid_problem import HybridProblem
from hetsim.planner.known import Known, KnownCut, Others
from hetsim.planner.replica_split import ReplicaSplit
from hetsim.planner.stage_costs import Ints


@dataclass
class Questions:
    """Those of one search."""

    problem: HybridProblem
    known: Known = field(default_factory=Known)
    solved: int = 0
    """How many were answered exactly."""

    def cut(
        self, row: int, size: int, count: int, most: Ints, others: Others, step_s: float, low_s: float
    ) -> tuple[KnownCut | None, float]:
        """A cut that takes so many microbatches within `step_s`, and `low_s`; where there is none, `most` is lowered, and so is
        `low_s`, below which there is none."""
        grid = self.problem.tables[size].grid
        self.solved += 1
        found = ReplicaSplit(grid, count, others.holders, others.single_types).within(self.problem.shapes[row], step_s)
        if found.cut is None:
            most[row, size] = count - 1
            self.known.rule_out(row, size, count, found.low_s, others)
            return None, min(low_s, found.low_s)
        cut = KnownCut(row, grid, found.cut, self.problem.training.global_batch // grid.microbatch)
        return self.known.add(size, cut), low_s

    def sift(self, most: Ints, needed: Ints, others: Others, step_s: float, passed: Ints | None = None) -> None:
        """Lower `most` where it is soon seen that what is `needed` is too much. What is not is kept in `passed`, and no more looked
        at."""
        spare_s = step_s - self.problem.last_tensor_s(others)
        for size, table in enumerate(self.problem.tables):
            seen = np.zeros(len(most), dtype=np.int64) if passed is None else passed[:, size]
            rows = np.flatnonzero((needed[:, size] > seen) & (needed[:, size] <= most[:, size]))
            counts = needed[rows, size]
            too_many = table.holdings.too_many(rows, counts, spare_s)
            most[rows[too_many], size] = counts[too_many] - 1
            seen[rows[~too_many]] = counts[~too_many]
