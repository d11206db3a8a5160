"""Times what communication takes from the computation beside it. Runs inside a worker, in its process group.

On a processor whose cores all compute, the transport's threads take their turns on them: what an operation costs the computation is
the processor time of those threads, which the system tells to the nanosecond. On an accelerator a collective takes some of its
processors, and both share the way to memory: there a fixed piece of work is timed with and without an operation in flight, in
alternation.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist

from calibration.protocol import Report
from calibration.repeats import agreed
from hetsim.units import format_bytes

WIDTH = 256
"""Of the matrices whose product is the work."""

MOST_REPEATS = 25

WORK_OVER_TRANSFER = 3
"""The work takes so many times as long as the operation alone, so that all of the operation falls beside it."""

SMALLEST_BYTES = 1 << 15
"""What smaller operations take drowns in the noise of the work."""

Start = Callable[[torch.Tensor], dist.Work | None]


def time_beside(
    ranks: Sequence[int],
    group: dist.ProcessGroup | None,
    send_bytes: Sequence[int],
    reduce_bytes: Sequence[int],
    device: torch.device,
    report: Report = lambda _what: None,
) -> dict[tuple[str, int], list[float]]:
    """(operation, bytes) -> seconds that this rank's work took longer, one for each repeat; all `ranks`, which make up `group`,
    call it together.

    Messages go from each rank of even place to the next one, and back.
    """
    bench = _Bench(device, group)
    found: dict[tuple[str, int], list[float]] = {}
    for size in _worth_timing(reduce_bytes):
        report(f"computing beside an all-reduce of {format_bytes(size)}")
        found["beside_reduce", size] = bench.extra_s(size, lambda value: dist.all_reduce(value, group=group, async_op=True))
    for size in _worth_timing(send_bytes):
        report(f"computing beside messages of {format_bytes(size)}")
        for sends_first in (True, False):
            operation, start = _message(ranks, sends_first=sends_first)
            seconds = bench.extra_s(size, start)
            if operation:
                found[operation, size] = seconds
    return found


def _worth_timing(sizes_bytes: Sequence[int]) -> list[int]:
    return [size for size in sizes_bytes if size >= SMALLEST_BYTES]


def _message(ranks: Sequence[int], *, sends_first: bool) -> tuple[str, Start]:
    """What this rank does while messages go between neighbours: nothing where it has none."""
    place = ranks.index(dist.get_rank())
    if place ^ 1 >= len(ranks):
        return "", _nothing
    partner = ranks[place ^ 1]
    if (place % 2 == 0) == sends_first:
        return "beside_send", lambda value: dist.isend(value, partner)
    return "beside_receive", lambda value: dist.irecv(value, partner)


def _nothing(_value: torch.Tensor) -> None:
    """What a rank without a neighbour sends."""


class _Bench:
    """The work, and the device that does it."""

    def __init__(self, device: torch.device, group: dist.ProcessGroup | None) -> None:
        self._device = device
        self._group = group
        self._factor = torch.randn(WIDTH, WIDTH, device=device)
        self._product = torch.empty_like(self._factor)
        self._product_s = min(self._work_s(10) for _ in range(10)) / 10

    def extra_s(self, size_bytes: int, start: Start) -> list[float]:
        """What computing takes longer with the operation that `start` begins in flight, by repeat."""
        value = torch.ones(max(1, size_bytes // 4), device=self._device)
        alone_s = min(self._transfer_s(value, start) for _ in range(5))
        if self._device.type == "cpu" and _all_cores_compute():
            repeats = agreed(alone_s, MOST_REPEATS, self._device, self._group)
            return [self._taken_s(value, start) for _ in range(repeats)]
        products = max(4, round(WORK_OVER_TRANSFER * alone_s / self._product_s))
        extra_s = []
        for _ in range(agreed(2 * WORK_OVER_TRANSFER * alone_s, MOST_REPEATS, self._device, self._group)):
            dist.barrier(self._group)
            without_s = self._work_s(products)
            dist.barrier(self._group)
            work = start(value)
            with_s = self._work_s(products)
            if work is not None:
                work.wait()
            self._settle()
            value.fill_(1.0)  # sums of sums would overflow
            extra_s.append(with_s - without_s)
        return extra_s

    def _taken_s(self, value: torch.Tensor, start: Start) -> float:
        """Processor time that the operation takes of this process, beside that of the thread which starts it and waits for it."""
        dist.barrier(self._group)
        before_s = _others_s()
        work = start(value)
        if work is not None:
            work.wait()
        taken_s = _others_s() - before_s
        value.fill_(1.0)
        return taken_s

    def _transfer_s(self, value: torch.Tensor, start: Start) -> float:
        dist.barrier(self._group)
        begin_s = time.perf_counter()
        work = start(value)
        if work is not None:
            work.wait()
        self._settle()
        took_s = time.perf_counter() - begin_s
        value.fill_(1.0)
        return took_s

    def _work_s(self, products: int) -> float:
        self._settle()
        begin_s = time.perf_counter()
        for _ in range(products):
            torch.mm(self._factor, self._factor, out=self._product)
        self._settle()
        return time.perf_counter() - begin_s

    def _settle(self) -> None:
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)


def _all_cores_compute() -> bool:
    """Whether this process may use no more cores than it computes on, so that its other threads have none of their own."""
    return hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) <= torch.get_num_threads()


def _others_s() -> float:
    """Processor time of all other threads of this process so far."""
    return time.process_time() - time.thread_time()


def rows(found: dict[tuple[str, int], list[float]], device_type: str) -> list[dict[str, Any]]:
    """The same as rows of the links' timings: stamps whose distance is what the work took longer, 0 at least."""
    return [
        {
            "operation": operation,
            "group": [device_type],
            "size_bytes": size,
            "stamps_ns": [(0, max(0, round(extra_s * 1e9))) for extra_s in seconds],
        }
        for (operation, size), seconds in found.items()
    ]
