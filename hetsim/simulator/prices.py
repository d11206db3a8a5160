"""Prices: the integer nanoseconds of every action of a schedule. What both the event model and the recurrence run on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hetsim.costs import CostModel, Estimate
from hetsim.plan import Replica, Stage
from hetsim.schedule import Kind, Schedule

Scale = Callable[[str, Estimate], float]
"""(device, estimate) -> seconds: how an estimate becomes the time that is simulated; the default takes it as it is."""


@dataclass(frozen=True, slots=True)
class BackwardPart:
    """A piece of a stage's last backward, and the buckets whose gradients are complete when it ends."""

    duration_ns: int
    ready: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Prices:
    """Durations in nanoseconds. Keys name the device and the stage of its replica."""

    start_ns: Mapping[str, int]
    """Device -> what a step costs before its first action."""

    compute_ns: Mapping[tuple[str, int, Kind], int]
    """F, B and UPDATE, for one microbatch; B as it is for all but the first, adding to gradients that exist."""

    first_backward_ns: Mapping[tuple[str, int], int]
    """B of the microbatch that comes first."""

    last_backward: Mapping[tuple[str, int], tuple[BackwardPart, ...]]
    """The same backward in pieces, for the microbatch that completes the gradients; with the packing of buckets."""

    send_ns: Mapping[tuple[str, int, Kind], int]
    """SEND_F and SEND_B: how long the message travels."""

    post_ns: Mapping[tuple[str, int, Kind], int]
    """SEND_F, SEND_B, RECV_F and RECV_B: how long posting it occupies the device."""

    reduce_ns: tuple[int, ...]
    """By bucket."""


def price(schedule: Schedule, costs: CostModel, scale: Scale | None = None) -> Prices:
    """The price of every action of `schedule`. Raises CostError where the table lacks a cost."""
    seconds: Scale = scale or (lambda _device, estimate: estimate.seconds)
    start_ns: dict[str, int] = {}
    compute_ns: dict[tuple[str, int, Kind], int] = {}
    first_backward_ns: dict[tuple[str, int], int] = {}
    last_backward: dict[tuple[str, int], tuple[BackwardPart, ...]] = {}
    send_ns: dict[tuple[str, int, Kind], int] = {}
    post_ns: dict[tuple[str, int, Kind], int] = {}
    for replica in schedule.plan.replicas:
        for number, stage in enumerate(replica.stages):
            key = (stage.device, number)
            forward_s, backward_s = _stage_seconds(stage, replica, costs, seconds)
            beside_forward_s, beside_backward_s = _beside_messages_s(number, replica, costs)
            start_ns[stage.device] = _ns(costs.step_overhead_s(stage.device))
            compute_ns[*key, Kind.FORWARD] = _ns(forward_s + beside_forward_s)
            backward_s[-1] += beside_backward_s
            accumulating_s = _accumulating_s(stage, backward_s, costs, seconds)
            first_backward_ns[key] = _ns(sum(backward_s))
            compute_ns[*key, Kind.BACKWARD] = _ns(sum(accumulating_s))
            compute_ns[*key, Kind.UPDATE] = _ns(costs.update_s(stage.device, stage.layers))
            last_backward[key] = _parts(schedule, stage, accumulating_s if replica.microbatches > 1 else backward_s, costs)
            for kind, neighbour, size_bytes in _messages(number, replica, costs):
                post_s = costs.post_send_s(stage.device, size_bytes)
                post_ns[*key, kind] = _ns(post_s)
                # A message is timed from the call that posts it, so what the call takes is not counted again.
                send_ns[*key, kind] = _ns(max(0.0, costs.send_s(stage.device, neighbour, size_bytes) - post_s))
                answer = Kind.RECV_B if kind is Kind.SEND_F else Kind.RECV_F
                post_ns[*key, answer] = _ns(costs.post_receive_s(stage.device, size_bytes))
    reduce_ns = tuple(_ns(costs.reduce_s(b.segment.devices, b.size_bytes)) for b in schedule.buckets)
    return Prices(start_ns, compute_ns, first_backward_ns, last_backward, send_ns, post_ns, reduce_ns)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _stage_seconds(stage: Stage, replica: Replica, costs: CostModel, seconds: Scale) -> tuple[float, list[float]]:
    """Forward of a microbatch, and its backward layer by layer from the last to the first (the loss with the last)."""
    device, size = stage.device, replica.microbatch_samples
    mode = replica.is_pipelined
    forward_s = sum(seconds(device, costs.forward(device, layer, size, pipelined=mode)) for layer in stage.layers)
    backward_s = [seconds(device, costs.backward(device, layer, size, pipelined=mode)) for layer in reversed(stage.layers)]
    if stage.stop == len(costs.chain):
        forward_s += seconds(device, costs.loss_forward(device, size, pipelined=mode))
        backward_s[0] += seconds(device, costs.loss_backward(device, size, pipelined=mode))
    return forward_s, backward_s


def _beside_messages_s(number: int, replica: Replica, costs: CostModel) -> tuple[float, float]:
    """By how much the messages of other microbatches lengthen each forward and backward of a stage.

    While a pipeline is full, every forward has one message of activations coming in beside it and one going out, and every backward
    has the gradients. With a single microbatch nothing is computed meanwhile.
    """
    if replica.microbatches == 1:
        return 0.0, 0.0
    stage, size = replica.stages[number], replica.microbatch_samples
    entry_bytes = size * costs.chain.boundary_bytes_per_sample(stage.start) if number else 0
    exit_bytes = size * costs.chain.boundary_bytes_per_sample(stage.stop) if number < len(replica.stages) - 1 else 0
    forward_s = costs.beside_receive_s(stage.device, entry_bytes) + costs.beside_send_s(stage.device, exit_bytes)
    backward_s = costs.beside_receive_s(stage.device, exit_bytes) + costs.beside_send_s(stage.device, entry_bytes)
    return forward_s, backward_s


def _accumulating_s(stage: Stage, backward_s: list[float], costs: CostModel, seconds: Scale) -> list[float]:
    """The same backward where gradients of an earlier microbatch exist."""
    device = stage.device
    added_s = (seconds(device, costs.accumulate(device, layer)) for layer in reversed(stage.layers))
    return [layer_s + added for layer_s, added in zip(backward_s, added_s, strict=True)]


def _parts(schedule: Schedule, stage: Stage, backward_s: list[float], costs: CostModel) -> tuple[BackwardPart, ...]:
    """The last backward, cut where a bucket becomes ready. Packing the bucket is part of the piece that completes it, and what its
    exchange takes from the computation beside it is part of the next one."""
    parts: list[BackwardPart] = []
    elapsed_s = 0.0
    for layer, layer_s in zip(reversed(stage.layers), backward_s, strict=True):
        elapsed_s += layer_s
        ready = [b for b in schedule.buckets if b.first_layer == layer and stage.device in b.segment.devices]
        if ready:
            elapsed_s += sum(costs.bucket_s(stage.device, b.size_bytes) for b in ready)
            parts.append(BackwardPart(_ns(elapsed_s), tuple(b.index for b in ready)))
            elapsed_s = sum(costs.beside_reduce_s(stage.device, b.size_bytes) for b in ready) if layer > stage.start else 0.0
    if elapsed_s or not parts:
        parts.append(BackwardPart(_ns(elapsed_s), ()))
    return tuple(parts)


def _messages(number: int, replica: Replica, costs: CostModel) -> list[tuple[Kind, str, int]]:
    """What a stage sends for each microbatch: (kind, receiving device, bytes)."""
    stage, size = replica.stages[number], replica.microbatch_samples
    rows = []
    if number < len(replica.stages) - 1:
        rows.append(
            (Kind.SEND_F, replica.stages[number + 1].device, size * costs.chain.boundary_bytes_per_sample(stage.stop))
        )
    if number > 0:
        rows.append(
            (Kind.SEND_B, replica.stages[number - 1].device, size * costs.chain.boundary_bytes_per_sample(stage.start))
        )
    return rows
