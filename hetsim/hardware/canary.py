"""A canary: a fixed piece of work whose time tells how fast a device is at this moment.

A shared processor moves by some per cent from one half minute to the next, with the load of its neighbours and with heat, and takes
all that the device computes along. Timings that were taken at different moments are therefore compared by the canary beside each.

The work is a small training step. Averaged over ten seconds it followed real steps of two networks with a correlation of 0.94 to
0.96 and left 1 % unexplained, whatever step stood before it; single matrix products followed them less well or fell into
modes of their own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Of the work: milliseconds on the devices of the day, long enough to be timed, short enough to stand between two steps."""

    tokens: int
    width: int
    images: int
    channels: int


_SIZES: Final = {"cpu": _Sizes(128, 128, 2, 64), "cuda": _Sizes(2048, 1024, 32, 128)}
_IMAGE = 16
_REPEATS = 4
"""The shortest counts, which leaves out what interrupts one of them; another one ahead brings the caches into order."""


class Canary:
    """A dense block and two convolutions, forward and backward. Imports torch, and leaves its random state as it was."""

    def __init__(self, device: torch.device) -> None:
        import torch
        from torch import nn

        self._torch = torch
        self._device = device
        sizes = _SIZES[device.type]
        width, channels = sizes.width, sizes.channels
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            dense = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            convolutions = nn.Sequential(
                nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
            )
            inputs = torch.randn(sizes.tokens, width), torch.randn(sizes.images, 3, _IMAGE, _IMAGE)
        models = dense.to(device), convolutions.to(device)
        self._work = [
            (model, values.to(device), list(model.parameters())) for model, values in zip(models, inputs, strict=True)
        ]

    def time_s(self) -> float:
        """Seconds of the work now; waits for the device before and after."""
        return min([self._once_s() for _ in range(1 + _REPEATS)][1:])

    def _once_s(self) -> float:
        self._settle()
        start_ns = time.perf_counter_ns()
        for model, values, parameters in self._work:
            self._torch.autograd.grad(model(values).sum(), parameters)
        self._settle()
        return (time.perf_counter_ns() - start_ns) / 1e9

    def _settle(self) -> None:
        if self._device.type != "cpu":
            self._torch.accelerator.synchronize(self._device)
