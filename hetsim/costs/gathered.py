"""A cost table's rows gathered by what they are about: curves over the microbatch, and figures that do not depend on it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable

from hetsim.costs.curve import Curve, CurvePoint, Estimate
from hetsim.costs.table import LayerCost

FEW_IN_FLIGHT = 4
"""Microbatches in flight that cost about the same each, however many of them there are. With more, what one of them left in the
caches is gone when its backward comes."""


def are_few(in_flight: int) -> bool:
    """Whether a pipeline has `in_flight` microbatches in flight, and few: these are timed in 1F1B's order."""
    return 1 < in_flight <= FEW_IN_FLIGHT


class Times:
    """The curves of one field of the layers' costs, plain and pipelined."""

    def __init__(self, rows: Iterable[LayerCost], field: str) -> None:
        mine = list(rows)
        self._plain = _curves((row for row in mine if row.in_flight == 1), field)
        self._pipelined = _curves((row for row in mine if are_few(row.in_flight)), field)
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


def updates(rows: Iterable[LayerCost]) -> dict[tuple[str, str, int], float]:
    """(device type, layer, width) -> seconds of an update: the median over the microbatches, on which it does not depend."""
    seconds: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for row in rows:
        if row.in_flight == 1:
            seconds[row.device_type, row.layer, row.tensor_parallel].append(row.update_s)
    return {key: statistics.median(values) for key, values in seconds.items()}


def accumulations(rows: Iterable[LayerCost]) -> dict[tuple[str, str], Estimate]:
    """(device type, layer) -> what a backward takes longer that adds to gradients: the median over the rows that tell."""
    known: dict[tuple[str, str], list[LayerCost]] = defaultdict(list)
    for row in rows:
        if row.accumulate_s is not None and row.tensor_parallel == 1:
            known[row.device_type, row.layer].append(row)
    return {
        key: Estimate(statistics.median(float(row.accumulate_s or 0.0) for row in mine), 0.0, mine[0].provenance)
        for key, mine in known.items()
    }


def saved_curves(rows: Iterable[LayerCost]) -> dict[tuple[str, str, int], Curve]:
    """(device type, layer, width) -> the bytes that autograd keeps."""
    points: dict[tuple[str, str, int], list[tuple[int, float, float]]] = defaultdict(list)
    for row in rows:
        if row.saved_bytes is not None and row.in_flight == 1:
            key = (row.device_type, row.layer, row.tensor_parallel)
            points[key].append((row.microbatch, float(row.saved_bytes), 0.0))
    return {key: Curve.through(group, counted=True) for key, group in points.items()}
