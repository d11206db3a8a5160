"""The scenario's optimizer, made the same way for calibration and for the real run."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from hetsim.workload import Training


def make_optimizer(parameters: Iterable[nn.Parameter], training: Training) -> torch.optim.Optimizer:
    """The optimizer of `training` over `parameters`."""
    if training.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=training.learning_rate)
    return torch.optim.SGD(parameters, lr=training.learning_rate, momentum=training.momentum)
