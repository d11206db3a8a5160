"""The peak memory of one plan on a device that may hold several plans' parameters at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hetsim.hardware.footprint import most_held_bytes


class PeakMemory:
    """Counts one plan's bytes: what it keeps between steps, and the most that a step of it takes on top.

    A processor's allocator keeps no count of its own: on a CPU the whole process tells, where it runs that plan alone.
    """

    def __init__(self, device: torch.device, *, alone: bool) -> None:
        """`alone`: the process runs no other plan."""
        self._device = device
        self._alone = alone
        self._kept_bytes = 0
        self.peak_bytes: int | None = None
        """The peak of what was counted last; None where nobody can tell."""

    @contextmanager
    def counted(self) -> Iterator[None]:
        """What is allocated inside this block belongs to the plan."""
        if self._device.type == "cuda":
            yield from self._counted_by_torch()
        elif self._alone:
            yield
            self.peak_bytes = most_held_bytes()
        else:
            yield

    def _counted_by_torch(self) -> Iterator[None]:
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        yield
        self.peak_bytes = self._kept_bytes + torch.cuda.max_memory_allocated(self._device) - before
        self._kept_bytes += torch.cuda.memory_allocated(self._device) - before
