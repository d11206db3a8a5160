"""Prices: the integer nanoseconds of every action of a plan. What both the event model and the recurrence run on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from hetsim.costs import CostModel, Estimate
from hetsim.costs.gathered import FEW_IN_FLIGHT
from hetsim.costs.traffic import Phase, Traffic
from hetsim.exchange import Bucket, buckets
from hetsim.hardware import Resource
from hetsim.plan import Plan, Replica, Stage
from hetsim.schedule import Kind

Scale = Callable[[str, Estimate], float]
"""(device, estimate) -> seconds: how an estimate becomes the time that is simulated; the default takes it as it is."""


@dataclass(frozen=True, slots=True)
class BackwardPart:
    """A piece of a stage's last backward, and the buckets whose gradients are complete when it ends."""

    duration_ns: int
    ready: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """A transfer alone, and what it takes of the resources that it shares with others."""

    latency_ns: int
    """Before it takes anything of a resource."""

    transfer_ns: int
    load: Mapping[Resource, float]
    """Resource -> the share of it that is taken while it transfers, 0 to 1."""

    bytes_per_s: float
    """On its busiest resource, while it transfers."""

    owner: str = ""
    """Of the first phase of an exchange: the device that sets it off as soon as its own gradients are ready; empty: all must be."""

    @property
    def duration_ns(self) -> int:
        """How long it takes alone."""
        return self.latency_ns + self.transfer_ns


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

    send: Mapping[tuple[str, int, Kind], Flow]
    """SEND_F and SEND_B: how the message travels."""

    post_ns: Mapping[tuple[str, int, Kind], int]
    """SEND_F, SEND_B, RECV_F and RECV_B: how long posting it occupies the device."""

    posting: bool
    """Whether posting takes any time at all."""

    exchange: tuple[tuple[tuple[Flow, ...], ...], ...]
    """By bucket: the phases of its exchange, and what travels in each."""

    exchange_ns: tuple[int, ...]
    """By bucket: how long that takes where nothing else travels."""

    cores: Mapping[str, Mapping[Resource, float]]
    """Device -> the processor cores that it computes on, where another device of the plan computes there too."""


@dataclass(frozen=True, slots=True)
class _StagePrices:
    """What is the same for all stages that are alike."""

    start_ns: int
    compute_ns: tuple[tuple[Kind, int], ...]
    first_backward_ns: int
    last_backward: tuple[BackwardPart, ...]
    post_ns: tuple[tuple[Kind, int], ...]


def price(plan: Plan, costs: CostModel, scale: Scale | None = None) -> Prices:
    """The price of every action of `plan`. Raises CostError where the table lacks a cost."""
    pricing = _Pricing(plan, costs, scale)
    start_ns: dict[str, int] = {}
    compute_ns: dict[tuple[str, int, Kind], int] = {}
    first_backward_ns: dict[tuple[str, int], int] = {}
    last_backward: dict[tuple[str, int], tuple[BackwardPart, ...]] = {}
    send: dict[tuple[str, int, Kind], Flow] = {}
    post_ns: dict[tuple[str, int, Kind], int] = {}
    for replica in plan.replicas:
        for number, stage in enumerate(replica.stages):
            mine, key = pricing.stage(replica, number), (stage.device, number)
            start_ns[stage.device] = mine.start_ns
            first_backward_ns[key], last_backward[key] = mine.first_backward_ns, mine.last_backward
            for kind, duration_ns in mine.compute_ns:
                compute_ns[*key, kind] = duration_ns
            for kind, duration_ns in mine.post_ns:
                post_ns[*key, kind] = duration_ns
            for kind, target, size_bytes in _messages(number, replica, costs):
                # A message is timed from the call that posts it, so what the call takes is not counted again.
                post_s = costs.post_send_s(stage.device, size_bytes)
                send[*key, kind] = _flow(costs.message(stage.group, target, size_bytes), costs, without_s=post_s)
    exchange, exchange_ns = pricing.exchange()
    return Prices(
        start_ns,
        compute_ns,
        first_backward_ns,
        last_backward,
        send,
        post_ns,
        any(post_ns.values()),
        exchange,
        exchange_ns,
        _shared_cores(plan, costs),
    )


class _Pricing:
    """The prices of one plan; what is alike is priced once."""

    def __init__(self, plan: Plan, costs: CostModel, scale: Scale | None) -> None:
        self.plan = plan
        self.costs = costs
        self.scale = scale
        self.buckets = buckets(plan, costs.chain)
        self.ready: dict[int, list[Bucket]] = defaultdict(list)
        """Layer -> the buckets whose gradients are complete when its last backward is done."""

        for bucket in self.buckets:
            self.ready[bucket.first_layer].append(bucket)
        working = frozenset(plan.devices)
        self.factors = {d: costs.neighbour_factor(d, working) * costs.crowd_factor(d, working) for d in plan.devices}
        self.known: dict[Hashable, _StagePrices] = {}

    def stage(self, replica: Replica, number: int) -> _StagePrices:
        """Of stage `number` of `replica`."""
        stage = replica.stages[number]
        # What the scale makes of a cost may depend on the device, all the rest depends on its type.
        device = self.costs.cluster.device(stage.device).type if self.scale is None else stage.device
        share = (replica.samples, replica.microbatches)
        like = (device, self.factors[stage.device], len(stage.group), stage.start, stage.stop, share)
        if like not in self.known:
            self.known[like] = self._stage(replica, number)
        return self.known[like]

    def _stage(self, replica: Replica, number: int) -> _StagePrices:
        costs, stage = self.costs, replica.stages[number]
        deep = self.plan.schedule == "gpipe" and replica.microbatches > FEW_IN_FLIGHT
        forward_s, backward_s = _stage_seconds(stage, replica, costs, self._seconds, deep=deep)
        beside_forward_s, beside_backward_s = _beside_messages_s(number, replica, costs)
        backward_s[-1] += beside_backward_s
        accumulating_s = _accumulating_s(stage, backward_s, costs, self._seconds)
        post_ns: list[tuple[Kind, int]] = []
        for kind, _, size_bytes in _messages(number, replica, costs):
            answer = Kind.RECV_B if kind is Kind.SEND_F else Kind.RECV_F
            post_ns.append((kind, _ns(costs.handle_send_s(stage.device, size_bytes))))
            post_ns.append((answer, _ns(costs.handle_receive_s(stage.device, size_bytes))))
        return _StagePrices(
            _ns(costs.step_overhead_s(stage.device)),
            (
                (Kind.FORWARD, _ns(forward_s + beside_forward_s)),
                (Kind.BACKWARD, _ns(sum(accumulating_s))),
                (Kind.UPDATE, _ns(costs.update_s(stage.device, stage.layers, len(stage.group)))),
            ),
            _ns(sum(backward_s)),
            _parts(self.ready, stage, accumulating_s if replica.microbatches > 1 else backward_s, costs),
            tuple(post_ns),
        )

    def _seconds(self, device: str, estimate: Estimate) -> float:
        return self.factors[device] * (estimate.seconds if self.scale is None else self.scale(device, estimate))

    def exchange(self) -> tuple[tuple[tuple[tuple[Flow, ...], ...], ...], tuple[int, ...]]:
        """By bucket: the phases of its exchange, and how long they take alone."""
        groups = {stage.device: stage.group for replica in self.plan.replicas for stage in replica.stages}
        known: dict[Hashable, tuple[tuple[tuple[Flow, ...], ...], int]] = {}
        rows = []
        for bucket in self.buckets:
            like = (bucket.segment.start, bucket.size_bytes)
            if like not in known:
                holders = [groups[device] for device in bucket.segment.devices]
                phases = self.costs.exchange(self.plan.exchange, holders, bucket.size_bytes)
                flows = tuple(tuple(_flow(traffic, self.costs) for traffic in phase) for phase in phases)
                known[like] = flows, sum(_ns(_alone_s(phase, self.costs)) for phase in phases)
            rows.append(known[like])
        return tuple(flows for flows, _ in rows), tuple(duration_ns for _, duration_ns in rows)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _flow(traffic: Traffic, costs: CostModel, without_s: float = 0.0) -> Flow:
    """`traffic` in nanoseconds, less the `without_s` that its sender's processor spends on it."""
    total_ns, latency_ns = _ns(max(0.0, traffic.seconds - without_s)), _ns(max(0.0, traffic.latency_s - without_s))
    transfer_ns = max(0, total_ns - latency_ns)
    if not transfer_ns or not traffic.resource_bytes:
        return Flow(total_ns, 0, {}, 1.0, traffic.owner)
    carried = costs.topology.bytes_per_s
    load = {resource: min(1.0, size / carried[resource] * 1e9 / transfer_ns) for resource, size in traffic.resource_bytes}
    busiest = max(load, key=lambda resource: load[resource])
    return Flow(latency_ns, transfer_ns, load, load[busiest] * carried[busiest], traffic.owner)


def _alone_s(phase: Phase, costs: CostModel) -> float:
    """How long a phase takes when all of it starts at once: its slowest part, or its fullest resource."""
    carried = costs.topology.bytes_per_s
    filled: Counter[Resource] = Counter()
    for traffic in phase:
        filled.update({resource: size / carried[resource] for resource, size in traffic.resource_bytes})
    fullest_s = max(filled.values(), default=0.0) if len(phase) > 1 else 0.0
    return max(max(traffic.seconds for traffic in phase), max(traffic.latency_s for traffic in phase) + fullest_s)


def _shared_cores(plan: Plan, costs: CostModel) -> dict[str, dict[Resource, float]]:
    cores = {name: costs.cluster.cores_of(name) for name in plan.devices}
    users = Counter(core for mine in cores.values() for core in mine)
    shared = {name: {core: 1.0 for core in mine if users[core] > 1} for name, mine in cores.items()}
    return {name: load for name, load in shared.items() if load}


def _stage_seconds(
    stage: Stage, replica: Replica, costs: CostModel, seconds: Scale, *, deep: bool
) -> tuple[float, list[float]]:
    """Forward of a microbatch, and its backward layer by layer from the last to the first (the loss with the last)."""
    device, size, width = stage.device, replica.microbatch_samples, len(stage.group)
    mode = replica.is_pipelined
    forwards = (
        costs.forward(device, layer, size, pipelined=mode, deep=deep and mode, tensor_parallel=width)
        for layer in stage.layers
    )
    backwards = (
        costs.backward(device, layer, size, pipelined=mode, deep=deep and mode, tensor_parallel=width)
        for layer in reversed(stage.layers)
    )
    forward_s = sum(seconds(device, forward) for forward in forwards)
    backward_s = [seconds(device, backward) for backward in backwards]
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


def _parts(
    ready_at: Mapping[int, Sequence[Bucket]], stage: Stage, backward_s: list[float], costs: CostModel
) -> tuple[BackwardPart, ...]:
    """The last backward, cut where a bucket becomes ready. Packing the bucket is part of the piece that completes it, and what its
    exchange takes from the computation beside it is part of the next one."""
    parts: list[BackwardPart] = []
    elapsed_s = 0.0
    for layer, layer_s in zip(reversed(stage.layers), backward_s, strict=True):
        elapsed_s += layer_s
        if ready := ready_at.get(layer):
            elapsed_s += sum(costs.bucket_s(stage.device, b.size_bytes, b.tensors) for b in ready)
            parts.append(BackwardPart(_ns(elapsed_s), tuple(b.index for b in ready)))
            elapsed_s = sum(costs.beside_reduce_s(stage.device, b.size_bytes) for b in ready) if layer > stage.start else 0.0
    if stage.start not in ready_at:
        parts.append(BackwardPart(_ns(elapsed_s), ()))
    return tuple(parts)


def _messages(number: int, replica: Replica, costs: CostModel) -> list[tuple[Kind, tuple[str, ...], int]]:
    """What a stage sends for each microbatch: (kind, receiving group, bytes)."""
    stage, size = replica.stages[number], replica.microbatch_samples
    rows = []
    if number < len(replica.stages) - 1:
        size_bytes = size * costs.chain.boundary_bytes_per_sample(stage.stop)
        rows.append((Kind.SEND_F, replica.stages[number + 1].group, size_bytes))
    if number > 0:
        size_bytes = size * costs.chain.boundary_bytes_per_sample(stage.start)
        rows.append((Kind.SEND_B, replica.stages[number - 1].group, size_bytes))
    return rows
