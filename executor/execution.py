"""One plan on one worker: the layers it holds, their exchange, their schedule and their optimizer."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from executor.batches import Batches
from executor.gradients import GradientExchange
from executor.groups import Groups
from executor.job import Job
from executor.pipelining import Neighbours, Pipeline
from executor.recording import Recorder
from hetsim.exchange import segments
from hetsim.models.network import DTYPES, Network
from hetsim.models.optimizer import make_optimizer
from hetsim.plan import Replica
from hetsim.schedule import Action, Kind
from hetsim.workload import Training


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device stands in a plan."""

    replica: Replica
    stage_numbers: tuple[int, ...]
    """Of the stages that it holds."""

    first_sample: int
    """Of the replica's share, in the global batch."""

    @property
    def samples(self) -> slice:
        """The replica's share of the global batch."""
        return slice(self.first_sample, self.first_sample + self.replica.samples)

    @property
    def has_first(self) -> bool:
        """Whether it takes the batch's inputs."""
        return 0 in self.stage_numbers

    @property
    def has_last(self) -> bool:
        """Whether it takes the batch's targets, and has the loss."""
        return len(self.replica.stages) - 1 in self.stage_numbers


def place_of(replicas: Sequence[Replica], device: str) -> Place | None:
    """Where `device` stands among `replicas`; None where it has nothing to do."""
    first_sample = 0
    for replica in replicas:
        if numbers := tuple(number for number, stage in enumerate(replica.stages) if stage.device == device):
            return Place(replica, numbers, first_sample)
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
    shared = {segment: groups.exchanging(segment.devices) for segment in segments(plan, job.chain) if len(plan.replicas) > 1}
    place = place_of(plan.replicas, name)
    if place is None:
        return None
    held = [_Held(number, GradientExchange(number, recorder)) for number in place.stage_numbers]
    for segment in reversed(segments(plan, job.chain)):
        for mine in held:
            if segment.start in place.replica.stages[mine.number].layers:
                layers = {i: copy.deepcopy(network.model[i]).to(device, DTYPES[job.training.dtype]) for i in segment.layers}
                piece: nn.Module = nn.Sequential(*layers.values())
                buckets = [bucket for bucket in schedule.buckets if bucket.segment == segment]
                mine.layers.update(layers)
                mine.pieces.append(mine.exchange.wrap(piece, shared[segment], buckets) if buckets else piece)
    share = place.replica.microbatch_samples / plan.global_batch
    last = len(place.replica.stages) - 1
    pipeline = Pipeline(
        {m.number: _StageModule(m.pieces, receives=m.number > 0, sends=m.number < last) for m in held},
        {m.number: m.exchange for m in held},
        depth=last + 1,
        actions={groups.rank_within(place.replica.devices, d): schedule.actions[d] for d in place.replica.devices},
        microbatches=place.replica.microbatches,
        loss=lambda outputs, targets: network.loss(outputs, targets) * share,
        neighbours=neighbours[place.replica],
        device=device,
        recorder=recorder,
    )
    return Execution(job.training, place, held, pipeline, device, recorder)


@dataclass(frozen=True, slots=True)
class _Held:
    """A stage that a device holds."""

    number: int
    exchange: GradientExchange
    layers: dict[int, nn.Module] = field(default_factory=dict)
    """By index in the chain."""

    pieces: list[nn.Module] = field(default_factory=list)
    """The layers of each segment, in order."""


class Execution:
    """What a worker runs of one plan."""

    def __init__(
        self,
        training: Training,
        place: Place,
        held: Sequence[_Held],
        pipeline: Pipeline,
        device: torch.device,
        recorder: Recorder[Any],
    ) -> None:
        self._place = place
        self._held = held
        self._pipeline = pipeline
        self._device = device
        self._dtype = DTYPES[training.dtype]
        self._recorder = recorder
        self._optimizers = {}
        for mine in held:
            learnable = [p for layer in mine.layers.values() for p in layer.parameters() if p.requires_grad]
            self._optimizers[mine.number] = make_optimizer(learnable, training) if learnable else None

    def load(self, batches: Batches, step: int) -> tuple[Tensor | None, Tensor | None]:
        """What this worker needs of the batch of `step`, on its device."""
        place, mine = self._place, None
        if not (place.has_first or place.has_last):
            return None, None
        inputs, targets = batches.share(step, place.samples)
        if place.has_first:
            mine = inputs.to(self._device)
            mine = mine.to(self._dtype) if mine.is_floating_point() else mine
        return mine, targets.to(self._device) if place.has_last else None

    def step(self, inputs: Tensor | None, targets: Tensor | None) -> Tensor | None:
        """One training step; returns this worker's share of the loss where it has the last stage."""
        loss = self._pipeline.step(inputs, targets)
        self._pipeline.wait_sent()
        for mine in self._held:
            mine.exchange.wait()
        for number, optimizer in self._optimizers.items():
            self._recorder.begin(Action(number, Kind.UPDATE))
            if optimizer is not None:
                optimizer.step()
                optimizer.zero_grad()
            self._recorder.end()
        return loss

    def settle_in(self) -> None:
        """After the first step: do what is done once."""
        for mine in self._held:
            mine.exchange.rebuild_buckets()

    def state(self) -> list[dict[str, Any]]:
        """All that training has changed: the layers and the optimizer of each stage held."""
        return [
            {
                "layers": {i: layer.state_dict() for i, layer in mine.layers.items()},
                "optimizer": None if (optimizer := self._optimizers[mine.number]) is None else optimizer.state_dict(),
            }
            for mine in self._held
        ]

    def take_state(self, state: Sequence[dict[str, Any]]) -> None:
        """Go on from what `state` told."""
        for mine, row in zip(self._held, state, strict=True):
            for i, layer in mine.layers.items():
                layer.load_state_dict(row["layers"][i])
            optimizer = self._optimizers[mine.number]
            if optimizer is not None:
                optimizer.load_state_dict(row["optimizer"])

    def save_parameters(self, path: Path) -> None:
        """Write the state of each layer held, by its index in the chain."""
        torch.save({i: layer.state_dict() for mine in self._held for i, layer in mine.layers.items()}, path)


class _StageModule(nn.Module):
    """The pieces of a stage, with what crosses its borders made contiguous: a message is a run of bytes.

    The gradient of a mean, for one, is a single number seen many times over, which cannot be sent as it is.
    """

    def __init__(self, pieces: Sequence[nn.Module], *, receives: bool, sends: bool) -> None:
        super().__init__()
        self.pieces = nn.Sequential(*pieces)
        self._receives = receives
        self._sends = sends

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
