"""The convolutional networks of the zoo: VGG-style and ResNet-style.

Normalisation is by group unless the user says otherwise. Batch norm's statistics are those of whatever samples are
processed together, so the gradients of a split batch are not those of the whole one, and a split changes what is learnt;
group norm looks at one sample at a time, and leaves every split with the same mathematics.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

from hetsim.models.blueprint import Blueprint
from hetsim.scenario.types import InputSpec

_GROUPS = 8


def vgg(
    *, image: int, channels: int, width: int, levels: int, depth: int, hidden: int, classes: int, norm: str
) -> Blueprint:
    """VGG-style: `levels` times `depth` 3x3 convolutions and a halving, then one dense layer and a linear head.

    A layer is a convolution with its norm, its ReLU and, at the end of a level, its pooling.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    size = channels
    for level in range(levels):
        for place in range(1, depth + 1):
            pieces = [*_convolution(size, width << level, norm), nn.ReLU()]
            if place == depth:
                pieces.append(nn.MaxPool2d(2))
            layers[f"conv{len(layers) + 1}"] = nn.Sequential(*pieces)
            size = width << level
    pixels = (image >> levels) ** 2
    layers["dense"] = nn.Sequential(nn.Flatten(), nn.Linear(size * pixels, hidden), nn.ReLU())
    layers["head"] = nn.Linear(hidden, classes)
    return Blueprint(nn.Sequential(layers), InputSpec((channels, image, image), classes=classes))


def resnet(*, image: int, channels: int, width: int, levels: int, depth: int, classes: int, norm: str) -> Blueprint:
    """ResNet-style: a stem, `levels` times `depth` residual blocks, then pooling and a linear head."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = nn.Sequential(*_convolution(channels, width, norm), nn.ReLU())
    size = width
    for level in range(levels):
        for place in range(1, depth + 1):
            stride = 2 if level > 0 and place == 1 else 1
            layers[f"block{level * depth + place}"] = ResidualBlock(size, width << level, stride, norm)
            size = width << level
    layers["head"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(size, classes))
    return Blueprint(nn.Sequential(layers), InputSpec((channels, image, image), classes=classes))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, norm: str) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_convolution(channels_in, channels_out, norm, stride=stride),
            nn.ReLU(),
            *_convolution(channels_out, channels_out, norm),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(*_convolution(channels_in, channels_out, norm, kernel=1, stride=stride))

    def forward(self, images: Tensor) -> Tensor:
        """Images of `channels_out` channels, each side divided by the stride."""
        return functional.relu(self.residual(images) + self.shortcut(images))


def _convolution(
    channels_in: int, channels_out: int, norm: str, *, kernel: int = 3, stride: int = 1
) -> tuple[nn.Module, ...]:
    """A convolution and its norm; the norm's own shift makes a bias before it useless."""
    has_norm = norm != "none"
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=not has_norm)
    if not has_norm:
        return (convolution,)
    if norm == "batch":
        return convolution, nn.BatchNorm2d(channels_out)
    return convolution, nn.GroupNorm(math.gcd(_GROUPS, channels_out), channels_out)
