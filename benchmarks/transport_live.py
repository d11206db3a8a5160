"""What it is worth that the threads which move an exchange's bytes are batch work: `python -m benchmarks.transport_live`.

Two processes with a core each sum gradients over gloo, in groups that are made as torch makes them and as hetsim does
(`hetsim.hardware.transport`), in turns; one of them is late by 2 ms, as replicas are. It prints the late one's times as Markdown.
Keep the machine quiet: it takes half a minute.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
from torch import multiprocessing

from hetsim.hardware.transport import for_exchanges
from hetsim.scenario.local import usable_cores

SIZES_BYTES = (524_288, 2_393_128, 17_323_008)
ROUNDS = 41
LATE_S = 0.002


def main() -> int:
    """Print the table."""
    sys.stdout.write("| bytes | group | quartiles of an all-reduce, ms |\n|---|---|---|\n")
    sys.stdout.flush()
    with TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        multiprocessing.spawn(_rank, (meeting, usable_cores()[:2]), nprocs=2)  # type: ignore[attr-defined,no-untyped-call]
    return 0


def _rank(rank: int, meeting: str, cores: list[int]) -> None:
    os.sched_setaffinity(0, {cores[rank]})
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    groups = {"as torch makes it": _group(nullcontext()), "as hetsim makes it": _group(for_exchanges())}
    for size in SIZES_BYTES:
        found: dict[str, list[float]] = {name: [] for name in groups}
        for _ in range(ROUNDS):
            for name, group in groups.items():
                found[name].append(_all_reduce_s(torch.ones(size // 4), group, LATE_S * rank))
        for name, seconds in found.items() if rank else ():
            texts = (f"{quartile * 1e3:.1f}" for quartile in quantiles(seconds, n=4))
            sys.stdout.write(f"| {size} | {name} | {', '.join(texts)} |\n")
            sys.stdout.flush()
    dist.destroy_process_group()


def _group(made_in: AbstractContextManager[None]) -> dist.ProcessGroup:
    with made_in:
        group: dist.ProcessGroup = dist.new_group([0, 1])
    return group


def _all_reduce_s(value: torch.Tensor, group: dist.ProcessGroup, late_s: float) -> float:
    """Seconds of a sum over the group, which this rank begins `late_s` after the other."""
    dist.barrier()
    time.sleep(0.01 + late_s)
    start_s = time.perf_counter()
    dist.all_reduce(value, group=group)
    return time.perf_counter() - start_s


if __name__ == "__main__":
    sys.exit(main())
