"""Tells whether other programs took the core from a timing."""

from __future__ import annotations

import time
from pathlib import Path

CROWDED = 0.03
"""A timing that waited for its core for more than this share of it is put aside."""

_SCHEDSTAT = Path("/proc/thread-self/schedstat")


class CoreWatch:
    """How much of the time since it was made this thread was ready to run while another program had its core."""

    def __init__(self) -> None:
        self._start_ns = time.perf_counter_ns()
        self._waited_ns = _waited_ns()

    @property
    def crowded(self) -> bool:
        """Whether the thread had to wait for its core for longer than a timing bears; never where the system does not tell."""
        return _waited_ns() - self._waited_ns > CROWDED * (time.perf_counter_ns() - self._start_ns)


def _waited_ns() -> int:
    """Nanoseconds that this thread has waited in a run queue so far (the second figure of Linux's schedstat); 0 where unknown."""
    try:
        return int(_SCHEDSTAT.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
