"""Every stage and link that a layer split may use, with its time and memory, as arrays [pool, length - 1, start]."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from hetsim.costs import CostModel
from hetsim.planner.pools import Pool, pick
from hetsim.planner.stage_costs import Bools, Floats, Ints, StageCosts
from hetsim.workload import Training


@dataclass(frozen=True)
class StageTable:
    """One chain, some pools of devices, and a number of microbatches.

    A stage's time is forward and backward of one microbatch, the mean over all; a link's is the activations of one forth and their
    gradients back, between the first devices of the two pools.
    """

    costs: CostModel
    training: Training
    pools: tuple[Pool, ...]
    microbatches: int
    at_size: StageCosts
    """Costs at the size of a microbatch."""

    @property
    def layers(self) -> int:
        """Layers of the chain."""
        return len(self.costs.chain)

    @property
    def depth(self) -> int:
        """The largest number of stages."""
        return min(self.layers, sum(map(len, self.pools)))

    @cached_property
    def stage_s(self) -> Floats:
        """Seconds of each stage; infinite where it runs past the end or holds a layer that is not priced."""
        start, stop, inside = self._runs
        at = self.at_size
        mean_s = at.mean_s(self.microbatches)
        seconds = mean_s[:, stop] - mean_s[:, start]
        return np.where(inside & (at.unpriced[:, stop] == at.unpriced[:, start]), seconds, np.inf)[self._row_of_pool]

    @cached_property
    def first_s(self) -> Floats:
        """What the step adds to the first stage, whose work ends last: start of the step and update; 0 for the others."""
        added = np.zeros_like(self.stage_s)
        added[:, :, 0] = (self.at_size.overhead_s[:, None] + self.at_size.update_s[:, 1:])[self._row_of_pool]
        return added

    @cached_property
    def link_s(self) -> Floats:
        """Seconds of [pool before, pool behind, cut before this layer]; 0 at the ends of the chain."""
        cuts = range(self.layers + 1)
        sizes = [self.at_size.microbatch * self.costs.chain.boundary_bytes_per_sample(cut) for cut in cuts]
        link_s = np.zeros((len(self.pools), len(self.pools), self.layers + 1))
        for before, behind in product(range(len(self.pools)), repeat=2):
            if before == behind and len(self.pools[before]) == 1:
                continue  # the pool has no two devices that could be neighbours
            source, target = pick(self.pools, (before, behind))
            seconds = {
                size: self.costs.send_s(source, target, size) + self.costs.send_s(target, source, size)
                for size in dict.fromkeys(sizes)
            }
            link_s[before, behind] = [seconds[size] for size in sizes]
        return link_s

    @cached_property
    def limits_s(self) -> Floats:
        """Every value that the slowest stage or link can have, rising."""
        inner = self.link_s[:, :, 1 : self.layers]
        return np.unique(np.concatenate((self.stage_s[np.isfinite(self.stage_s)], inner.ravel())))

    def fits(self, in_flight: int) -> Bools:
        """Whether each stage fits its device's memory with so many microbatches in flight."""
        start, stop, _ = self._runs
        peak = self.at_size.peak_bytes(self.training, start, stop, microbatches=self.microbatches, in_flight=in_flight)
        return (peak <= self.at_size.limit_bytes[:, None, None])[self._row_of_pool]

    @cached_property
    def memory_binds(self) -> bool:
        """Whether memory forbids any stage under any schedule; where not, the schedule makes no difference to the split."""
        return not bool((self.fits(self.microbatches) | np.isinf(self.stage_s)).all())

    @cached_property
    def _row_of_pool(self) -> Ints:
        return np.array([self.at_size.types.index(pool.device_type) for pool in self.pools], dtype=np.int64)

    @cached_property
    def _runs(self) -> tuple[Ints, Ints, Bools]:
        """Start and stop of every run of layers, [length - 1, start], and whether it lies in the chain."""
        lengths, starts = np.indices((self.layers, self.layers))
        stops = starts + lengths + 1
        return starts, np.minimum(stops, self.layers), stops <= self.layers
