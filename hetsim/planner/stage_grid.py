"""What every stage of a pipelined replica costs on every kind of place, as dense arrays [kind, start, stop]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from hetsim.costs import CostModel
from hetsim.planner.exchange_floor import ExchangeFloor
from hetsim.planner.kinds import Kind
from hetsim.planner.stage_costs import Bools, Floats, Ints, StageCosts, stage_costs
from hetsim.workload import Training


@dataclass(frozen=True)
class StageGrid:
    """The stages of one chain for microbatches of one size."""

    costs: CostModel
    training: Training
    kinds: tuple[Kind, ...]
    microbatch: int
    """Samples."""

    floor: ExchangeFloor
    pipelined: bool = True
    """Whether several microbatches are in flight, which costs depend on."""

    @property
    def layers(self) -> int:
        """Layers of the chain."""
        return len(self.costs.chain)

    @cached_property
    def period_s(self) -> Floats:
        """Forward and backward of a microbatch that is not the first; infinite where there is no such stage."""
        return self._spread(lambda at: at.compute_s + at.accumulate_s)

    def rest_s(self, microbatches: int) -> Floats:
        """Forward and backward of all of so many microbatches but the first; 0 where there is no such stage."""
        rest: Floats = (microbatches - 1) * np.where(np.isfinite(self.period_s), self.period_s, 0.0)
        return rest

    @cached_property
    def first_s(self) -> Floats:
        """Forward and backward of the first microbatch."""
        return self._spread(lambda at: at.compute_s)

    @cached_property
    def forward_s(self) -> Floats:
        """Forward of a microbatch."""
        return self._spread(lambda at: at.forward_s)

    @cached_property
    def backward_s(self) -> Floats:
        """Backward of the first microbatch."""
        return self._spread(lambda at: at.backward_s)

    @cached_property
    def update_s(self) -> Floats:
        """Zeroing gradients and stepping the optimizer."""
        return self._spread(lambda at: at.update_s)

    @cached_property
    def overhead_s(self) -> Floats:
        """[kind]: what the step costs a device whatever it holds."""
        return np.array([at.overhead_s[0] for at in self._at])

    @cached_property
    def link_s(self) -> Floats:
        """[kind before, kind behind, cut]: activations of a microbatch forth and gradients back, over the best link."""
        return self.one_way_s + np.swapaxes(self.one_way_s, 0, 1)

    @cached_property
    def one_way_s(self) -> Floats:
        """[source, target, cut]: one message; 0 at the ends of the chain."""
        sizes = [self.microbatch * self.costs.chain.boundary_bytes_per_sample(cut) for cut in range(self.layers + 1)]
        seconds = np.zeros((len(self.kinds), len(self.kinds), self.layers + 1))
        for a, b in product(range(len(self.kinds)), repeat=2):
            at = {size: self.floor.message_s(self.kinds[a], self.kinds[b], size) for size in dict.fromkeys(sizes)}
            seconds[a, b] = [at[size] for size in sizes]
        return seconds

    def fits(self, in_flight: int, microbatches: int) -> Bools:
        """[kind, start, stop]: whether the memory holds the stage with so many microbatches in flight."""
        start, stop = np.indices((self.layers, self.layers + 1))
        rows = []
        for at in self._at:
            ends = np.maximum(start, stop)
            peak = at.peak_bytes(self.training, start, ends, microbatches=microbatches, in_flight=in_flight)[0]
            rows.append(peak <= at.limit_bytes[0])
        return np.array(rows)

    def fits_counts(self, kind: int, start: int, stop: int, in_flight: Ints, microbatches: Ints) -> Bools:
        """The same for one stage, by pairs of microbatches in flight and in all."""
        at = self._at[kind]
        starts, stops = (np.full_like(microbatches, end) for end in (start, stop))
        peak = at.peak_bytes(self.training, starts, stops, microbatches=microbatches, in_flight=in_flight)[0]
        return np.asarray(peak <= at.limit_bytes[0])

    @cached_property
    def held_bytes(self) -> Floats:
        """[kind, start, stop]: parameters, gradients, optimizer state and what one microbatch keeps."""
        start, stop = np.indices((self.layers, self.layers + 1))
        ends = np.maximum(start, stop)
        empty = [at.peak_bytes(self.training, start, start, microbatches=0, in_flight=0)[0] for at in self._at]
        full = [at.peak_bytes(self.training, start, ends, microbatches=0, in_flight=1)[0] for at in self._at]
        held: Floats = np.asarray(full, dtype=float) - np.asarray(empty, dtype=float)
        return held

    @cached_property
    def room_bytes(self) -> Floats:
        """[kind]: what a place has for that."""
        return np.array([float(at.limit_bytes[0]) - float(at.extra_bytes[0]) for at in self._at])

    def left_s(self, holders: int, *, whole: bool = False) -> Floats:
        """[kind, start, stop]: what a stage surely has left after its last backward: of the exchange, and the update.

        All its gradients have to cross a link after the backward of its last layer, the first to have any, and its first
        layers' after all of its backward. `whole`: some replica is one device, over whose link the gradients of all layers go,
        from the last to the first: those of a stage's last layer and all before it come after that layer's backward.
        """
        if holders < 2:
            return self.update_s
        chain = self.costs.chain
        start, stop = np.indices((self.layers, self.layers + 1))
        stop = np.maximum(start, stop)
        done = np.concatenate(([0], np.cumsum([layer.parameter_count for layer in chain.layers]))) * chain.element_bytes
        held, below = done[stop] - done[start], done[stop]
        after_all = self.floor.reduce_s(holders, np.minimum(self._last_tensor_bytes[start], held))
        exchanged = self.floor.reduce_s(holders, below if whole else held)
        rows = []
        for kind in range(len(self.kinds)):
            last_layer = np.diff(self._at[kind].backward_s[0], prepend=0.0)[stop]
            hidden = np.where(np.isfinite(self.backward_s[kind]), self.backward_s[kind] - last_layer, 0.0)
            rows.append(np.maximum(after_all, exchanged - hidden))
        left: Floats = np.maximum(np.array(rows), 0.0) + self.update_s
        return left

    def layer_s(self, kind: int) -> Floats:
        """By layer: the period of the layer alone on a kind; infinite where it is not priced."""
        return np.diagonal(self.period_s[kind][:, 1:]).copy()

    def layer_first_s(self, kind: int) -> Floats:
        """The same of the first microbatch."""
        return np.diagonal(self.first_s[kind][:, 1:]).copy()

    # --- inside ------------------------------------------------------------------------------------------------------

    @cached_property
    def _at(self) -> Sequence[StageCosts]:
        return [
            stage_costs(self.costs, [kind.device_type], self.microbatch, pipelined=self.pipelined, width=kind.width)
            for kind in self.kinds
        ]

    def _spread(self, of: Callable[[StageCosts], Floats]) -> Floats:
        rows = []
        ahead = np.triu(np.ones((self.layers, self.layers + 1), dtype=bool), 1)
        for at in self._at:
            sums, unpriced = of(at)[0], at.unpriced[0]
            whole = ahead & (unpriced[None, :] == unpriced[:-1, None])
            rows.append(np.where(whole, sums[None, :] - sums[:-1, None], np.inf))
        return np.array(rows)

    @cached_property
    def _last_tensor_bytes(self) -> Ints:
        """[layer]: bytes of the first tensor of the first layer from there on that has any: the last to be exchanged."""
        chain = self.costs.chain
        rows = [
            next((row.parameters[0] for row in chain.layers[layer:] if row.parameters), 0) for layer in range(self.layers)
        ]
        return np.array(rows, dtype=np.int64) * chain.element_bytes
