"""What a process holds of a device's memory, and the most that a piece of work takes on top.

On an accelerator torch's own counters tell. On a CPU the kernel tells of resident pages, on Linux alone, and the C library keeps
what was freed; so that old memory does not hide new, it is made to give all of it back first. Elsewhere nothing is known.
"""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def most_held_bytes() -> int | None:
    """The most that this process has held of the host's memory; None where nobody can tell."""
    return _status_bytes("VmHWM")


class PeakWatch:
    """The most that this process holds of a device's memory above what it held when the watch was made."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._works = True
        if device.type == "cpu":
            _give_back()
            self._works = _reset_peak()
        else:
            import torch

            torch.cuda.reset_peak_memory_stats(device)
        self._before_bytes = self._now_bytes()

    def peak_bytes(self) -> int | None:
        """Since the watch was made; None where nothing is known."""
        if not self._works or self._before_bytes is None:
            return None
        if self._device.type == "cpu":
            peak = _status_bytes("VmHWM")
            return None if peak is None else max(0, peak - self._before_bytes)
        import torch

        return int(torch.cuda.max_memory_allocated(self._device)) - self._before_bytes

    def beside_bytes(self, tensors_bytes: int) -> int | None:
        """What the process held when the watch was made beside `tensors_bytes` of tensors; None where nothing is known."""
        if self._device.type == "cpu":
            return None if self._before_bytes is None else max(0, self._before_bytes - tensors_bytes)
        import torch

        free, total = torch.cuda.mem_get_info(self._device)
        return int(total - free - torch.cuda.memory_reserved(self._device))

    def _now_bytes(self) -> int | None:
        if self._device.type == "cpu":
            return _status_bytes("VmRSS")
        import torch

        return int(torch.cuda.memory_allocated(self._device))


def _status_bytes(field: str) -> int | None:
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def _reset_peak() -> bool:
    """Let the kernel count the peak anew; whether it does."""
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _give_back() -> None:
    """Return freed memory to the kernel, where the C library can."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
