"""The cost model: what every action of a plan costs, from the table and, where that is silent, from the links' specification."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise

from hetsim.costs.curve import Curve, CurvePoint, Estimate
from hetsim.costs.table import CANARY, LOSS, STEP, CostTable, LayerCost, Operation
from hetsim.errors import CostError
from hetsim.hardware import Cluster
from hetsim.workload import Chain

_NOTHING = Estimate(0.0, 0.0, "specified")


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

    def forward(self, device: str, layer: int, microbatch: int, *, pipelined: bool = False) -> Estimate:
        """Forward of one layer for `microbatch` samples; `pipelined`: while other microbatches are in flight.

        Raises CostError where the table has no cost for the layer on the device's type.
        """
        return self._time(self._forward, device, layer, pipelined=pipelined).at(microbatch)

    def backward(self, device: str, layer: int, microbatch: int, *, pipelined: bool = False) -> Estimate:
        """Backward of one layer for `microbatch` samples; `pipelined`: while other microbatches are in flight.

        Raises CostError where the table has no cost for the layer on the device's type.
        """
        return self._time(self._backward, device, layer, pipelined=pipelined).at(microbatch)

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

    def update_s(self, device: str, layers: Sequence[int] | range) -> float:
        """Seconds of zeroing gradients and stepping the optimizer for `layers`."""
        kind = self._type_of[device]
        return sum(self._update.get((kind, self.chain.layers[i].name), 0.0) for i in layers)

    def step_overhead_s(self, device: str) -> float:
        """Seconds that a step costs the device whatever it holds; 0 where the table has no such row."""
        return self._update.get((self._type_of[device], STEP), 0.0)

    def canary_s(self, device: str) -> float | None:
        """Seconds of the canary on `device` at the speed for which the table's times hold; None where nobody timed it."""
        curve = self._forward.curve((self._type_of[device], CANARY))
        return curve.points[0].seconds if curve is not None else None

    def saved_bytes(self, device: str, layer: int, microbatch: int) -> int:
        """Bytes that autograd keeps of one layer from forward to backward: measured, else from the chain's own figures."""
        curve = self._saved.get((self._type_of[device], self.chain.layers[layer].name))
        if curve is not None:
            return round(curve.at(microbatch).seconds)
        return self.chain.layers[layer].saved_bytes_per_sample * microbatch

    # --- communication -----------------------------------------------------------------------------------------------

    def send_s(self, source: str, target: str, size_bytes: int) -> float:
        """Seconds that one message takes from `source` to `target`: measured, else latency + bytes / bandwidth."""
        if source == target or size_bytes == 0:
            return 0.0
        measured = self._transfer("send_recv", tuple(sorted((source, target))))
        if measured is not None:
            return measured.at(size_bytes).seconds
        return sum(link.transfer_s(size_bytes) for link in self.cluster.links_between(source, target))

    def reduce_s(self, devices: Sequence[str], size_bytes: int) -> float:
        """Seconds of an all-reduce of `size_bytes` over `devices`: measured, else a ring over the slowest link.

        Ring (Patarasuk & Yuan 2009): 2(n-1) rounds, each of latency + bytes / n / bandwidth.
        """
        n = len(devices)
        if n < 2 or size_bytes == 0:
            return 0.0
        measured = self._transfer("all_reduce", tuple(sorted(devices)))
        if measured is not None:
            return measured.at(size_bytes).seconds
        ring = [*devices, devices[0]]
        slowest = max(
            sum(link.transfer_s(size_bytes / n) for link in self.cluster.links_between(a, b)) for a, b in pairwise(ring)
        )
        return 2 * (n - 1) * slowest

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
        return self._own_work_s("beside_send", device, size_bytes)

    def beside_receive_s(self, device: str, size_bytes: int) -> float:
        """Seconds by which receiving a message lengthens the computation beside it; 0 where not measured."""
        return self._own_work_s("beside_receive", device, size_bytes)

    def beside_reduce_s(self, device: str, size_bytes: int) -> float:
        """Seconds by which a bucket's all-reduce lengthens the backward beside it; 0 where not measured."""
        return self._own_work_s("beside_reduce", device, size_bytes)

    # --- inside ------------------------------------------------------------------------------------------------------

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

    def _time(self, times: _Times, device: str, layer: int, *, pipelined: bool) -> Curve:
        kind, name = self._type_of[device], self.chain.layers[layer].name
        curve = times.curve((kind, name), pipelined=pipelined)
        if curve is None:
            raise CostError(
                f"the cost table {self.table.source or self.table.network} has no cost for layer {name} on {kind}"
            )
        return curve


class _Times:
    """The curves of one field of the layers' costs, plain and pipelined."""

    def __init__(self, rows: Iterable[LayerCost], field: str) -> None:
        mine = [row for row in rows if row.tensor_parallel == 1]
        self._plain = _curves((row for row in mine if row.in_flight == 1), field)
        self._pipelined = _curves((row for row in mine if row.in_flight > 1), field)

    def curve(self, key: tuple[str, str], *, pipelined: bool = False) -> Curve | None:
        """The curve of (device type, layer); where pipelined costs were not measured, the plain one serves, and the reverse."""
        first, second = (self._pipelined, self._plain) if pipelined else (self._plain, self._pipelined)
        return first.get(key) or second.get(key)


def _curves(rows: Iterable[LayerCost], field: str) -> dict[tuple[str, str], Curve]:
    points: dict[tuple[str, str], list[CurvePoint]] = defaultdict(list)
    for row in rows:
        points[row.device_type, row.layer].append(
            CurvePoint(row.microbatch, getattr(row, field), row.spread, row.provenance)
        )
    return {key: Curve.through(group) for key, group in points.items()}


def _updates(rows: Iterable[LayerCost]) -> dict[tuple[str, str], float]:
    """The median over the microbatches: an update does not depend on them."""
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row.tensor_parallel == 1 and row.in_flight == 1:
            seconds[row.device_type, row.layer].append(row.update_s)
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


def _saved_bytes(rows: Iterable[LayerCost]) -> dict[tuple[str, str], Curve]:
    points: dict[tuple[str, str], list[tuple[int, float, float]]] = defaultdict(list)
    for row in rows:
        if row.saved_bytes is not None and row.tensor_parallel == 1 and row.in_flight == 1:
            points[row.device_type, row.layer].append((row.microbatch, float(row.saved_bytes), 0.0))
    return {key: Curve.through(group, counted=True) for key, group in points.items()}
