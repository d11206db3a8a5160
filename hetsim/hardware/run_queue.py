"""How long a thread has waited for a processor core, as the system tells it."""

from __future__ import annotations

from pathlib import Path

_SCHEDSTAT = Path("/proc/thread-self/schedstat")


def waited_ns() -> int:
    """Nanoseconds that this thread has waited in a run queue so far (the second figure of Linux's schedstat); 0 where unknown."""
    try:
        return int(_SCHEDSTAT.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
