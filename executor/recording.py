"""Records what a worker does: the spans of one step, in nanoseconds since the step's start.

A processor computes when it is told to, so the host's clock says when; an accelerator computes later, so events on its
streams do. Nothing is synchronised inside a step.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
import torch.distributed as dist

from executor.heartbeat import Heartbeat
from hetsim.schedule import Action, Kind

Row = tuple[str, int, int]
"""An action's text, and its start and end in nanoseconds since the start of the step."""

MarkT = TypeVar("MarkT")


class Message(Protocol):
    """A message on its way."""

    def wait(self) -> Any:
        """Go on when it has arrived; on an accelerator, let the current stream wait for it."""


class Clock(Protocol[MarkT]):
    """A way to mark moments on a device."""

    def start(self, at_ns: int) -> None:
        """The step starts at `at_ns` on the host's monotonic clock, which is now."""

    def now(self) -> MarkT:
        """A mark of the present moment of the device."""

    def since_start_ns(self, mark: MarkT) -> int:
        """Nanoseconds from the start of the step to `mark`; only after `settle`."""

    def settle(self) -> None:
        """Go on when the device has done all that it was told to."""

    def watch(self, work: dist.Work, done: Callable[[MarkT], None]) -> Message:
        """Call `done` with a mark of the moment at which the message arrives that `work` receives."""


class HostClock:
    """The host's monotonic clock, for a device that computes when it is told to.

    Gloo tells that a message has arrived only to a thread that waits for it, and only one thread may. So a thread waits for
    the messages, in the order in which their receives were posted, which is the order in which they are needed. That costs
    about a tenth of a millisecond a message; without it a message that comes early would seem to come when it is used.
    """

    def __init__(self) -> None:
        self._start_ns = 0
        self._watched: queue.SimpleQueue[_Watched] = queue.SimpleQueue()
        threading.Thread(target=self._receive, name="receive lane", daemon=True).start()

    def start(self, at_ns: int) -> None:
        """See Clock."""
        self._start_ns = at_ns

    def now(self) -> int:
        """See Clock."""
        return time.monotonic_ns()

    def since_start_ns(self, mark: int) -> int:
        """See Clock."""
        return mark - self._start_ns

    def settle(self) -> None:
        """Nothing is left to do when a processor comes here."""

    def watch(self, work: dist.Work, done: Callable[[int], None]) -> Message:
        """See Clock."""
        watched = _Watched(work, done)
        self._watched.put(watched)
        return watched

    def _receive(self) -> None:
        while True:
            self._watched.get().watch()


class StreamClock:
    """Events on the streams of a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._start = self.now()

    def start(self, at_ns: int) -> None:  # noqa: ARG002 - the queue is empty, so the event happens now
        """See Clock."""
        self._start = self.now()

    def now(self) -> torch.cuda.Event:
        """See Clock."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def since_start_ns(self, mark: torch.cuda.Event) -> int:
        """See Clock."""
        return round(float(self._start.elapsed_time(mark)) * 1e6)

    def settle(self) -> None:
        """See Clock."""
        torch.cuda.synchronize(self._device)

    def watch(self, work: dist.Work, done: Callable[[torch.cuda.Event], None]) -> Message:
        """See Clock: a stream of its own waits for the message, so that the event falls on its arrival."""
        with torch.cuda.stream(self._side):
            work.wait()
            done(self.now())
        return work


class _Watched:
    """A gloo message that the receive lane waits for."""

    def __init__(self, work: dist.Work, done: Callable[[int], None]) -> None:
        self._work = work
        self._done = done
        self._arrived = threading.Event()
        self._error: Exception | None = None

    def watch(self) -> None:
        """In the lane's thread: wait for the message and note when it arrives."""
        try:
            self._work.wait()
            self._done(time.monotonic_ns())
        except Exception as error:
            self._error = error
        self._arrived.set()

    def wait(self) -> None:
        """In the main thread: go on when the message has arrived; raises what went wrong with it."""
        self._arrived.wait()
        if self._error is not None:
            raise self._error


@dataclass(slots=True)
class Recorder(Generic[MarkT]):
    """The actions of one worker's step."""

    clock: Clock[MarkT]
    heartbeat: Heartbeat
    is_sparse: bool = False
    """Whether only updates are recorded, to see what recording costs."""

    _spans: list[tuple[str, MarkT, MarkT]] = field(default_factory=list)
    _open: tuple[str, MarkT] | None = None

    def start(self, at_ns: int) -> None:
        """A new step starts at `at_ns` on the host's monotonic clock."""
        self._spans.clear()
        self.clock.start(at_ns)

    def begin(self, action: Action) -> None:
        """The processor begins `action`."""
        if self.is_sparse and action.kind is not Kind.UPDATE:
            return
        text = str(action)
        self.heartbeat.work(text)
        self._open = (text, self.clock.now())

    def end(self) -> None:
        """The processor ends what it began; nothing, where it began nothing."""
        if self._open is not None:
            self._spans.append((*self._open, self.clock.now()))
            self._open = None

    def add(self, action: str, start: MarkT, end: MarkT) -> None:
        """`action` went on beside the computation from `start` to `end`."""
        if not self.is_sparse:
            self._spans.append((action, start, end))

    def rows(self) -> list[Row]:
        """The spans of the step; waits for the device."""
        self.clock.settle()
        since = self.clock.since_start_ns
        return [(action, since(start), since(end)) for action, start, end in self._spans]


def make_recorder(device: torch.device, heartbeat: Heartbeat) -> Recorder[Any]:
    """The recorder of a worker that computes on `device`."""
    return Recorder(StreamClock(device) if device.type == "cuda" else HostClock(), heartbeat)
