"""What a share of the batch costs a device that holds the whole chain, for every share at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hetsim.costs import CostModel
from hetsim.costs.shape import grid
from hetsim.exchange import Bucket
from hetsim.planner.share_sum import Pieces
from hetsim.planner.stage_costs import Bools, Floats, Ints, StageCosts, stage_costs
from hetsim.workload import Training


@dataclass(frozen=True, slots=True, eq=False)
class ShareCosts:
    """One device type's curves over the microbatch size m = 0, 1, …, global batch (the index of the arrays).

    A share of b samples is run as `count` microbatches of m = b / count. The device starts, computes count - 1 rounds
    and then the last one, during whose backward the gradient buckets become ready one after the other.
    """

    device_type: str
    start_s: float
    round_s: Floats
    """Forward and backward of one microbatch."""

    accumulate_s: float
    """What each round but the first takes longer, because it adds to gradients."""

    ready_s: Floats
    """(buckets, m): from the start of the last round until each bucket is packed, where it is also the first."""

    ready_later_s: Floats
    """(buckets): how much longer that is where it is not."""

    computed_s: Floats
    """(layers, m): from the start of the last round until the gradients of each layer are computed."""

    packing_s: float
    """What packing all buckets, and their exchange beside it, add to the last round."""

    update_s: float
    rounds_bytes: Ints
    """Peak memory with one microbatch, less what its input takes."""

    input_bytes: int
    """Of one sample: the whole share's input is held through the step."""

    limit_bytes: int

    def peak_bytes(self, count: int) -> Ints:
        """Peak memory with `count` microbatches of m samples, by m."""
        size = (len(self.round_s) - 1) // count + 1
        return self.rounds_bytes[:size] + count * self.input_bytes * np.arange(size)

    def fits(self, count: int) -> Bools:
        """Whether `count` microbatches of m samples can be held, by m; never m = 0, which is no work."""
        fits: Bools = self.peak_bytes(count) <= self.limit_bytes
        fits[0] = False
        return fits

    def largest_share(self, counts: Sequence[int]) -> int:
        """The largest share that fits the memory; 0 where none does."""
        return max(int(np.flatnonzero(self.fits(count)).max(initial=0)) * count for count in counts)

    def bytes_beyond(self, share: int, counts: Sequence[int]) -> int:
        """Peak memory of the next larger share that can be cut into one of `counts` microbatches."""
        beyond = [(share // count + 1, self.peak_bytes(count)) for count in counts]
        return min(int(peaks[m]) for m, peaks in beyond if m < len(peaks))

    def alone(self, counts: Sequence[int]) -> tuple[Pieces, ...]:
        """Costs without any exchange of gradients: start, rounds and update."""
        return tuple(
            Pieces(count, np.where(fits := self.fits(count), self._own_s(count, len(fits)) + self.update_s, np.inf))
            for count in counts
        )

    def together(self, counts: Sequence[int], tails_s: Floats, slowest_update_s: float) -> tuple[Pieces, ...]:
        """Costs where gradients are exchanged: what this device alone would make the step last.

        `tails_s[i]`: all-reduce of bucket i and all later ones. The exchange ends at max over buckets and devices of
        ready + tail, so a share's part in that maximum is its own, and the largest cost over all devices is the step.
        """
        options = []
        for count in counts:
            fits = self.fits(count)
            size = len(fits)
            later_s = self.ready_later_s if count > 1 else np.zeros_like(tails_s)
            exchanged = (self.ready_s[:, :size] + (later_s + tails_s)[:, None]).max(axis=0, initial=-np.inf)
            before_s = self.start_s + (count - 1) * self.round_s[:size] + max(0, count - 2) * self.accumulate_s
            exchange_s = before_s + exchanged + slowest_update_s
            own_s = self._own_s(count, size) + self.packing_s + self.update_s
            options.append(Pieces(count, np.where(fits, np.maximum(exchange_s, own_s), np.inf)))
        return tuple(options)

    def beside(self, counts: Sequence[int], below_s: Floats, slowest_update_s: float) -> tuple[Pieces, ...]:
        """What this device alone would make the step last, at least, beside replicas that are cut anywhere.

        Where the buckets end is then not known. But nothing of a layer and those below it is exchanged before the layer's gradients
        are there, and that takes `below_s[layer]`.
        """
        options = []
        for count in counts:
            fits = self.fits(count)
            size = len(fits)
            before_s = self.start_s + (count - 1) * self.round_s[:size] + max(0, count - 2) * self.accumulate_s
            there = below_s > 0
            last_s = (self.computed_s[there, :size] + below_s[there, None]).max(axis=0, initial=-np.inf)
            seconds = np.maximum(before_s + last_s + slowest_update_s, self._own_s(count, size) + self.update_s)
            options.append(Pieces(count, np.where(fits, seconds, np.inf)))
        return tuple(options)

    def begins(self, counts: Sequence[int]) -> tuple[Pieces, ...]:
        """When the gradients of the last layer are there, and none before."""
        options = []
        for count in counts:
            fits = self.fits(count)
            size = len(fits)
            before_s = self.start_s + (count - 1) * self.round_s[:size] + max(0, count - 2) * self.accumulate_s
            options.append(Pieces(count, np.where(fits, before_s + self.computed_s[-1, :size], np.inf)))
        return tuple(options)

    def _own_s(self, count: int, size: int) -> Floats:
        return self.start_s + count * self.round_s[:size] + (count - 1) * self.accumulate_s


def share_costs(
    costs: CostModel, training: Training, types: Sequence[str], buckets: Sequence[Bucket]
) -> dict[str, ShareCosts]:
    """The curves of those `types` on which every layer is priced.

    Costs are asked for at the measured microbatch sizes, at those of the grid on which curves bend (see `hetsim.costs.shape`) and
    at the ends; between them every curve is a straight line, and so is any sum of them.
    """
    every = _all_share_costs(costs, training, tuple(buckets))
    return {kind: every[kind] for kind in types if kind in every}


@lru_cache(maxsize=8)
def _all_share_costs(costs: CostModel, training: Training, buckets: tuple[Bucket, ...]) -> dict[str, ShareCosts]:
    """The curves of all types of the cluster, which the parts of a search ask for one after the other."""
    batch = training.global_batch
    types = [kind.name for kind in costs.cluster.used_types]
    measured = {row.microbatch for row in costs.table.layers if row.tensor_parallel == 1}
    points = {1, batch} | {size for size in measured if 1 <= size <= batch}
    at_knots = {size: stage_costs(costs, types, size) for size in sorted({*points, *grid(1, batch)})}
    speaks_for = {device.type: device.name for device in reversed(costs.cluster.devices)}
    return {
        kind: _curves(costs, training, buckets, speaks_for[kind], sorted(points), at_knots)
        for row, kind in enumerate(types)
        if not at_knots[1].unpriced[row, -1]
    }


def _curves(
    costs: CostModel,
    training: Training,
    buckets: Sequence[Bucket],
    device: str,
    points: Sequence[int],
    at_knots: Mapping[int, StageCosts],
) -> ShareCosts:
    """`points`: the knots at which curves of what is counted, not timed, may bend: there are whole bytes at the others."""
    chain, kind = costs.chain, costs.cluster.device(device).type
    any_size = at_knots[1]
    row, sizes = any_size.types.index(kind), np.arange(training.global_batch + 1)

    def curve(values: Sequence[float]) -> Floats:
        return np.interp(sizes, [*at_knots], values)

    packing_s = np.array([costs.bucket_s(device, bucket.size_bytes, bucket.tensors) for bucket in buckets])
    first = np.array([bucket.first_layer for bucket in buckets], dtype=np.int64)
    # The exchange of a bucket lengthens the backward of the layers below it.
    beside_s = np.array([costs.beside_reduce_s(device, bucket.size_bytes) for bucket in buckets])
    packed_s = [float(packing_s[first >= layer].sum() + beside_s[first > layer].sum()) for layer in first]
    ready_s = [
        curve([at.forward_s[row, -1] + at.backward_s[row, -1] - at.backward_s[row, layer] for at in at_knots.values()])
        + packed
        for layer, packed in zip(first, packed_s, strict=True)
    ]
    later_s = [float(any_size.accumulate_s[row, -1] - any_size.accumulate_s[row, layer]) for layer in first]
    saved = np.array([[*np.diff(at_knots[size].saved_bytes[row]), at_knots[size].extra_bytes[row]] for size in points])
    elements = sum(layer.parameter_count for layer in chain.layers)
    held_bytes = elements * (2 * chain.element_bytes + training.optimizer_state_bytes_per_parameter)
    return ShareCosts(
        device_type=kind,
        start_s=float(any_size.overhead_s[row]),
        round_s=curve([at.compute_s[row, -1] for at in at_knots.values()]),
        accumulate_s=float(any_size.accumulate_s[row, -1]),
        ready_s=np.array(ready_s).reshape(len(buckets), len(sizes)),
        ready_later_s=np.array(later_s),
        computed_s=np.array(
            [
                curve(
                    [at.forward_s[row, -1] + at.backward_s[row, -1] - at.backward_s[row, layer] for at in at_knots.values()]
                )
                for layer in range(len(chain))
            ]
        ),
        packing_s=float(packing_s.sum() + beside_s[first > 0].sum()),
        update_s=float(any_size.update_s[row, -1]),
        rounds_bytes=held_bytes
        + np.sum([np.rint(np.interp(sizes, points, layer)).astype(np.int64) for layer in saved.T], axis=0),
        input_bytes=chain.input_bytes_per_sample,
        limit_bytes=int(any_size.limit_bytes[row]),
    )
