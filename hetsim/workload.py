"""The network as numbers: a chain of layers, no torch.

A *layer* is the smallest piece that a split may not cut; a network is a *chain* of them (a block with a skip inside is
one layer). Sizes that grow with the batch are per sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

OptimizerName = Literal["sgd", "adamw"]
Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, as numbers."""

    name: str
    parameters: tuple[int, ...] = ()
    """Elements of each parameter tensor that learns, in order of registration (gradient buckets end between tensors)."""

    output_bytes_per_sample: int = 0
    """What a stage that ends here sends on, and gets back as a gradient."""

    saved_bytes_per_sample: int = 0
    """What autograd keeps of one sample from the forward to the backward of this layer."""

    forward_flops_per_sample: float = 0.0
    """Floating point operations of the forward pass (a multiply-add is two)."""

    @property
    def parameter_count(self) -> int:
        """Learnable elements."""
        return sum(self.parameters)


@dataclass(frozen=True, slots=True)
class Chain:
    """A network: layers in order."""

    name: str
    layers: tuple[Layer, ...]
    input_bytes_per_sample: int = 0
    element_bytes: int = 4
    """Bytes of one element of the training dtype."""

    def __len__(self) -> int:
        return len(self.layers)

    def boundary_bytes_per_sample(self, cut: int) -> int:
        """Bytes a sample that cross the cut before layer `cut`; 0 at either end of the chain."""
        return self.layers[cut - 1].output_bytes_per_sample if 0 < cut < len(self.layers) else 0

    def parameter_bytes(self, layers: Sequence[int] | range | None = None) -> int:
        """Bytes of the learnable parameters of `layers` (all of them by default)."""
        chosen = range(len(self.layers)) if layers is None else layers
        return sum(self.layers[i].parameter_count for i in chosen) * self.element_bytes


@dataclass(frozen=True, slots=True)
class Training:
    """What is trained with: the part of the mathematics that a split must not change."""

    global_batch: int
    """Samples in one optimizer step, over all devices."""

    optimizer: OptimizerName = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    """SGD only."""

    dtype: Dtype = "float32"

    @property
    def optimizer_state_bytes_per_parameter(self) -> int:
        """Bytes of float32 optimizer state a parameter element needs: momentum, or Adam's two moments."""
        if self.optimizer == "adamw":
            return 8
        return 4 if self.momentum else 0
