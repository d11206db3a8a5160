"""The cost model: what every action of a plan costs, from the table and, where that is silent, from the links' specification."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property

from hetsim.costs.curve import Curve, CurvePoint, Estimate
from hetsim.costs.table import ALONE, CANARY, CONTEXT, LOSS, STEP, WORKSPACE, CostTable, LayerCost, Operation
from hetsim.costs.traffic import Group, Phase, Traffic, exchange, message
from hetsim.errors import CostError
from hetsim.hardware import Cluster, Topology
from hetsim.plan import Exchange
from hetsim.workload import Chain

_NOTHING = Estimate(0.0, 0.0, "specified")

FEW_IN_FLIGHT = 4
"""Microbatches in flight that cost about the same each, however many of them there are. With more, what one of them left in the
caches is gone when its backward comes."""


class CostModel:
    """Seconds of every kind of work for one network on one cluster.

    Layers are asked for by their index in the chain, devices by name. An unpriced layer is an error, never zero.
    """

    def __init__(self, chain: Chain, cluster: Cluster, table: CostTable) -> None:
        self.chain = chain
        self.cluster = cluster
        self.table = table
        self._type_of = {device.name: device.type for device in cluster.devices}
        self._forward = _Times(table.layers, "forward_s")
        self._backward = _Times(table.layers, "backward_s")
        self._update = _updates(table.layers)
        self._accumulate = _accumulations(table.layers)
        self._saved = _saved_bytes(table.layers)

    def missing(self, device_types: Iterable[str]) -> list[str]:
        """What the table lacks to price the whole chain on `device_types`, as `layer on type` texts."""
        return [
            f"layer {layer.name} on {name}"
            for name in device_types
            for layer in self.chain.layers
            if self._forward.curve((name, layer.name)) is None
        ]

    def require(self, device_types: Iterable[str]) -> None:
        """Raise CostError with all that `missing` finds."""
        if gaps := self.missing(device_types):
            shown = ", ".join(gaps[:6]) + (f" and {len(gaps) - 6} more" if len(gaps) > 6 else "")
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
        """Seconds that a step costs the device whatever it holds; 0 where the table has no such row."""
        return self._update.get((self._type_of[device], STEP, 1), 0.0)

    def canary_s(self, device: str) -> float | None:
        """Seconds of the canary on `device` at the speed for which the table's times hold; None where nobody timed it."""
        curve = self._forward.curve((self._type_of[device], CANARY))
        return curve.points[0].seconds if curve is not None else None

    def neighbour_factor(self, device: str, working: Collection[str]) -> float:
        """What computation on `device` takes over its cost, where of its node's devices only those of `working` work.

        Costs hold while all devices of the host work. 1 where nobody measured a device alone, or no difference was seen.
        """
        alone = self._alone.get(self._type_of[device], 1.0)
        if alone == 1:
            return 1.0
        node = self.cluster.device(device).node
        others = [other.name for other in self.cluster.devices if other.node == node and other.name != device]
        resting = sum(other not in working for other in others) / len(others) if others else 0.0
        return 1 + (alone - 1) * resting

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
        return traffic.taking(measured.at(size_bytes).seconds)

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
        return ((phases[0][0].taking(measured.at(size_bytes).seconds),),)

    def bucket_s(self, device: str, size_bytes: int) -> float:
        """Seconds that packing and unpacking a gradient bucket takes the device; 0 where not measured."""
        return self._own_work_s("bucket", device, size_bytes)

    def post_send_s(self, device: str, size_bytes: int) -> float:
        """Seconds that handing a message over takes the device's processor; 0 where not measured."""
        return self._own_work_s("post_send", device, size_bytes)

    def post_receive_s(self, device: str, size_bytes: int) -> float:
        """Seconds that posting a receive takes the device's processor; 0 where not measured."""
        return self._own_work_s("post_receive", device, size_bytes)

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

    def _own_work_s(self, operation: Operation, device: str, size_bytes: int) -> float:
        measured = self._transfer(operation, (self._type_of[device],))
        return measured.at(size_bytes).seconds if measured is not None and size_bytes else 0.0

    def _beside_s(self, operation: Operation, device: str, size_bytes: int) -> float:
        """Proportional to the bytes: the difference of two noisy times is too rough for a curve of its own."""
        return self._beside_rates.get((operation, self._type_of[device]), 0.0) * size_bytes

    @cached_property
    def _beside_rates(self) -> dict[tuple[Operation, str], float]:
        """(operation, device type) -> seconds for each byte: the median over the sizes."""
        rates: dict[tuple[Operation, str], list[float]] = defaultdict(list)
        for row in self.table.transfers:
            if row.operation.startswith("beside_") and row.size_bytes:
                rates[row.operation, row.group[0]].append(row.seconds / row.size_bytes)
        return {key: statistics.median(found) for key, found in rates.items()}

    def _time(
        self, times: _Times, device: str, layer: int, microbatch: int, tensor_parallel: int, *, pipelined: bool, deep: bool
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


class _Times:
    """The curves of one field of the layers' costs, plain and pipelined."""

    def __init__(self, rows: Iterable[LayerCost], field: str) -> None:
        mine = list(rows)
        self._plain = _curves((row for row in mine if row.in_flight == 1), field)
        self._pipelined = _curves((row for row in mine if 1 < row.in_flight <= FEW_IN_FLIGHT), field)
        self._deep = _curves((row for row in mine if row.in_flight > FEW_IN_FLIGHT), field)

    def curve(self, key: tuple[str, str], *, pipelined: bool = False, tensor_parallel: int = 1) -> Curve | None:
        """The curve of (device type, layer); where pipelined costs were not measured, the plain one serves, and the reverse."""
        first, second = (self._pipelined, self._plain) if pipelined else (self._plain, self._pipelined)
        whole = (*key, tensor_parallel)
        return first.get(whole) or second.get(whole) or self._deep.get(whole)

    def deep(self, key: tuple[str, str, int]) -> Curve | None:
        """The curve of (device type, layer, width) with many microbatches in flight; None where it was not measured."""
        return self._deep.get(key)


def _curves(rows: Iterable[LayerCost], field: str) -> dict[tuple[str, str, int], Curve]:
    points: dict[tuple[str, str, int], list[CurvePoint]] = defaultdict(list)
    for row in rows:
        points[row.device_type, row.layer, row.tensor_parallel].append(
            CurvePoint(row.microbatch, getattr(row, field), row.spread, row.provenance)
        )
    return {key: Curve.through(group) for key, group in points.items()}


def _updates(rows: Iterable[LayerCost]) -> dict[tuple[str, str, int], float]:
    """The median over the microbatches: an update does not depend on them."""
    seconds: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for row in rows:
        if row.in_flight == 1:
            seconds[row.device_type, row.layer, row.tensor_parallel].append(row.update_s)
    return {key: statistics.median(values) for key, values in seconds.items()}


def _accumulations(rows: Iterable[LayerCost]) -> dict[tuple[str, str], Estimate]:
    """The median over the rows that tell."""
    known: dict[tuple[str, str], list[LayerCost]] = defaultdict(list)
    for row in rows:
        if row.accumulate_s is not None and row.tensor_parallel == 1:
            known[row.device_type, row.layer].append(row)
    return {
        key: Estimate(statistics.median(float(row.accumulate_s or 0.0) for row in mine), 0.0, mine[0].provenance)
        for key, mine in known.items()
    }


def _saved_bytes(rows: Iterable[LayerCost]) -> dict[tuple[str, str, int], Curve]:
    points: dict[tuple[str, str, int], list[tuple[int, float, float]]] = defaultdict(list)
    for row in rows:
        if row.saved_bytes is not None and row.in_flight == 1:
            key = (row.device_type, row.layer, row.tensor_parallel)
            points[key].append((row.microbatch, float(row.saved_bytes), 0.0))
    return {key: Curve.through(group, counted=True) for key, group in points.items()}
