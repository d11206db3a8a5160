"""Which gradients are exchanged between whom: segments and buckets.

Replicas may cut the network at different places. A *segment* is a maximal run of layers that lies within one stage in every
replica, so the same devices, one per replica, hold all of it and exchange its gradients. A segment's gradients travel
in *buckets*, filled in the order in which backward makes them ready, as torch's DistributedDataParallel does after its first
step: the first bucket closes at 1 MiB, the others at 25 MiB, and a tensor is never cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hetsim.plan import Plan, Replica
from hetsim.workload import Chain

FIRST_BUCKET_BYTES = 1 << 20
BUCKET_BYTES = 25 << 20


@dataclass(frozen=True, slots=True)
class Segment:
    """Layers `start` to `stop` - 1, and the devices that hold them: one per replica, in the order of the replicas."""

    start: int
    stop: int
    devices: tuple[str, ...]

    @property
    def layers(self) -> range:
        """Indices of its layers."""
        return range(self.start, self.stop)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Gradients that are all-reduced as one message."""

    index: int
    """Its number in the plan; every device reduces its buckets in rising order."""

    segment: Segment
    first_layer: int
    """The lowest layer with a gradient in it: it is ready when that layer's last backward is done."""

    size_bytes: int
    tensors: int
    """Parameter tensors in it."""


def segments(plan: Plan, chain: Chain) -> tuple[Segment, ...]:
    """The segments of `plan`, from the last layers to the first: the order in which their gradients become ready."""
    cuts = sorted({0, len(chain), *(stage.stop for replica in plan.replicas for stage in replica.stages)})
    holders = {start: tuple(_holder(replica, start) for replica in plan.replicas) for start in cuts[:-1]}
    return tuple(Segment(start, stop, holders[start]) for start, stop in reversed(list(pairwise(cuts))))


def buckets(plan: Plan, chain: Chain, *, part: bool = False) -> tuple[Bucket, ...]:
    """The buckets of all segments that more than one replica holds; empty where nothing has to be exchanged.

    `part`: whether the plan is a part of another one, so that there is somebody to exchange with even where it has one replica.
    """
    if len(plan.replicas) < 2 and not part:
        return ()
    rows: list[Bucket] = []
    for segment in segments(plan, chain):
        rows += _fill(segment, chain, first_index=len(rows), whole=plan.exchange.whole)
    return tuple(rows)


def fewest_buckets(chain: Chain) -> list[list[int]]:
    """[start][stop]: of a stage from `start` on, how many buckets at least become ready with layer `stop` - 1 or after it, wherever
    other replicas are cut.

    As many as are filled from that layer on, from none. For the n-th of these is full no sooner than the n-th of any plan: that one
    was begun no later, and where a segment ends or begins it closes before it is full. Where the stage starts, a segment does.
    """
    layers = len(chain)
    found = [[0] * (layers + 1) for _ in range(layers + 1)]
    for stop in range(1, layers + 1):
        full = size_bytes = 0
        for start in range(stop - 1, -1, -1):
            for elements in reversed(chain.layers[start].parameters):
                size_bytes += elements * chain.element_bytes
                if size_bytes >= BUCKET_BYTES:
                    full, size_bytes = full + 1, 0
            found[start][stop] = full + (size_bytes > 0)
    return found


def _holder(replica: Replica, layer: int) -> str:
    return next(stage.device for stage in replica.stages if stage.start <= layer < stage.stop)


def _fill(segment: Segment, chain: Chain, first_index: int, *, whole: bool) -> list[Bucket]:
    rows: list[Bucket] = []
    size_bytes = tensors = 0
    last_layer = segment.start

    def close() -> None:
        rows.append(Bucket(first_index + len(rows), segment, last_layer, size_bytes, tensors))

    for layer in reversed(segment.layers):
        for elements in reversed(chain.layers[layer].parameters):
            size_bytes += elements * chain.element_bytes
            tensors += 1
            last_layer = layer
            if not whole and size_bytes >= (BUCKET_BYTES if rows else FIRST_BUCKET_BYTES):
                close()
                size_bytes = tensors = 0
    if tensors:
        close()
    return rows
