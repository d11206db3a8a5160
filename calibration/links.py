"""Times messages and collective operations between the devices, over a process group of the workers. Runs inside a worker.

Every rank notes when it starts and ends, on the monotonic clock of rank 0's host; the coordinator takes the time from the last
start to the last end.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import combinations
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from calibration import beside
from calibration.protocol import Report
from calibration.repeats import agreed, repeats, warmed_up_s
from hetsim.costs import Operation
from hetsim.hardware.clocks import Clocks
from hetsim.hardware.identity import host_identity
from hetsim.hardware.transport import for_exchanges
from hetsim.units import format_bytes

Stamps = list[tuple[int, int]]
Call = Callable[[], object]
Ways = tuple[dist.ProcessGroup, dist.ProcessGroup]
"""Two groups of all ranks: messages of one do not wait for those of the other."""

PACKED_WIDTH = 512
PACKED_LAYERS = (1, 4, 16)
"""Layers of 1 MiB of gradients each, whose packing is timed."""

SMALL_WIDTH, SMALL_LAYERS = 16, 64
"""Layers of next to no gradients, whose packing tells what each tensor takes."""

LONGEST = timedelta(minutes=5)
"""A rank that keeps the others waiting for so long is gone."""

MOST_RANKS_FOR_ALL_GROUPS = 4

LARGE_BYTES = 1 << 20
SMALL_REPEATS, LARGE_REPEATS = 60, 30
"""Below 1 MiB single timings scatter by half and more, so it takes many."""


def time_links(
    rank: int,
    names: Sequence[str],
    meeting: str,
    send_bytes: Sequence[int],
    reduce_bytes: Sequence[int],
    device: torch.device,
    device_type: str,
    turns: Sequence[Sequence[int]] = (),
    report: Report = lambda _what: None,
) -> list[dict[str, Any]]:
    """This rank's stamps of every operation it takes part in: rows with operation, group, size_bytes, stamps_ns.

    The ranks find each other at the address `meeting`, a file that is not there yet.

    What a rank spends by itself (posting, packing, what communication takes from the computation beside it) is told under
    the name of its device type. `turns`: the ranks that may do so at once, where some share processor cores.
    """
    backend = "gloo" if device.type == "cpu" else "nccl"
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=len(names), timeout=LONGEST)
    try:
        rows = []
        ways = dist.new_group(backend=backend), dist.new_group(backend=backend)
        for a, b in combinations(range(len(names)), 2):
            for size in send_bytes:
                dist.barrier()
                report(f"messages of {format_bytes(size)} between {names[a]} and {names[b]}")
                if rank in (a, b):
                    stamps = _ping_pong(rank, a, b, size, device, ways)
                    rows.append(_row("send_recv", [names[a], names[b]], size, stamps))
                    for source, target in ((a, b), (b, a)):
                        operation: Operation = "post_send" if rank == source else "post_receive"
                        rows.append(_row(operation, [device_type], size, _posting(rank, source, target, size, device)))
        clocks = Clocks(host_identity(), None if backend == "gloo" else dist.new_group(backend="gloo"))
        for members in reduce_groups(len(names)):
            group = _exchanging(members)
            clocks.compare()
            dist.barrier()
            if rank in members:
                devices = [names[member] for member in members]
                for operation, prepare in COLLECTIVES.items():
                    for size in reduce_bytes:
                        report(f"{operation} of {format_bytes(size)} over {len(members)} devices")
                        stamps = _collective(prepare, size, device, group)
                        common = [(start + clocks.ahead_ns, end + clocks.ahead_ns) for start, end in stamps]
                        rows.append(_row(operation, devices, size, common))
        alone = [_exchanging([member]) for member in range(len(names))][rank]
        for turn in turns or [range(len(names))]:
            dist.barrier()
            if rank in turn:
                rows += _packing_rows(alone, device, device_type)
        apart = list(turns[0]) if turns else list(range(len(names)))
        group = _exchanging(apart)
        if rank in apart and len(names) > 1:
            rows += beside.rows(beside.time_beside(apart, group, send_bytes, reduce_bytes, device, report), device_type)
        dist.barrier()
        return rows
    finally:
        dist.destroy_process_group()


def _exchanging(ranks: Sequence[int]) -> dist.ProcessGroup:
    """A group of `ranks`, made as those are that exchange gradients."""
    with for_exchanges():
        group: dist.ProcessGroup = dist.new_group(list(ranks))
    return group


def _row(operation: Operation, group: Sequence[str], size: int, stamps: Stamps) -> dict[str, Any]:
    return {"operation": operation, "group": sorted(group), "size_bytes": size, "stamps_ns": stamps}


def _most(size: int) -> int:
    return SMALL_REPEATS if size < LARGE_BYTES else LARGE_REPEATS


def _tensor(size: int, device: torch.device) -> torch.Tensor:
    return torch.randn(max(1, size // 4), device=device)


class _Volley:
    """A message to and fro between two ranks, each awaited by its receiver before it is sent, as those of a pipeline are."""

    def __init__(self, rank: int, a: int, b: int, size: int, device: torch.device, ways: Ways) -> None:
        """Rank `a` begins; `ways` are the groups of what it sends and of what comes back."""
        self._begins = rank == a
        self._partner = b if self._begins else a
        self._out, self._back = ways if self._begins else ways[::-1]
        self._message, self._answer = _tensor(size, device), _tensor(size, device)
        self._device = device

    def play(self, rounds: int) -> Stamps:
        """Stamps of so many round trips, of half a trip each."""
        stamps: Stamps = []
        awaited = self._await()
        for left in range(rounds - 1, -1, -1):
            start = time.monotonic_ns()
            sent = self._send() if self._begins else None
            awaited.wait()
            _settle(self._device)
            stamps.append((start, start + (time.monotonic_ns() - start) // 2))
            if left:
                awaited = self._await()
            (sent or self._send()).wait()
        return stamps

    def _await(self) -> dist.Work:
        return _begun(dist.irecv(self._answer, self._partner, self._back))

    def _send(self) -> dist.Work:
        return _begun(dist.isend(self._message, self._partner, self._out))


def _begun(work: dist.Work | None) -> dist.Work:
    assert work is not None, "both ranks are in the group"
    return work


def _ping_pong(rank: int, a: int, b: int, size: int, device: torch.device, ways: Ways) -> Stamps:
    """Round trips between ranks `a` and `b`; only `a` has stamps, of half a round trip each."""
    volley = _Volley(rank, a, b, size, device, ways)
    warm_s = min(2 * (end - start) / 1e9 for start, end in volley.play(4)[1:])
    stamps = volley.play(_told_by_first(rank, a, b, repeats(warm_s, _most(size)), device))
    return stamps if rank == a else []


def _agreed_by_two(rank: int, a: int, b: int, size: int, once: Call, device: torch.device) -> int:
    """After some turns to warm up: how often ranks `a` and `b` go on, as `a` finds."""
    return _told_by_first(rank, a, b, repeats(warmed_up_s(once), _most(size)), device)


def _told_by_first(rank: int, a: int, b: int, number: int, device: torch.device) -> int:
    """The `number` of rank `a`, on both."""
    told = torch.tensor([number], device=device)
    dist.send(told, b) if rank == a else dist.recv(told, a)
    return int(told)


def _posting(rank: int, source: int, target: int, size: int, device: torch.device) -> Stamps:
    """How long the call takes that hands a message over (on `source`) or posts its receive (on `target`)."""
    value, answer = _tensor(size, device), _tensor(4, device)

    def once() -> tuple[int, int]:
        start = time.monotonic_ns()
        work = dist.isend(value, target) if rank == source else dist.irecv(value, source)
        posted = time.monotonic_ns()
        assert work is not None
        work.wait()
        dist.recv(answer, target) if rank == source else dist.send(answer, source)
        return start, posted

    return [once() for _ in range(_agreed_by_two(rank, source, target, size, once, device))]


def _packing_rows(alone: dist.ProcessGroup, device: torch.device, device_type: str) -> list[dict[str, Any]]:
    rows = []
    for layers in PACKED_LAYERS:
        size_bytes = layers * PACKED_WIDTH**2 * 4
        rows.append(_row("bucket", [device_type], size_bytes, _packing(layers, PACKED_WIDTH, alone, device)))
    each = [(0, end // SMALL_LAYERS) for _, end in _packing(SMALL_LAYERS, SMALL_WIDTH, alone, device)]
    return [*rows, _row("bucket_tensor", [device_type], SMALL_WIDTH**2 * 4, each)]


def _packing(layers: int, width: int, alone: dist.ProcessGroup, device: torch.device) -> Stamps:
    """How much longer backward takes when DistributedDataParallel packs the gradients, for nobody to exchange."""
    plain = nn.Sequential(*(nn.Linear(width, width, bias=False, device=device) for _ in range(layers)))
    packed = DistributedDataParallel(copy.deepcopy(plain), process_group=alone, gradient_as_bucket_view=True)
    inputs = torch.randn(2, width, device=device)
    stamps: Stamps = []
    for _ in range(SMALL_REPEATS):
        took = []
        for module in (plain, packed):
            loss = module(inputs).sum()
            _settle(device)
            start = time.monotonic_ns()
            loss.backward()
            _settle(device)
            took.append(time.monotonic_ns() - start)
            module.zero_grad()
        stamps.append((0, max(0, took[1] - took[0])))
    return stamps


def reduce_groups(world: int) -> list[tuple[int, ...]]:
    """The groups of ranks whose collectives are timed: all of two and more up to four ranks, else the pairs and the whole.

    Other groups are priced from the figures of their links.
    """
    sizes = range(2, world + 1) if world <= MOST_RANKS_FOR_ALL_GROUPS else (2, world)
    return [group for size in sizes for group in combinations(range(world), size)]


def _all_reduce(size: int, device: torch.device, group: dist.ProcessGroup) -> Call:
    value = _tensor(size, device)
    return lambda: dist.all_reduce(value, group=group)


def _all_gather(size: int, device: torch.device, group: dist.ProcessGroup) -> Call:
    whole, part = _whole_and_part(size, device, group)
    return lambda: dist.all_gather_into_tensor(whole, part, group=group)


def _reduce_scatter(size: int, device: torch.device, group: dist.ProcessGroup) -> Call:
    whole, part = _whole_and_part(size, device, group)
    return lambda: dist.reduce_scatter_tensor(part, whole, group=group)


def _broadcast(size: int, device: torch.device, group: dist.ProcessGroup) -> Call:
    value = _tensor(size, device)
    return lambda: dist.broadcast(value, group=group, group_src=0)


COLLECTIVES: dict[Operation, Callable[[int, torch.device, dist.ProcessGroup], Call]] = {
    "all_reduce": _all_reduce,
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "broadcast": _broadcast,
}
"""What is timed over groups: (bytes, device, group) -> one call of it. What is gathered or scattered has so many bytes in all."""


def _whole_and_part(size: int, device: torch.device, group: dist.ProcessGroup) -> tuple[torch.Tensor, torch.Tensor]:
    part = _tensor(size // group.size(), device)
    return part.repeat(group.size()), part


def _collective(
    prepare: Callable[[int, torch.device, dist.ProcessGroup], Call],
    size: int,
    device: torch.device,
    group: dist.ProcessGroup,
) -> Stamps:
    """Stamps of a collective operation, in which all ranks of `group` set off together."""
    call = prepare(size, device, group)

    def once() -> tuple[int, int]:
        dist.barrier(group)
        start = time.monotonic_ns()
        call()
        _settle(device)
        return start, time.monotonic_ns()

    return [once() for _ in range(agreed(warmed_up_s(once), _most(size), device, group))]


def _settle(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()
