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

_WIDTH = {"cpu": 128, "cuda": 2048}
"""Of the matrices. On a CPU they fit the innermost caches, whatever a step has left there: a canary of 384 was seen to take 8 %
longer after large microbatches than after small ones."""

_WARM_UP, _REPEATS = 4, 15
"""The shortest of some repeats follows the speed of a training step best: it leaves out what interrupts one of them."""


class Canary:
    """A product of square matrices, which feels the clock and nothing else."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self._torch = torch
        self._device = device
        width = _WIDTH[device.type]
        generator = torch.Generator().manual_seed(0)
        self._factor = torch.randn(width, width, generator=generator).to(device)
        self._product = torch.empty_like(self._factor)

    def time_s(self) -> float:
        """Seconds of the work now; waits for the device before and after."""
        return min([self._once_s() for _ in range(_WARM_UP + _REPEATS)][_WARM_UP:])

    def _once_s(self) -> float:
        self._settle()
        start_ns = time.perf_counter_ns()
        self._torch.mm(self._factor, self._factor, out=self._product)
        self._settle()
        return (time.perf_counter_ns() - start_ns) / 1e9

    def _settle(self) -> None:
        if self._device.type != "cpu":
            self._torch.accelerator.synchronize(self._device)
