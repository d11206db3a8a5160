"""What a builder hands over, and how samples, labels and loss follow from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hetsim.models.network import Network
from hetsim.scenario.types import InputSpec


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A model and what it is trained on."""

    model: nn.Sequential
    sample: InputSpec

    target_shape: tuple[int, ...] = ()
    """Shape of the labels of one sample: empty for one label, `(tokens,)` for one label a token."""

    def network(self, name: str) -> Network:
        """The network called `name`, in training mode, with random data and cross-entropy."""
        return Network(name, self.model.train(), batch_maker(self.sample, self.target_shape), cross_entropy)


def batch_maker(sample: InputSpec, target_shape: tuple[int, ...]) -> Callable[[int, torch.Generator], tuple[Tensor, Tensor]]:
    """A function (samples, generator) -> inputs and labels.

    Inputs are normally distributed floats, or uniform tokens where `sample` has a vocabulary; labels are uniform.
    """

    def make_batch(samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        shape = (samples, *sample.shape)
        if sample.vocabulary is None:
            inputs = torch.randn(shape, generator=generator)
        else:
            inputs = torch.randint(sample.vocabulary, shape, generator=generator)
        return inputs, torch.randint(sample.classes, (samples, *target_shape), generator=generator)

    return make_batch


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over the last dimension of `outputs`, averaged over everything that has a label.

    All samples have equally many labels, so this is the mean over samples of each sample's mean.
    """
    return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())
