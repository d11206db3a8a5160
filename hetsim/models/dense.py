"""The multilayer perceptron of the zoo."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from hetsim.models.blueprint import Blueprint
from hetsim.scenario.types import InputSpec


def mlp(*, features: int, width: int, depth: int, classes: int) -> Blueprint:
    """`depth` hidden layers of `width` with ReLU, then a linear head."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(1, depth + 1):
        layers[f"dense{number}"] = nn.Sequential(nn.Linear(features if number == 1 else width, width), nn.ReLU())
    layers["head"] = nn.Linear(width, classes)
    return Blueprint(nn.Sequential(layers), InputSpec((features,), classes=classes))
