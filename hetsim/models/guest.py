"""Manners for the user's code while it runs in our process: what it prints and where it goes must not disturb us."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GuestError = (Exception, SystemExit, GeneratorExit)
"""What the user's code may raise, and we tell: `sys.exit` in it must not pass for the end of our own work."""


@contextmanager
def guest() -> Iterator[None]:
    """Around the user's code: what it prints goes to stderr, because stdout belongs to results, and a change of the
    directory is taken back, because paths that were given to us are relative to it."""
    here = Path.cwd()
    with _stdout_to_stderr():
        try:
            yield
        finally:
            os.chdir(here)


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """For the streams of Python and for what C code writes to the file descriptor."""
    ours = sys.stdout
    ours.flush()
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # where a descriptor is closed, nothing can be told apart
            kept = os.dup(1)
            stack.callback(os.close, kept)
            os.dup2(2, 1)
            stack.callback(os.dup2, kept, 1)
            stack.callback(ours.flush)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield
