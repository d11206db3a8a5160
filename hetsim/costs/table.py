"""The cost table: what was measured, as rows.

A table belongs to one network. Besides the network's own layers it has pseudo-layers, whose names start with `@`: `@loss`
(forward and backward of the loss function, by microbatch), `@step` (what a step costs a device whatever it holds, beyond the
measured parts; its time stands in `update_s`), `@canary` (a fixed piece of work at the speed that the device had when the
times of the table were true; in `forward_s`), and in `saved_bytes` `@workspace` (what a step takes at its worst moment beside
what is known of its tensors, by microbatch) and `@context` (what a process takes by itself). `@alone` is a whole step while the
other devices of the host rest (in `forward_s`) and while they work (in `backward_s`). `@crowd` is the processor time of a step on a
core that other devices use in between (in `forward_s`) and on a core of its own (in `backward_s`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

LOSS = "@loss"
STEP = "@step"
CANARY = "@canary"
WORKSPACE = "@workspace"
CONTEXT = "@context"
ALONE = "@alone"
CROWD = "@crowd"
PSEUDO_LAYERS = (LOSS, STEP, CANARY, WORKSPACE, CONTEXT, ALONE, CROWD)

OF_ONE_DEVICE = (CANARY, WORKSPACE, CONTEXT, ALONE, CROWD)
"""Those that say nothing of any other device type."""


Provenance = Literal["measured", "interpolated", "extrapolated", "transferred", "specified"]
"""Where a number comes from. `specified`: written down by a person or taken from a datasheet."""

Operation = Literal[
    "send_recv",
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "broadcast",
    "exchange",
    "bucket",
    "bucket_tensor",
    "post_send",
    "post_receive",
    "handle_send",
    "handle_receive",
    "hand_over",
    "begin",
    "beside_send",
    "beside_receive",
    "beside_reduce",
]
"""What a transfer row times: one message to a neighbour; a sum over a group, and its like, by the bytes of the whole; such a sum at
the end of a real step, with what it makes the updates behind it take longer; or what a device's own processor spends: on packing
gradients into a bucket, and on each tensor in it; on handing a message over and on posting a receive, the bare call and all that
stands between two computations of a real pipeline; on a message that it waits for, beyond what that takes between devices at rest;
on beginning a step; and how much longer it computes beside a message that it sends or receives, or beside a sum."""


@dataclass(frozen=True, slots=True)
class LayerCost:
    """Time and memory of one layer on one device type at one microbatch size."""

    device_type: str
    layer: str
    microbatch: int
    """Samples."""

    forward_s: float
    backward_s: float
    update_s: float = 0.0
    """Zeroing the gradients and stepping the optimizer, for this layer's parameters; does not depend on the microbatch."""

    accumulate_s: float | None = None
    """What the backward takes longer where gradients of an earlier microbatch exist, which it adds to; does not depend on the
    microbatch. None: not measured."""

    saved_bytes: int | None = None
    """What autograd keeps from forward to backward; None: not measured."""

    spread: float = 0.0
    """Half the 95 % interval of the median of forward + backward, relative to it."""

    samples: int = 0
    """How many timings the medians stand on; 0 where nobody timed."""

    tensor_parallel: int = 1
    in_flight: int = 1
    """Microbatches that were forward before the first was backward: 1 as in plain training, more as in a pipeline, where memory is
    colder."""

    provenance: Provenance = "measured"


@dataclass(frozen=True, slots=True)
class TransferCost:
    """Time of one communication operation at one size."""

    operation: Operation
    group: tuple[str, ...]
    """Names of the devices that take part, sorted; for what a device does by itself, its device type."""

    size_bytes: int
    seconds: float
    spread: float = 0.0
    samples: int = 0


@dataclass(frozen=True, slots=True)
class CostTable:
    """All that is known about the costs of one network on some devices."""

    network: str
    layers: tuple[LayerCost, ...]
    transfers: tuple[TransferCost, ...] = ()
    source: str = ""
    """File that the table was read from, for messages."""

    notes: tuple[str, ...] = field(default=())
    """Comment lines of the file: where the figures come from."""

    @property
    def has_measured_links(self) -> bool:
        """Whether messages or exchanges were timed between single devices."""
        return any(row.operation in ("send_recv", "all_reduce") for row in self.transfers)
