"""What Ctrl-C does to a search."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hetsim.planner import Watch


@contextmanager
def ctrl_c_stops(watch: Watch) -> Iterator[None]:
    """For the length of the block the first Ctrl-C ends the search of `watch` with the plan and the bound that it has.

    The next one is a KeyboardInterrupt. Nothing changes where somebody else already decided what Ctrl-C does, or in another thread.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        if watch.stopped:
            raise KeyboardInterrupt
        watch.stopped = True

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
