"""One plan on one worker: the layers it holds, their exchange, their schedule and their optimizer."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from executor.gradients import GradientExchange
from executor.groups import Groups
from executor.job import Job
from executor.pipelining import Neighbours, Pipeline
from executor.recording import Recorder
from hetsim.exchange import segments
from hetsim.models.network import DTYPES, Network
from hetsim.models.optimizer import make_optimizer
from hetsim.plan import Replica, Stage
from hetsim.schedule import Action, Kind
from hetsim.workload import Training


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device stands in a plan."""

    replica: Replica
    stage_number: int
    first_sample: int
    """Of the replica's share, in the global batch."""

    @property
    def stage(self) -> Stage:
        """The layers that it holds."""
        return self.replica.stages[self.stage_number]

    @property
    def samples(self) -> slice:
        """The replica's share of the global batch."""
        return slice(self.first_sample, self.first_sample + self.replica.samples)

    @property
    def is_first(self) -> bool:
        """Whether it takes the batch's inputs."""
        return self.stage_number == 0

    @property
    def is_last(self) -> bool:
        """Whether it takes the batch's targets, and has the loss."""
        return self.stage_number == len(self.replica.stages) - 1


def place_of(replicas: Sequence[Replica], device: str) -> Place | None:
    """Where `device` stands among `replicas`; None where it has nothing to do."""
    first_sample = 0
    for replica in replicas:
        for number, stage in enumerate(replica.stages):
            if stage.device == device:
                return Place(replica, number, first_sample)
        first_sample += replica.samples
    return None


def make_execution(
    job: Job,
    number: int,
    network: Network,
    *,
    name: str,
    device: torch.device,
    groups: Groups,
    recorder: Recorder[Any],
) -> Execution | None:
    """What the device called `name` runs of request `number` of `job`; None where it has nothing to do.

    Collective: all workers must make their executions of all requests in the same order.
    """
    schedule = job.schedule(number)
    plan = schedule.plan
    neighbours = {replica: Neighbours(*groups.pair(replica.devices)) for replica in plan.replicas}
    shared = {segment: groups.of(segment.devices) for segment in segments(plan, job.chain) if len(plan.replicas) > 1}
    place = place_of(plan.replicas, name)
    if place is None:
        return None
    exchange = GradientExchange(place.stage_number, recorder)
    layers = {i: copy.deepcopy(network.model[i]).to(device, DTYPES[job.training.dtype]) for i in place.stage.layers}
    pieces: list[nn.Module] = []
    for segment in reversed(segments(plan, job.chain)):
        if segment.start in layers:
            piece: nn.Module = nn.Sequential(*(layers[i] for i in segment.layers))
            buckets = [bucket for bucket in schedule.buckets if bucket.segment == segment]
            pieces.append(exchange.wrap(piece, shared[segment], buckets) if buckets else piece)
    share = place.replica.microbatch_samples / plan.global_batch
    pipeline = Pipeline(
        _StageModule(pieces, place),
        stage=place.stage_number,
        actions={groups.rank_within(place.replica.devices, d): schedule.actions[d] for d in place.replica.devices},
        microbatches=place.replica.microbatches,
        loss=lambda outputs, targets: network.loss(outputs, targets) * share,
        neighbours=neighbours[place.replica],
        device=device,
        exchange=exchange,
        recorder=recorder,
    )
    return Execution(job.training, place, layers, pipeline, exchange, device, recorder)


class Execution:
    """What a worker runs of one plan."""

    def __init__(
        self,
        training: Training,
        place: Place,
        layers: dict[int, nn.Module],
        pipeline: Pipeline,
        exchange: GradientExchange,
        device: torch.device,
        recorder: Recorder[Any],
    ) -> None:
        self._place = place
        self._layers = layers
        self._pipeline = pipeline
        self._exchange = exchange
        self._device = device
        self._dtype = DTYPES[training.dtype]
        self._recorder = recorder
        learnable = [p for layer in layers.values() for p in layer.parameters() if p.requires_grad]
        self._optimizer = make_optimizer(learnable, training) if learnable else None

    def load(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What this worker needs of a global batch, on its device."""
        place, mine = self._place, None
        if place.is_first:
            mine = inputs[place.samples].to(self._device)
            mine = mine.to(self._dtype) if mine.is_floating_point() else mine
        return mine, targets[place.samples].to(self._device) if place.is_last else None

    def step(self, inputs: Tensor | None, targets: Tensor | None) -> Tensor | None:
        """One training step; returns this worker's share of the loss where it has the last stage."""
        loss = self._pipeline.step(inputs, targets)
        self._pipeline.wait_sent()
        self._exchange.wait()
        self._recorder.begin(Action(self._place.stage_number, Kind.UPDATE))
        if self._optimizer is not None:
            self._optimizer.step()
            self._optimizer.zero_grad()
        self._recorder.end()
        return loss

    def settle_in(self) -> None:
        """After the first step: do what is done once."""
        self._exchange.rebuild_buckets()

    def save_parameters(self, path: Path) -> None:
        """Write the state of each layer held, by its index in the chain."""
        torch.save({i: layer.state_dict() for i, layer in self._layers.items()}, path)


class _StageModule(nn.Module):
    """The pieces of a stage, with what crosses its borders made contiguous: a message is a run of bytes.

    The gradient of a mean, for one, is a single number seen many times over, which cannot be sent as it is.
    """

    def __init__(self, pieces: Sequence[nn.Module], place: Place) -> None:
        super().__init__()
        self.pieces = nn.Sequential(*pieces)
        self._receives = not place.is_first
        self._sends = not place.is_last

    def forward(self, states: Tensor) -> Tensor:
        """The stage's output."""
        if self._receives:
            states = _ContiguousGradient.apply(states)  # type: ignore[no-untyped-call]
        states = self.pieces(states)
        return states.contiguous() if self._sends else states


class _ContiguousGradient(torch.autograd.Function):
    """The identity, whose gradient comes out contiguous."""

    @staticmethod
    def forward(_context: Any, states: Tensor) -> Tensor:
        return states.view_as(states)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous()
