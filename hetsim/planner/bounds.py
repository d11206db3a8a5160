"""Lower bounds: no plan of the searched strategies takes a shorter step.

Proof. In any run of a step, a device computes one thing at a time, and what follows from one another does not overlap.
Waiting, and communication where it is left out, only add to that.

* Data parallelism: `BatchSplit` finds the smallest step over all shares, microbatches and sets of devices. Where the
  exchange of gradients has the same price for all sets of alike devices, that is the bound itself; where it was
  measured for some sets alone, the bound is the smallest step if the exchange took no time.
* A pipeline of M microbatches: the device of stage k works M times for t(k), the mean of forward and backward of a microbatch.
  Before its first forward, a microbatch passes forward through the stages before it, and after its last backward, a
  microbatch passes backward through them, which takes no less than the mean: the last one adds to gradients, the first
  one does not. So the step is at least M * t(k) + t(1) + … + t(k-1) for every k, and so is
  the largest of these; it starts and ends with the first stage's start and update. The smallest such maximum over all
  orders of devices and all cuts, without links and limits of memory, is the bound: whether it can be below a value is
  decided exactly. Model parallelism is M = 1.

The bound of a search is the smallest of the bounds of its strategies. The simulator rounds each duration to whole
nanoseconds, by at most half of one, which is taken off the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hetsim.planner.batch_split import BatchSplit
from hetsim.planner.device_counts import Level, levels_of
from hetsim.planner.layer_split import LayerSplit
from hetsim.planner.pools import MOST_COMBINATIONS
from hetsim.planner.stage_costs import Floats

ROUNDING_S = 0.5e-9
"""What rounding to whole nanoseconds can take off a duration."""

PRECISION = 1e-3
"""Relative. The pipeline's bound is this near the largest that its proof gives."""


def lower_bound_s(batch_splits: Iterable[BatchSplit], layer_splits: Iterable[LayerSplit], achieved_s: float) -> float:
    """Under every step of the given problems' plans, and not above `achieved_s`, the step of one of them."""
    bound_s = achieved_s
    for batch_split in batch_splits:
        bound_s = min(bound_s, data_parallel_bound_s(batch_split))
    # Many microbatches first: their bounds tend to be the lowest, and the others are then settled at once.
    for layer_split in sorted(layer_splits, key=lambda split: -split.microbatches):
        bound_s = pipeline_bound_s(layer_split, bound_s)
    return bound_s


def data_parallel_bound_s(split: BatchSplit) -> float:
    """Under every data-parallel step; infinite where no plan fits."""
    # Start, update, forwards, and backwards in up to one piece a layer, and the same number of all-reduces.
    durations = 2 + 2 * max(split.counts) + 2 * len(split.costs.chain)
    step_s = split.smallest_step_s() if split.exchange_is_known else split.smallest_compute_s()
    return max(0.0, step_s - ROUNDING_S * durations)


def pipeline_bound_s(split: LayerSplit, below_s: float) -> float:
    """Under every step of a pipeline with the split's number of microbatches; `below_s` where that is smaller.

    `below_s` is finite.
    """
    problem = _FillProblem.of(split)
    rounding_s = ROUNDING_S * 2 * (split.microbatches + len(split.costs.chain) + 1)
    high = below_s + rounding_s
    if not problem.can_end_by(high):
        return below_s
    low = float(problem.layer_s.min(axis=0).sum())  # one microbatch through all layers, each on its fastest type
    while high - low > max(PRECISION * high, ROUNDING_S):
        middle = (low + high) / 2
        low, high = (low, middle) if problem.can_end_by(middle) else (middle, high)
    return min(below_s, max(0.0, low - rounding_s))


@dataclass(frozen=True)
class _FillProblem:
    """The relaxed pipeline of the proof, on types of devices alone."""

    microbatches: int
    layer_s: Floats
    """[type, layer]: forward and backward of a microbatch, the mean over all; infinite where not priced."""

    first_s: Floats
    """[type, layers]: start, and update of so many layers."""

    sizes: tuple[int, ...]
    """Devices of each type."""

    @classmethod
    def of(cls, split: LayerSplit) -> _FillProblem:
        at = split.table.at_size
        sizes = [sum(len(pool) for pool in split.pools if pool.device_type == kind) for kind in at.types]
        layer_s, first_s = at.layer_s(split.microbatches), at.overhead_s[:, None] + at.update_s
        slowest_last = np.argsort(layer_s.sum(axis=1), kind="stable")
        layer_s, first_s, sizes = layer_s[slowest_last], first_s[slowest_last], [sizes[kind] for kind in slowest_last]
        while math.prod(size + 1 for size in sizes) > MOST_COMBINATIONS and len(sizes) > 1:
            # Too many types to tell apart: the two slowest become one that is as fast as either, which only helps.
            layer_s = np.vstack((layer_s[:-2], layer_s[-2:].min(axis=0)))
            first_s = np.vstack((first_s[:-2], first_s[-2:].min(axis=0)))
            sizes = [*sizes[:-2], sizes[-2] + sizes[-1]]
        return cls(split.microbatches, layer_s, first_s, tuple(sizes))

    def can_end_by(self, step_s: float) -> bool:
        """Whether for some placement M * t(k) + t(1) + … + t(k-1) + start + update is at most `step_s` for every stage k.

        `passed[u, j]` is the least time in which one microbatch passes the layers up to j on u[t] devices of each
        type t. A stage may follow where the step still ends in time; the less time has passed, the more may follow,
        so the least is enough.
        """
        layers = self.layer_s.shape[1]
        passed = np.empty((0, layers))
        for number, level in enumerate(self._levels):
            longer = np.full((len(level.rows), layers), np.inf)
            for kind, (rows, rows_before) in enumerate(level.one_less):
                if number == 0:
                    whole_s = self._stage_s[kind, np.arange(layers), np.arange(layers)]
                    in_time = self.microbatches * whole_s + self.first_s[kind, 1:] <= step_s
                    longer[rows] = np.where(in_time, whole_s + self.first_s[kind, 1:], np.inf)
                else:
                    longer[rows] = np.minimum(longer[rows], self._append(passed[rows_before], kind, step_s))
            if np.isfinite(longer[:, -1]).any():
                return True
            passed = longer
        return False

    @cached_property
    def _levels(self) -> tuple[Level, ...]:
        return levels_of(self.sizes, min(self.layer_s.shape[1], sum(self.sizes)))

    @cached_property
    def _stage_s(self) -> Floats:
        """[type, length - 1, last layer]; infinite where the stage would begin before the chain."""
        stage_s = np.full((len(self.sizes), *[self.layer_s.shape[1]] * 2), np.inf)
        stage_s[:, 0] = self.layer_s
        for length in range(1, self.layer_s.shape[1]):
            stage_s[:, length, length:] = stage_s[:, length - 1, length:] + self.layer_s[:, :-length]
        return stage_s

    def _append(self, passed: Floats, kind: int, step_s: float) -> Floats:
        """The least time passed after one stage more on a device of type `kind`, by its last layer."""
        layers = passed.shape[1]
        least = np.full_like(passed, np.inf)
        for length in range(1, layers):
            stage_s = self._stage_s[kind, length - 1, length:]
            if not (self.microbatches * stage_s <= step_s).any():
                break
            before = passed[:, :-length]
            after = np.where(before + self.microbatches * stage_s <= step_s, before + stage_s, np.inf)
            np.minimum(least[:, length:], after, out=least[:, length:])
        return least
