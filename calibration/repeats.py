"""How often something is timed by several ranks together: as often as is worth it, or as time allows, and they agree on it."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.distributed as dist

POINT_S = 2.0
"""What is quick is timed as often as is wanted; what is slow scatters less, and is timed for about so long."""

LEAST = 7


def agreed(seconds: float, most: int, device: torch.device, group: dist.ProcessGroup | None = None) -> int:
    """How often all ranks of `group` time what takes each of them some `seconds`: `most` at most, by the slowest of them."""
    slowest = torch.tensor([seconds], dtype=torch.float64, device=device)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX, group=group)
    return repeats(float(slowest), most)


def repeats(seconds: float, most: int) -> int:
    """The same for one who asks nobody."""
    return max(min(LEAST, most), min(most, round(POINT_S / max(seconds, 1e-9))))


def warmed_up_s(once: Callable[[], object]) -> float:
    """Seconds that `once` takes, of the better of two calls after a first one."""
    once()
    took_s = []
    for _ in range(2):
        start_s = time.monotonic()
        once()
        took_s.append(time.monotonic() - start_s)
    return min(took_s)
