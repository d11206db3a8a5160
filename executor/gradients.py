"""The exchange of gradients: DistributedDataParallel for each segment of a stage, made to sum over samples.

DDP fills the buckets, sets them off as backward makes them ready, and leaves each parameter's gradient as a view into its
bucket. Two things differ from its habit. The buckets are summed, not averaged over ranks: every microbatch's loss carries
its own share of the global batch, so the sum is the gradient of the whole batch however it is split. And backward does not
wait for the exchange: the update does, so that a pipeline's gradient goes on its way while buckets still travel.
"""

import inspect
import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from executor.recording import Recorder
from hetsim.exchange import Bucket
from hetsim.schedule import Action, Kind

_log = logging.getLogger(__name__)

# Renamed in torch 2.13. Either way the running statistics of a batch norm stay each rank's own.
_NO_BUFFERS: dict[str, Any] = (
    {"forward_sync_buffers": False}
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else {"broadcast_buffers": False}
)


class GradientExchange:
    """All segments of one stage that other devices hold too."""

    def __init__(self, stage: int, recorder: Recorder[Any]) -> None:
        self._stage = stage
        self._recorder = recorder
        self._segments: list[DistributedDataParallel] = []
        self._pending: list[torch.futures.Future[None]] = []
        self._rebuilt = False

    def wrap(self, module: nn.Module, group: dist.ProcessGroup, buckets: Sequence[Bucket]) -> nn.Module:
        """`module`, its gradients exchanged over `group` in what should come out as `buckets`.

        All members of the group must call this at once. They leave with the parameters of the first of them, because
        processors with different instruction sets draw random numbers that differ in the last digits.
        """
        segment = DistributedDataParallel(module, process_group=group, gradient_as_bucket_view=True, **_NO_BUFFERS)
        segment.register_comm_hook((group, buckets), self._sum)
        # Only the last backward of a step exchanges anything, and `before_last_backward` says when that is.
        segment.require_backward_grad_sync = False
        self._segments.append(segment)
        return segment

    def before_last_backward(self) -> None:
        """The next backward completes the gradients: set the buckets off during it."""
        for segment in self._segments:
            segment.reducer.prepare_for_backward([])

    def wait(self) -> None:
        """Go on when all buckets have been summed."""
        if self._pending:
            self._recorder.heartbeat.wait("the gradients of other devices")
        for done in self._pending:
            done.wait()
        self._pending.clear()

    def rebuild_buckets(self) -> None:
        """After the first step: fill the buckets from now on in the order in which gradients became ready in it."""
        for segment in self._segments:
            segment.reducer._rebuild_buckets()  # noqa: SLF001 - DDP's own forward calls it, inside the step
        self._rebuilt = True

    # DDP compares the annotations with these very classes, so they must not be text.
    def _sum(
        self,
        state: tuple[dist.ProcessGroup, Sequence[Bucket]],
        bucket: dist.GradBucket,  # type: ignore[name-defined]
    ) -> torch.futures.Future[torch.Tensor]:
        group, buckets = state
        start = self._recorder.clock.now()
        buffer = bucket.buffer()
        expected = buckets[min(bucket.index(), len(buckets) - 1)]
        if self._rebuilt and (bucket.index() >= len(buckets) or buffer.nbytes != expected.size_bytes):
            _warn_once(bucket.index(), buffer.nbytes, tuple(b.size_bytes for b in buckets))
        action = str(Action(self._stage, Kind.REDUCE, expected.index))

        def note(summed: torch.futures.Future[Any]) -> None:
            summed.value()  # raises where the exchange failed
            self._recorder.add(action, start, self._recorder.clock.now())

        self._pending.append(dist.all_reduce(buffer, group=group, async_op=True).get_future().then(note))
        return _at_once(buffer)


@cache
def _warn_once(index: int, size_bytes: int, expected_bytes: tuple[int, ...]) -> None:
    """The prediction counts on other buckets than there are: not wrong in the result, but in the expected time."""
    sizes = ", ".join(map(str, expected_bytes))
    _log.warning("gradient bucket %d has %d bytes; the buckets were expected to have %s", index, size_bytes, sizes)


def _at_once(buffer: torch.Tensor) -> torch.futures.Future[torch.Tensor]:
    """A future that is there already: DDP takes the buffer as it is, and the sum comes into being in it."""
    future = torch.futures.Future[torch.Tensor](devices=[buffer.device] if buffer.is_cuda else None)
    future.set_result(buffer)
    return future
