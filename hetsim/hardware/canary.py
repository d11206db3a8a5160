"""A canary: a fixed piece of work whose time tells how fast a device is at this moment.

A processor's clock moves by some per cent within seconds, with the load of its neighbours and with heat, and takes all that the
device computes along. Timings that were taken at different moments are therefore compared by the canary beside each. Imports
torch when it is made.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_WIDTH = {"cpu": 384, "cuda": 4096}
_REPEATS = {"cpu": 3, "cuda": 1}
"""Milliseconds on the devices of the day: long enough to be timed, short enough to stand between two steps."""


class Canary:
    """Products of square matrices, which fit a core's cache, so that they feel the clock and nothing else."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self._torch = torch
        self._device = device
        width = _WIDTH[device.type]
        generator = torch.Generator().manual_seed(0)
        self._factor = torch.randn(width, width, generator=generator).to(device)
        self._product = torch.empty_like(self._factor)
        self.time_s()  # the first time is longer

    def time_s(self) -> float:
        """Seconds of the work now; waits for the device before and after."""
        self._settle()
        start_ns = time.perf_counter_ns()
        for _ in range(_REPEATS[self._device.type]):
            self._torch.mm(self._factor, self._factor, out=self._product)
        self._settle()
        return (time.perf_counter_ns() - start_ns) / 1e9

    def _settle(self) -> None:
        if self._device.type != "cpu":
            self._torch.accelerator.synchronize(self._device)
