"""What a worker is doing right now, in a small file that outlives it: to see that it hangs, and to say where it died."""

from __future__ import annotations

import mmap
import time
from dataclasses import dataclass
from pathlib import Path

_BYTES = 256
_FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Beat:
    """The last thing a worker set out to do."""

    when_ns: int
    """On the monotonic clock of the first worker's host."""

    request: int
    """Index of the request that is being run; -1 before the first."""

    step: int
    """The step of it, counted from 0; warm-up steps are negative."""

    waiting: bool
    """Whether it waits for another worker, rather than works itself."""

    doing: str
    """An action's text, or a phase of the start in words."""

    @property
    def is_last(self) -> bool:
        """Whether the worker has done all that it had to do; one that left before was made to by the user's code."""
        return self.doing == _FINISHED


class Heartbeat:
    """A worker's end of the file. A beat costs about a microsecond: a write to memory that the kernel holds."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(b" " * _BYTES)
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _BYTES)
        self._place = "-1 0"
        self.ahead_ns = 0
        """How far the clock is ahead of this host's by which the beats of all workers are told."""

    def now_ns(self) -> int:
        """The present moment, on the clock that is common to all workers once they have met."""
        return time.monotonic_ns() + self.ahead_ns

    def flush(self) -> None:
        """Let other hosts see it that share the folder; those of this host see it at once."""
        self._memory.flush()

    def at(self, request: int, step: int) -> None:
        """From now on the worker is in `step` of `request`."""
        self._place = f"{request} {step}"

    def work(self, doing: str) -> None:
        """The worker sets out to do this."""
        self._beat("works", doing)

    def wait(self, doing: str) -> None:
        """The worker begins to wait for this, which another worker has to do."""
        self._beat("waits", doing)

    def finish(self) -> None:
        """The worker has done all that it had to do."""
        self.work(_FINISHED)

    def _beat(self, state: str, doing: str) -> None:
        text = f"{self.now_ns()} {self._place} {state} {doing}"
        self._memory[:] = text.encode("ascii", "replace").ljust(_BYTES)[:_BYTES]


def read_beat(path: Path) -> Beat | None:
    """The last beat in `path`; None where there is none yet, or where it was read while being written."""
    try:
        when_ns, request, step, state, doing = path.read_text("ascii", "replace").split(maxsplit=4)
        return Beat(int(when_ns), int(request), int(step), state == "waits", doing.strip())
    except (FileNotFoundError, ValueError):
        return None
