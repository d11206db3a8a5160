"""Times the layers of a network in place: whole training steps with a mark at every layer boundary, in both directions.

Forward marks stand between the layers. In backward, the gradient hook of a layer's output runs when all layers after it are
done, because autograd takes the youngest function first and stores a parameter's gradient at once. So caches, allocator and
autograd are as in training; nothing is synchronised inside a step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from hetsim.models.network import DTYPES, Network
from hetsim.models.optimizer import make_optimizer
from hetsim.workload import Training

STANDING_RATE = 1e-12
"""Learning rate while timing: the update costs the same and the network stays what it is."""


@dataclass(frozen=True, slots=True)
class MarkedStep:
    """Seconds of the parts of one step; lists are by layer, in the order of the chain."""

    forward_s: list[float]
    backward_s: list[float]
    update_s: list[float]
    loss_forward_s: float
    loss_backward_s: float

    @property
    def total_s(self) -> float:
        """The sum of all parts."""
        return sum(self.forward_s) + sum(self.backward_s) + sum(self.update_s) + self.loss_forward_s + self.loss_backward_s


class Clock:
    """Marks in time on a device: the host's clock for a CPU, events on the device's stream for an accelerator."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._times: list[int] = []
        self._events: list[torch.Event] = []

    def mark(self) -> None:
        """Note the present moment; on an accelerator, the moment at which its queue comes to here."""
        if self._device.type == "cpu":
            self._times.append(time.perf_counter_ns())
        else:
            event = torch.Event(self._device, enable_timing=True)
            event.record()
            self._events.append(event)

    def intervals_s(self) -> list[float]:
        """Seconds between successive marks; waits for the device, and forgets the marks."""
        if self._device.type == "cpu":
            times, self._times = self._times, []
            return [(b - a) / 1e9 for a, b in pairwise(times)]
        events, self._events = self._events, []
        events[-1].synchronize()
        return [a.elapsed_time(b) / 1e3 for a, b in pairwise(events)]


class InPlaceTimer:
    """One network on one device, ready to be stepped with or without marks."""

    def __init__(self, network: Network, training: Training, device: torch.device, seed: int) -> None:
        self._network = network
        self._dtype = DTYPES[training.dtype]
        self._model = network.model.to(device, self._dtype)
        self._layers = list(self._model)
        self._device = device
        self._seed = seed
        self._clock = Clock(device)
        # Stepped hundreds of times on one batch, a network that learned would end in vanishing, denormal and slow numbers.
        standing = replace(training, learning_rate=STANDING_RATE)
        self._optimizer = make_optimizer(list(self._model.parameters()), standing)
        self._optimizer_of = [
            make_optimizer(list(layer.parameters()), standing) if any(True for _ in layer.parameters()) else None
            for layer in self._layers
        ]

    def batch(self, samples: int) -> tuple[Tensor, Tensor]:
        """Random data of the network's own shape, on the device, floats in the training dtype."""
        generator = torch.Generator().manual_seed(self._seed + samples)
        inputs, targets = self._network.make_batch(samples, generator)
        dtype = self._dtype if inputs.is_floating_point() else inputs.dtype
        return inputs.to(self._device, dtype), targets.to(self._device)

    def plain_step_s(self, inputs: Tensor, targets: Tensor) -> float:
        """Seconds of one step without marks, as a training loop runs it."""
        self._clock.mark()
        torch.autograd.backward(self._network.loss(self._model(inputs), targets))
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._clock.mark()
        return self._clock.intervals_s()[0]

    def marked_step(self, inputs: Tensor, targets: Tensor) -> MarkedStep:
        """One step with a mark at every boundary."""
        mark = self._clock.mark
        mark()
        value = inputs
        for layer in self._layers:
            value = layer(value)
            if value.requires_grad:
                value.register_hook(_marking(mark))
            mark()
        loss = self._network.loss(value, targets)
        mark()
        torch.autograd.backward(loss)
        mark()
        for optimizer in self._optimizer_of:
            if optimizer is not None:
                optimizer.step()
                optimizer.zero_grad()
            mark()
        return self._parts(self._clock.intervals_s())

    def _parts(self, intervals_s: list[float]) -> MarkedStep:
        """Sort the intervals: layers forward, loss forward, loss backward, layers backward, layers update."""
        count = len(self._layers)
        forward_s, rest = intervals_s[:count], intervals_s[count:]
        update_s = rest[-count:]
        backward_s = rest[2 : len(rest) - count]
        # Layers before the first one that learns have no gradient to hook: their backward does not happen.
        unhooked = count - len(backward_s)
        return MarkedStep(forward_s, [0.0] * unhooked + backward_s[::-1], update_s, rest[0], rest[1])


def _marking(mark: Callable[[], None]) -> Callable[[Tensor], None]:
    def hook(_gradient: Tensor) -> None:
        mark()

    return hook
