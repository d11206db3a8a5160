"""The cost model: what every action of a plan costs, from the table and, where that is silent, from the links' specification."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property

from hetsim.costs.curve import Curve, Estimate
from hetsim.costs.gathered import Times, accumulations, saved_curves, updates
from hetsim.costs.table import (
    ALONE,
    CANARY,
    CONTEXT,
    CROWD,
    LOSS,
    STEP,
    WORKSPACE,
    CostTable,
    Operation,
    TransferCost,
)
from hetsim.costs.traffic import Group, Phase, Traffic, exchange, message
from hetsim.errors import CostError
from hetsim.hardware import Cluster, Topology
from hetsim.plan import Exchange
from hetsim.workload import Chain

_NOTHING = Estimate(0.0, 0.0, "specified")

MOST_NAMED = 12
"""Layers of a chain that are all named where all lack their costs."""

PACKED_BYTES = 1 << 20
"""Of each tensor in the buckets whose packing is timed by bytes."""


class CostModel:
    """Seconds of every kind of work for one network on one cluster.

    Layers are asked for by their index in the chain, devices by name. An unpriced layer is an error, never zero.
    """

    def __init__(self, chain: Chain, cluster: Cluster, table: CostTable) -> None:
        self.chain = chain
        self.cluster = cluster
        self.table = table
        self._type_of = {device.name: device.type for device in cluster.devices}
        self._forward = Times(table.layers, "forward_s")
        self._backward = Times(table.layers, "backward_s")
        self._update = updates(table.layers)
        self._accumulate = accumulations(table.layers)
        self._saved = saved_curves(table.layers)

    def missing(self, device_types: Iterable[str]) -> list[str]:
        """What the table lacks to price the whole chain on `device_types`, as `layer on type` texts."""
        return [f"layer {layer} on {kind}" for kind in device_types for layer in self._unpriced(kind)]

    def require(self, device_types: Iterable[str]) -> None:
        """Raise CostError with all that the table lacks to price the whole chain, device type by device type."""
        lacking = {kind: gaps for kind in device_types if (gaps := self._unpriced(kind))}
        if lacking:
            shown = "; ".join(f"{_layers_text(names, len(self.chain))} on {kind}" for kind, names in lacking.items())
            raise CostError(f"the cost table {self.table.source or self.table.network} has no cost for {shown}")

    # --- computation -------------------------------------------------------------------------------------------------

    def forward(
        self,
        device: str,
        layer: int,
        microbatch: int,
        *,
        pipelined: bool = False,
        deep: bool = False,
        tensor_parallel: int = 1,
    ) -> Estimate:
        """Forward of one layer for `microbatch` samples; `pipelined`: while other microbatches are in flight.

        `deep`: while more than `FEW_IN_FLIGHT` are, which is never quicker. `tensor_parallel`: over how many devices of the type.
        Raises CostError where the table has no cost for the layer.
        """
        return self._time(self._forward, device, layer, microbatch, tensor_parallel, pipelined=pipelined, deep=deep)

    def backward(
        self,
        device: str,
        layer: int,
        microbatch: int,
        *,
        pipelined: bool = False,
        deep: bool = False,
        tensor_parallel: int = 1,
    ) -> Estimate:
        """Backward of one layer for `microbatch` samples; `pipelined` and `deep`: see `forward`.

        `tensor_parallel`: over how many devices of the type. Raises CostError where the table has no cost for the layer.
        """
        return self._time(self._backward, device, layer, microbatch, tensor_parallel, pipelined=pipelined, deep=deep)

    def accumulate(self, device: str, layer: int) -> Estimate:
        """What a backward of one layer takes longer when it adds to gradients that exist; nothing where the table is silent."""
        return self._accumulate.get((self._type_of[device], self.chain.layers[layer].name), _NOTHING)

    def loss_forward(self, device: str, microbatch: int, *, pipelined: bool = False) -> Estimate:
        """Forward of the loss function; free where the table has no such row."""
        curve = self._forward.curve((self._type_of[device], LOSS), pipelined=pipelined)
        return curve.at(microbatch) if curve is not None else _NOTHING

    def loss_backward(self, device: str, microbatch: int, *, pipelined: bool = False) -> Estimate:
        """Backward of the loss function; free where the table has no such row."""
        curve = self._backward.curve((self._type_of[device], LOSS), pipelined=pipelined)
        return curve.at(microbatch) if curve is not None else _NOTHING

    def update_s(self, device: str, layers: Sequence[int] | range, tensor_parallel: int = 1) -> float:
        """Seconds of zeroing gradients and stepping the optimizer for `layers`, of which the device holds an equal part."""
        kind = self._type_of[device]
        return sum(self._update.get((kind, self.chain.layers[i].name, tensor_parallel), 0.0) for i in layers)

    def step_overhead_s(self, device: str) -> float:
        """Seconds that a step costs the device whatever it holds: in plain training, or before its first action in a real run,
        whichever is longer; 0 where the table has no such row."""
        kind = self._type_of[device]
        begin = self._one_size("begin", kind)
        return max(self._update.get((kind, STEP, 1), 0.0), begin.seconds if begin else 0.0)

    def canary_s(self, device: str) -> float | None:
        """Seconds of the canary on `device` at the speed for which the table's times hold; None where nobody timed it."""
        curve = self._forward.curve((self._type_of[device], CANARY))
        return curve.points[0].seconds if curve is not None else None

    def neighbour_factor(self, device: str, working: Collection[str]) -> float:
        """What computation on `device` takes over its cost, where of its node's devices only those of `working` work.

        Costs hold while all devices of the host work that share no core. 1 where nobody measured a device alone, or no difference
        was seen.
        """
        alone = self._alone.get(self._type_of[device], 1.0)
        if alone == 1:
            return 1.0
        node = self.cluster.device(device).node
        neighbours = [other.name for other in self.cluster.devices if other.node == node and other.name != device]
        others = [name for name in neighbours if name not in self._on_cores_of(device)]
        resting = sum(other not in working for other in others) / len(others) if others else 0.0
        return 1 + (alone - 1) * resting

    def crowd_factor(self, device: str, working: Collection[str]) -> float:
        """What computation on `device` takes of its core where another one of `working` uses the core, too, over its cost.

        1 where none does, or nobody measured it. Whether they compute at the same moment does not matter: each finds the caches as
        the other left them.
        """
        shared = not self._on_cores_of(device).isdisjoint(working)
        return self._crowd.get(self._type_of[device], 1.0) if shared else 1.0

    def shares_core(self, device: str) -> bool:
        """Whether another device of the cluster computes on a core of `device`."""
        return bool(self._on_cores_of(device))

    def _on_cores_of(self, device: str) -> frozenset[str]:
        """The other devices that compute on a core of `device`."""
        return self._core_mates.get(device, frozenset())

    @cached_property
    def _core_mates(self) -> dict[str, frozenset[str]]:
        """Device -> the others that compute on one of its cores, where there are any."""
        users: dict[str, list[str]] = defaultdict(list)
        for device in self.cluster.devices:
            for core in self.cluster.cores_of(device.name):
                users[core].append(device.name)
        mates: dict[str, set[str]] = defaultdict(set)
        for names in users.values():
            for name in names if len(names) > 1 else ():
                mates[name].update(names)
        return {name: frozenset(found - {name}) for name, found in mates.items()}

    @cached_property
    def _crowd(self) -> dict[str, float]:
        """Device type -> processor time on a shared core over that on one of its own, 1 at least: turns never make work less."""
        rows = [row for row in self.table.layers if row.layer == CROWD and row.backward_s > 0]
        return {row.device_type: max(1.0, row.forward_s / row.backward_s) for row in rows}

    @property
    def least_factor(self) -> float:
        """Under every `neighbour_factor`."""
        return min([1.0, *self._alone.values()])

    @cached_property
    def _alone(self) -> dict[str, float]:
        """Device type -> a step alone over one among busy neighbours: the median of its rows, where it surely differs from 1."""
        ratios: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for row in self.table.layers:
            if row.layer == ALONE and row.backward_s > 0:
                ratios[row.device_type].append((row.forward_s / row.backward_s, row.spread))
        factors = {}
        for kind, rows in ratios.items():
            ratio, spread = statistics.median(r for r, _ in rows), statistics.median(s for _, s in rows)
            factors[kind] = ratio if abs(ratio - 1) > spread else 1.0
        return factors

    def saved_bytes(self, device: str, layer: int, microbatch: int, *, tensor_parallel: int = 1) -> int:
        """Bytes that autograd keeps of one layer from forward to backward: measured, else from the chain's own figures.

        Where a tensor-parallel group has no figures of its own, each of its devices is taken to keep all that one alone keeps.
        """
        key = (self._type_of[device], self.chain.layers[layer].name)
        curve = self._saved.get((*key, tensor_parallel)) or self._saved.get((*key, 1))
        if curve is not None:
            return round(curve.at(microbatch).seconds)
        return self.chain.layers[layer].saved_bytes_per_sample * microbatch

    def context_bytes(self, device: str) -> int:
        """Bytes that a process takes on `device` before it holds anything; 0 where not measured."""
        curve = self._saved.get((self._type_of[device], CONTEXT, 1))
        return round(curve.points[0].seconds) if curve is not None else 0

    def workspace_bytes(self, device: str, microbatch: int) -> int:
        """Bytes that a step takes at its worst moment beside gradients and what autograd keeps; 0 where not measured."""
        curve = self._saved.get((self._type_of[device], WORKSPACE, 1))
        return max(0, round(curve.at(microbatch).seconds)) if curve is not None else 0

    # --- communication -----------------------------------------------------------------------------------------------

    def send_s(self, source: str, target: str, size_bytes: int) -> float:
        """Seconds that one message takes from `source` to `target`: measured, else latency + bytes / bandwidth."""
        return self.message((source,), (target,), size_bytes).seconds

    def message(self, source: Group, target: Group, size_bytes: int) -> Traffic:
        """What a message of `size_bytes` between two groups puts on the links, with the time that was measured where one was."""
        if source == target or size_bytes == 0:
            return Traffic(0.0, 0.0, ())
        traffic = message(self.topology, source, target, size_bytes)
        measured = self._transfer("send_recv", tuple(sorted((source[0], target[0]))))
        if measured is None or len(source) > 1 or len(target) > 1:
            return traffic
        seconds = measured.at(size_bytes).seconds
        if self.topology.node_of(source[0]) != self.topology.node_of(target[0]):
            # Buffers on the way take in a short message that comes alone, faster than those are carried that follow each other.
            seconds = max(seconds, size_bytes * measured.points[-1].seconds / measured.points[-1].size)
        return traffic.taking(seconds + self.hand_over_s(target[0]))

    def reduce_s(self, devices: Sequence[str], size_bytes: int) -> float:
        """Seconds of an all-reduce of `size_bytes` over `devices`: measured, else a ring over their links."""
        phases = self.exchange(Exchange(), [(device,) for device in devices], size_bytes)
        return sum(max(traffic.seconds for traffic in phase) for phase in phases)

    def exchange(self, how: Exchange, holders: Sequence[Group], size_bytes: int) -> tuple[Phase, ...]:
        """What it puts on the links when `holders` add up `size_bytes` of gradients; a ring takes what was measured."""
        if len(holders) < 2 or size_bytes == 0:
            return ()
        phases = exchange(self.topology, how, holders, size_bytes)
        devices = [device for group in holders for device in group]
        measured = self._transfer("all_reduce", tuple(sorted(devices))) if len(devices) == len(holders) else None
        if measured is None or how != Exchange():
            return phases
        return ((phases[0][0].taking(measured.at(size_bytes).seconds * self._exchange_factor),),)

    def bucket_s(self, device: str, size_bytes: int, tensors: int = 0) -> float:
        """Seconds that packing and unpacking a gradient bucket of so many tensors takes the device; 0 where not measured.

        By the bytes, and by the tensors that it has more than one for each `PACKED_BYTES`, as the buckets have that are timed.
        """
        each = self._one_size("bucket_tensor", self._type_of[device])
        more = max(0.0, tensors - size_bytes / PACKED_BYTES)
        return self._own_work_s("bucket", device, size_bytes) + (each.seconds * more if each else 0.0)

    def post_send_s(self, device: str, size_bytes: int) -> float:
        """Seconds of the call that hands a message over; 0 where not measured."""
        return self._own_work_s("post_send", device, size_bytes)

    def handle_send_s(self, device: str, size_bytes: int) -> float:
        """Seconds that a message to be sent keeps the device's processor from computing: the call, and what a real pipeline was
        seen to take beyond it; 0 where nobody measured either."""
        return self._handling_s("handle_send", "post_send", device, size_bytes)

    def handle_receive_s(self, device: str, size_bytes: int) -> float:
        """The same of a receive that is posted."""
        return self._handling_s("handle_receive", "post_receive", device, size_bytes)

    def hand_over_s(self, device: str) -> float:
        """Seconds that a message for which `device` waits takes in a pipeline, beyond what it takes between devices at rest;
        0 where not measured."""
        seen = self._one_size("hand_over", self._type_of[device])
        return seen.seconds if seen is not None else 0.0

    def beside_send_s(self, device: str, size_bytes: int) -> float:
        """Seconds by which sending a message lengthens the computation beside it; 0 where not measured."""
        return self._beside_s("beside_send", device, size_bytes)

    def beside_receive_s(self, device: str, size_bytes: int) -> float:
        """Seconds by which receiving a message lengthens the computation beside it; 0 where not measured."""
        return self._beside_s("beside_receive", device, size_bytes)

    def beside_reduce_s(self, device: str, size_bytes: int) -> float:
        """Seconds by which a bucket's all-reduce lengthens the backward beside it; 0 where not measured."""
        return self._beside_s("beside_reduce", device, size_bytes)

    # --- inside ------------------------------------------------------------------------------------------------------

    @cached_property
    def topology(self) -> Topology:
        """What messages cross in the cluster."""
        return Topology(self.cluster)

    @cached_property
    def _transfer_curves(self) -> dict[tuple[Operation, tuple[str, ...]], Curve]:
        points = defaultdict(list)
        for row in self.table.transfers:
            points[row.operation, row.group].append((row.size_bytes, row.seconds, row.spread))
        return {key: Curve.through(rows) for key, rows in points.items()}

    def _transfer(self, operation: Operation, group: tuple[str, ...]) -> Curve | None:
        return self._transfer_curves.get((operation, group))

    @cached_property
    def _exchange_factor(self) -> float:
        """What an exchange was seen to take at the end of a real step, over what it takes between devices at rest; 1 at least."""
        ratios = [1.0]
        for row in self.table.transfers:
            at_rest = self._transfer("all_reduce", row.group) if row.operation == "exchange" else None
            if at_rest is not None:
                ratios.append(row.seconds / at_rest.at(row.size_bytes).seconds)
        return max(ratios)

    def _own_work_s(self, operation: Operation, device: str, size_bytes: int) -> float:
        measured = self._transfer(operation, (self._type_of[device],))
        return measured.at(size_bytes).seconds if measured is not None and size_bytes else 0.0

    def _handling_s(self, operation: Operation, call: Operation, device: str, size_bytes: int) -> float:
        """The call at this size, and what the whole took beyond it at the size of the run that told."""
        posting_s = self._own_work_s(call, device, size_bytes)
        seen = self._one_size(operation, self._type_of[device])
        if seen is None or not size_bytes:
            return posting_s
        return posting_s + max(0.0, seen.seconds - self._own_work_s(call, device, seen.size_bytes))

    def _one_size(self, operation: Operation, device_type: str) -> TransferCost | None:
        """The row of what is timed at one size; None where nobody did."""
        return self._single_rows.get((operation, device_type))

    @cached_property
    def _single_rows(self) -> dict[tuple[Operation, str], TransferCost]:
        return {(row.operation, row.group[0]): row for row in self.table.transfers}

    def _beside_s(self, operation: Operation, device: str, size_bytes: int) -> float:
        """Proportional to the bytes: the difference of two noisy times is too rough for a curve of its own."""
        return self._beside_rates.get((operation, self._type_of[device]), 0.0) * size_bytes

    @cached_property
    def _beside_rates(self) -> dict[tuple[Operation, str], float]:
        """(operation, device type) -> seconds for each byte: all that was seen over all bytes, as small sizes drown in noise."""
        seen: dict[tuple[Operation, str], list[TransferCost]] = defaultdict(list)
        for row in self.table.transfers:
            if row.operation.startswith("beside_") and row.size_bytes:
                seen[row.operation, row.group[0]].append(row)
        return {key: sum(row.seconds for row in rows) / sum(row.size_bytes for row in rows) for key, rows in seen.items()}

    def _unpriced(self, device_type: str) -> list[str]:
        """The layers that have no cost on the type."""
        return [layer.name for layer in self.chain.layers if self._forward.curve((device_type, layer.name)) is None]

    def _time(
        self, times: Times, device: str, layer: int, microbatch: int, tensor_parallel: int, *, pipelined: bool, deep: bool
    ) -> Estimate:
        kind, name = self._type_of[device], self.chain.layers[layer].name
        curve = times.curve((kind, name), pipelined=pipelined, tensor_parallel=tensor_parallel)
        if curve is None:
            width = f" over {tensor_parallel} devices in tensor parallel" if tensor_parallel > 1 else ""
            raise CostError(
                f"the cost table {self.table.source or self.table.network} has no cost for layer {name} on {kind}{width}"
            )
        found = curve.at(microbatch)
        many = times.deep((kind, name, tensor_parallel)) if deep else None
        return found if many is None else max(found, many.at(microbatch), key=lambda estimate: estimate.seconds)


def _layers_text(names: Sequence[str], of: int) -> str:
    """Some of the `of` layers of a chain in words; all of them as a number, where they are many."""
    if len(names) == 1:
        return f"layer {names[0]}"
    return f"any of the {of} layers ({shortened(names)})" if len(names) == of > MOST_NAMED else f"layers {', '.join(names)}"


def shortened(names: Sequence[str]) -> str:
    """`a, b, c, …, z`: the first three and the last one, where there are many."""
    return ", ".join(names if len(names) <= MOST_NAMED else [*names[:3], "…", names[-1]])
