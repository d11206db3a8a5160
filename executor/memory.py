"""The peak memory of one plan on an accelerator that holds several plans' parameters at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class PeakMemory:
    """Counts one plan's bytes: what it keeps between steps, and the most that a step of it takes on top.

    A processor's allocator keeps no peak, so on a CPU there is none to tell.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kept_bytes = 0
        self.peak_bytes: int | None = None
        """The peak of what was counted last; None on a CPU."""

    @contextmanager
    def counted(self) -> Iterator[None]:
        """What is allocated inside this block belongs to the plan."""
        if self._device.type != "cuda":
            yield
            return
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        yield
        self.peak_bytes = self._kept_bytes + torch.cuda.max_memory_allocated(self._device) - before
        self._kept_bytes += torch.cuda.memory_allocated(self._device) - before
