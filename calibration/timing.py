"""Times the layers of a network in place: whole training steps with a mark at every layer boundary, in both directions.

Forward marks stand between the layers. In backward, the gradient hook of a layer's output runs when all layers after it are
done, because autograd takes the youngest function first and stores a parameter's gradient at once. So caches, allocator and
autograd are as in training; nothing is synchronised inside a step.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from hetsim.costs.gathered import are_few
from hetsim.hardware.footprint import PeakWatch
from hetsim.models.intake import run_layers
from hetsim.models.network import DTYPES, Network
from hetsim.models.optimizer import make_optimizer
from hetsim.workload import Training

STANDING_RATE = 1e-12
"""Learning rate while timing: the update costs the same and the network stays what it is."""

COPIES = 5
"""Timings of bringing a batch to the device."""

IN_TURN = 4
"""Forwards and backwards that are timed in turn, where few microbatches are in flight."""


@dataclass(frozen=True, slots=True)
class MarkedStep:
    """Seconds of the parts of one step, of one microbatch where it has several; lists are by layer, in the order of the chain."""

    forward_s: list[float]
    backward_s: list[float]
    update_s: list[float]
    """Each layer's parameters by an optimizer of their own."""

    loss_forward_s: float
    loss_backward_s: float

    @property
    def total_s(self) -> float:
        """The sum of all parts."""
        compute_s = sum(self.forward_s) + sum(self.backward_s) + self.loss_forward_s + self.loss_backward_s
        return compute_s + sum(self.update_s)


@dataclass(frozen=True, slots=True)
class PlainStep:
    """Seconds of one step as a training loop runs it, of the optimizer's part of it, and of setting the gradients back in that."""

    total_s: float
    update_s: float
    zero_s: float


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that a step and its process hold."""

    saved_bytes: list[int]
    """By layer: what autograd keeps from forward to backward, each storage once, parameters not at all."""

    workspace_bytes: int | None
    """What a step takes at its worst moment beside gradients and what autograd keeps; None where nobody can tell."""

    context_bytes: int | None
    """What the process takes beside the network and its optimizer; None where nobody can tell."""


@dataclass(frozen=True, slots=True)
class Work:
    """A forward or a backward of a marked step."""

    forward: bool
    counts: bool = True


def pipeline_order(in_flight: int) -> list[Work]:
    """What a marked step does with up to `in_flight` microbatches in flight, in this order.

    With few, as 1F1B does in its middle, whose forwards and backwards are in turn: only these count. With more, as GPipe does: all
    forwards, then all backwards.
    """
    if not are_few(in_flight):
        return [Work(forward=True)] * in_flight + [Work(forward=False)] * in_flight
    begin = [Work(forward=True, counts=False)] * in_flight + [Work(forward=False, counts=False)]
    return (
        begin + [Work(forward=True), Work(forward=False)] * IN_TURN + [Work(forward=False, counts=False)] * (in_flight - 1)
    )


class Clock:
    """Marks in time on a device: the host's clock for a CPU, events on the device's stream for an accelerator."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._laps: list[list[Any]] = []

    def lap(self) -> None:
        """Begin a new row of marks, with the present moment."""
        self._laps.append([])
        self.mark()

    def mark(self) -> None:
        """Note the present moment; on an accelerator, the moment at which its queue comes to here."""
        if self._device.type == "cpu":
            self._laps[-1].append(time.perf_counter_ns())
        else:
            event = torch.Event(self._device, enable_timing=True)
            event.record()
            self._laps[-1].append(event)

    def laps_s(self) -> list[list[float]]:
        """Seconds between successive marks, by lap; waits for the device, and forgets the marks."""
        laps, self._laps = self._laps, []
        if self._device.type == "cpu":
            return [[(b - a) / 1e9 for a, b in pairwise(lap)] for lap in laps]
        laps[-1][-1].synchronize()
        return [[a.elapsed_time(b) / 1e3 for a, b in pairwise(lap)] for lap in laps]


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
        self._optimizer = make_optimizer(self._model.parameters(), standing)
        self._optimizer_of = [
            make_optimizer(layer.parameters(), standing) if any(True for _ in layer.parameters()) else None
            for layer in self._layers
        ]

    def batch(self, samples: int) -> tuple[Tensor, Tensor]:
        """Random data of the network's own shape, on the device, floats in the training dtype."""
        return self._on_device(*self._host_batch(samples))

    def copy_s(self, samples: int) -> list[float]:
        """Timings of bringing a batch to the device, from memory of the host that is not pinned."""
        batch = self._host_batch(samples)
        for _ in range(COPIES):
            self._clock.lap()
            self._on_device(*batch)
            self._clock.mark()
        return [lap[0] for lap in self._clock.laps_s()]

    def _host_batch(self, samples: int) -> tuple[Tensor, Tensor]:
        return self._network.make_batch(samples, torch.Generator().manual_seed(self._seed + samples))

    def _on_device(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        dtype = self._dtype if inputs.is_floating_point() else inputs.dtype
        return inputs.to(self._device, dtype), targets.to(self._device)

    def plain_step(self, inputs: Tensor, targets: Tensor) -> PlainStep:
        """One step with no mark but before the optimizer."""
        self._clock.lap()
        torch.autograd.backward(self._network.loss(self._model(inputs), targets))
        self._clock.mark()
        self._optimizer.step()
        self._clock.mark()
        self._optimizer.zero_grad()
        self._clock.mark()
        ((compute_s, step_s, zero_s),) = self._clock.laps_s()
        return PlainStep(compute_s + step_s + zero_s, step_s + zero_s, zero_s)

    def accumulation_s(self, inputs: Tensor, targets: Tensor) -> float:
        """What the backward of a second microbatch takes longer than that of the first, to whose gradients it adds; no update."""
        first_s, second_s = (self._backward_s(inputs, targets) for _ in range(2))
        self._optimizer.zero_grad()
        return second_s - first_s

    def footprint(self, inputs: Tensor, targets: Tensor) -> Footprint:
        """What a step holds in memory, and what the process holds beside it."""
        saved = [run.saved_bytes for run in run_layers(self._network.name, self._model, inputs)]
        parameters_bytes = sum(p.nbytes for p in self._model.parameters())
        gradients_bytes = sum(p.nbytes for p in self._model.parameters() if p.requires_grad)
        watch = PeakWatch(self._device)
        self.plain_step(inputs, targets)
        most, context = watch.peak_bytes(), watch.beside_bytes(parameters_bytes + self._state_bytes())
        workspace = None if most is None else max(0, most - gradients_bytes - sum(saved))
        return Footprint(saved, workspace, context)

    def _state_bytes(self) -> int:
        """What all optimizers keep."""
        optimizers = [self._optimizer, *(optimizer for optimizer in self._optimizer_of if optimizer is not None)]
        states = (value for optimizer in optimizers for state in optimizer.state.values() for value in state.values())
        return sum(value.nbytes for value in states if isinstance(value, Tensor))

    def _backward_s(self, inputs: Tensor, targets: Tensor) -> float:
        loss = self._network.loss(self._model(inputs), targets)
        self._clock.lap()
        torch.autograd.backward(loss)
        self._clock.mark()
        ((backward_s,),) = self._clock.laps_s()
        return backward_s

    def marked_step(self, inputs: Tensor, targets: Tensor, in_flight: int = 1) -> MarkedStep:
        """One step with up to `in_flight` microbatches in flight, in the order of `pipeline_order`, with a mark at every boundary.

        Returns the mean over the microbatches that count.
        """
        losses: deque[Tensor] = deque()
        order = pipeline_order(in_flight)
        for work in order:
            if work.forward:
                losses.append(self._forward(inputs, targets))
            else:
                self._clock.lap()
                torch.autograd.backward(losses.popleft())
                self._clock.mark()
        self._clock.lap()
        for optimizer in self._optimizer_of:
            if optimizer is not None:
                optimizer.step()
                optimizer.zero_grad()
            self._clock.mark()
        *laps_s, update_s = self._clock.laps_s()
        forward_s, backward_s = (
            _mean([lap for lap, work in zip(laps_s, order, strict=True) if work.counts and work.forward == forward])
            for forward in (True, False)
        )
        return self._parts(forward_s, backward_s, update_s)

    def _forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of one microbatch; marks after each layer and the loss, and hooks that will mark the backward."""
        self._clock.lap()
        value = inputs
        for layer in self._layers:
            value = layer(value)
            if value.requires_grad:
                value.register_hook(self._mark_gradient)
            self._clock.mark()
        loss = self._network.loss(value, targets)
        self._clock.mark()
        return loss

    def _mark_gradient(self, _gradient: Tensor) -> None:
        self._clock.mark()

    def _parts(self, forward_s: list[float], backward_s: list[float], update_s: list[float]) -> MarkedStep:
        """Sort the intervals. Backward comes last layer first, behind the loss.

        Layers before the first one that learns have no gradient to hook: their backward does not happen.
        """
        unhooked = len(self._layers) - (len(backward_s) - 1)
        layers_s = [0.0] * unhooked + backward_s[:0:-1]
        return MarkedStep(forward_s[:-1], layers_s, update_s, forward_s[-1], backward_s[0])


def _mean(laps_s: list[list[float]]) -> list[float]:
    return [sum(column) / len(laps_s) for column in zip(*laps_s, strict=True)]
