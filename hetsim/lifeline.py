"""A worker's tie to the process that started it: it does not outlive it, even while it hangs in the user's code."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""From Linux's <linux/prctl.h>."""


PARENT = "HETSIM_PARENT"
"""The environment variable by which a worker learns who its parent was when it was started."""


def parent_environment() -> dict[str, str]:
    """What a worker of this process needs in its environment to notice that it was orphaned before it could tie itself."""
    return {PARENT: str(os.getpid())}


def die_with_parent() -> None:
    """On Linux, have the kernel kill this process when its parent ends, however that ends; elsewhere nothing.

    To be called before anything that takes time. It is the parent's thread that counts, so the thread that started this process has
    to live as long as it is needed.
    """
    if not sys.platform.startswith("linux"):
        return
    parent = int(os.environ.pop(PARENT, os.getppid()))
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):
        return  # a C library without prctl: then whoever waits for the parent has to notice
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")
