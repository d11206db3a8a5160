"""One time for processes of several hosts, whose monotonic clocks have nothing to do with each other.

A host's clock is compared with that of rank 0 as NTP does it (RFC 5905, section 8): a question goes there and an answer comes
back with the time there, which is taken to be that of the middle of the round trip. It is wrong by half the round trip at most,
and the shortest of several round trips is the one to believe.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch.distributed as dist

QUESTIONS = 8
"""Of each comparison."""

REMEMBERED = 5
"""Comparisons of which the shortest round trip is taken: few enough that crystals do not drift apart meanwhile by as much."""


class _Answer(NamedTuple):
    round_trip_ns: int
    ahead_ns: int


class Clocks:
    """The clock of rank 0, read on any rank of the default group. Collective: all ranks have to `compare` at the same time."""

    def __init__(self, host: str, group: dist.ProcessGroup | None = None) -> None:
        """`host`: the same text for processes that share a clock (`hetsim.hardware.identity.host_identity`).

        `group`: of all ranks, for tensors of the CPU; None: the default group is one.
        """
        import torch.distributed as dist

        self._group = group
        hosts = [host] * dist.get_world_size()
        dist.all_gather_object(hosts, host, group=group)
        self._elsewhere = [rank for rank, host in enumerate(hosts) if host != hosts[0]]
        self._answers: deque[_Answer] = deque(maxlen=REMEMBERED)
        self._rank = dist.get_rank()
        self.compare()

    @property
    def are_one(self) -> bool:
        """Whether all ranks are on one host."""
        return not self._elsewhere

    @property
    def ahead_ns(self) -> int:
        """How far the clock of rank 0 is ahead of this process's."""
        return min(self._answers).ahead_ns if self._answers else 0

    @property
    def unsure_ns(self) -> int:
        """By how much `ahead_ns` can be wrong."""
        return min(self._answers).round_trip_ns // 2 if self._answers else 0

    def now_ns(self) -> int:
        """The present moment on the clock of rank 0."""
        return time.monotonic_ns() + self.ahead_ns

    def compare(self) -> None:
        """Compare the clocks anew; takes some round trips for each rank on another host, and nothing on one host."""
        for rank in self._elsewhere:
            if self._rank == rank:
                self._answers.append(min(self._ask() for _ in range(QUESTIONS)))
            elif self._rank == 0:
                for _ in range(QUESTIONS):
                    self._tell(rank)

    def _ask(self) -> _Answer:
        import torch
        import torch.distributed as dist

        told = torch.zeros(1, dtype=torch.int64)
        asked_ns = time.monotonic_ns()
        dist.send(told, 0, self._group)
        dist.recv(told, 0, self._group)
        heard_ns = time.monotonic_ns()
        return _Answer(heard_ns - asked_ns, int(told) - (asked_ns + heard_ns) // 2)

    def _tell(self, rank: int) -> None:
        import torch
        import torch.distributed as dist

        told = torch.zeros(1, dtype=torch.int64)
        dist.recv(told, rank, self._group)
        told[0] = time.monotonic_ns()
        dist.send(told, rank, self._group)
