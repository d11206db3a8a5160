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

    @cached_property
    def least_forward_share(self) -> float:
        """The least share that a forward has of a stage's forward and backward, or one message of a link's longer one."""
        there = np.isfinite(self.period_s) & (self.period_s > 0)
        longer_s = np.maximum(self.one_way_s, np.swapaxes(self.one_way_s, 0, 1))
        crossed = np.isfinite(longer_s) & (longer_s > 0)
        stages, links = self.forward_s[there] / self.period_s[there], self.one_way_s[crossed] / longer_s[crossed]
        return float(min(stages.min(initial=1.0), links.min(initial=1.0)))

    def fits(self, in_flight: int, microbatches: int) -> Bools:
        """[kind, start, stop]: whether the memory holds the stage with so many microbatches in flight."""
        each: Bools = self._free_bytes - in_flight * self._saved_bytes - microbatches * self._buffer_bytes >= 0
        return each

    def fits_counts(self, kind: int, start: int, stop: int, in_flight: Ints, microbatches: Ints) -> Bools:
        """The same for one stage, by pairs of microbatches in flight and in all."""
        cell = kind, start, stop
        need = in_flight * self._saved_bytes[cell] + microbatches * self._buffer_bytes[cell]
        return np.asarray(need <= self._free_bytes[cell])

    @cached_property
    def held_bytes(self) -> Floats:
        """[kind, start, stop]: parameters, gradients, optimizer state and what one microbatch keeps."""
        alone = np.array([at.extra_bytes[0] for at in self._at])[:, None, None]
        return np.asarray(self._peaks(0, 1) - alone, dtype=float)

    @cached_property
    def room_bytes(self) -> Floats:
        """[kind]: what a place has for that."""
        return np.array([float(at.limit_bytes[0]) - float(at.extra_bytes[0]) for at in self._at])

    def left_s(self, holders: int, beside: frozenset[str] = frozenset()) -> Floats:
        """[kind, start, stop]: what surely follows a stage's last backward: of the exchange, and the update.

        The gradients of any of its layers, and of those before it in the stage, cross a link after the layer's backward; the last
        tensor after all of it. `beside`: the types of replicas that are one device. Over the link of such a one go the gradients of
        all layers, from the last to the first: those of the stages before come after this one's.
        """
        if (holders, beside) not in self._left_s:
            self._left_s[holders, beside] = self._work_out_left_s(holders, beside) if holders > 1 else self.update_s
        return self._left_s[holders, beside]

    def layer_s(self, kind: int) -> Floats:
        """By layer: the period of the layer alone on a kind; infinite where it is not priced."""
        return np.diagonal(self.period_s[kind][:, 1:]).copy()

    def layer_first_s(self, kind: int) -> Floats:
        """The same of the first microbatch."""
        return np.diagonal(self.first_s[kind][:, 1:]).copy()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _work_out_left_s(self, holders: int, beside: frozenset[str]) -> Floats:
        chain = self.costs.chain
        start, stop = self._ends
        done = np.concatenate(([0], np.cumsum([layer.parameter_count for layer in chain.layers]))) * chain.element_bytes
        held = done[stop] - done[start]
        last_tensor = np.minimum(self._last_tensor_bytes[start], held)
        buckets = self.floor.fewest_buckets
        below_s = self.floor.reduce_s(holders, done[start], beside, buckets[0, start]) if beside else 0.0
        rows = []
        for number, kind in enumerate(self.kinds):
            among, at = beside | {kind.device_type}, self._at[number]
            backward_s = (
                at.backward_s[0] + at.accumulate_s[0]
            )  # the last backward adds to gradients where there is more than one
            last_layer_s = np.diff(backward_s, prepend=0.0)[stop]
            hidden_s = backward_s[stop] - backward_s[start] - last_layer_s
            # From each layer on, down to the first of the stage; the stage's last layer is the last of those to be looked at.
            exchange_s = self.floor.reduce_s(holders, held, among, buckets[start, stop])
            exposed_s = np.where(stop > start, exchange_s - hidden_s, -np.inf)
            own_s = np.maximum(self.floor.reduce_s(holders, last_tensor, among), np.maximum.accumulate(exposed_s, axis=1))
            # What follows of the stages before, nobody of this one waits for; the single device does.
            with_below_s = np.maximum.accumulate(exposed_s + below_s, axis=1)
            rows.append(np.maximum(np.maximum(own_s, 0.0) + self.update_s[number], with_below_s))
        return np.array(rows)

    @cached_property
    def _left_s(self) -> dict[tuple[int, frozenset[str]], Floats]:
        """By number of replicas and types of single devices: what was worked out."""
        return {}

    @cached_property
    def _ends(self) -> tuple[Ints, Ints]:
        """[start, stop] of all stages; those that would end before they start are empty."""
        start, stop = np.indices((self.layers, self.layers + 1))
        return start, np.maximum(start, stop)

    def _peaks(self, microbatches: int, in_flight: int) -> Ints:
        return np.array(
            [at.peak_bytes(self.training, *self._ends, microbatches=microbatches, in_flight=in_flight)[0] for at in self._at]
        )

    @cached_property
    def _free_bytes(self) -> Ints:
        """[kind, start, stop]: what the memory has beside parameters, gradients, optimizer state and context."""
        limits = np.array([at.limit_bytes[0] for at in self._at])
        return np.asarray(limits[:, None, None] - self._peaks(0, 0), dtype=np.int64)

    @cached_property
    def _saved_bytes(self) -> Ints:
        """[kind, start, stop]: what a microbatch in flight holds."""
        return self._peaks(0, 1) - self._peaks(0, 0)

    @cached_property
    def _buffer_bytes(self) -> Ints:
        """[kind, start, stop]: what comes in and goes out of a microbatch."""
        return self._peaks(1, 0) - self._peaks(0, 0)

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
        """[layer]: bytes of its first tensor, the last to be exchanged; 0 where it has none, and its backward hides others'."""
        chain = self.costs.chain
        return np.array([(layer.parameters or (0,))[0] for layer in chain.layers], dtype=np.int64) * chain.element_bytes
