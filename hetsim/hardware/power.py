"""What a device draws right now, where its driver tells, through torch: NVML on NVIDIA, with the package nvidia-ml-py."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def drawn_w(device: torch.device) -> float | None:
    """Watts that `device` draws, as its driver averages them over some tenths of a second; None where nobody tells."""
    if device.type != "cuda":
        return None
    import torch

    try:
        return torch.cuda.power_draw(device) / 1000
    except (ImportError, RuntimeError, OSError, AttributeError):  # no nvidia-ml-py, or a device that does not tell
        return None
