"""A network ready to train: an `nn.Sequential`, one child a layer, with its data and its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Training dtype by its name in a scenario."""


@dataclass(frozen=True, slots=True)
class Network:
    """What calibration and executor train."""

    name: str
    model: nn.Sequential
    """One child per layer of the chain, in order."""

    make_batch: Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
    """(samples, generator) -> inputs and targets on the CPU, with the sample as first dimension."""

    loss: Callable[[Tensor, Tensor], Tensor]
    """(outputs, targets) -> the loss, averaged over samples."""
