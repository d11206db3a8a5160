"""What a timeline or a cost table comes to: shares of the step, batch curves, counts of points."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from hetsim.communication import Interval, exchanges, messages
from hetsim.costs import CostTable
from hetsim.plan import Plan
from hetsim.report.rows import BatchCurve, CostSummary, DeviceRow
from hetsim.timeline import Timeline


def ordered_devices(timeline: Timeline, plan: Plan) -> tuple[str, ...]:
    """Devices of `timeline` in the order of the plan; those that the plan does not know come last."""
    present = timeline.devices
    return (*(d for d in plan.devices if d in present), *(d for d in present if d not in plan.devices))


def summarise_devices(timeline: Timeline, plan: Plan, *, network: str, case: str, label: str) -> tuple[DeviceRow, ...]:
    """How each device spends the step of `timeline`; `label` says whether it is predicted or measured."""
    communication = exchanges(timeline)
    for message in messages(timeline, plan):
        communication[message.send.device].append(message.travel)
        communication[message.receive.device].append(message.travel)
    step_ns = max((span.end_ns for span in timeline.spans), default=0)
    rows = []
    for device in ordered_devices(timeline, plan):
        computing = _union((s.start_ns, s.end_ns) for s in timeline.spans if s.device == device and s.lane == "compute")
        either = _length(_union([*computing, *communication.get(device, [])]))
        busy = _length(computing)
        shares = [part / step_ns if step_ns else 0.0 for part in (busy, either - busy, step_ns - either)]
        rows.append(DeviceRow(network, case, label, device, *shares))
    return tuple(rows)


def summarise_costs(table: CostTable) -> CostSummary:
    """How many points of which provenance `table` has, and for what."""
    return CostSummary(
        network=table.network,
        source=table.source,
        device_types=tuple(dict.fromkeys(row.device_type for row in table.layers)),
        layers=len({row.layer for row in table.layers if not row.layer.startswith("@")}),
        points=dict(Counter(row.provenance for row in table.layers)),
        transfers=len(table.transfers),
        notes=table.notes,
    )


def batch_curves(table: CostTable) -> tuple[BatchCurve, ...]:
    """Seconds of the whole chain's forward and backward on each device type, at the microbatches that all layers have.

    Of plain costs alone: with several microbatches in flight the same size takes another time.
    """
    seconds: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in table.layers:
        if not row.layer.startswith("@") and row.tensor_parallel == 1 and row.in_flight == 1:
            seconds[row.device_type][row.microbatch][row.layer] = row.forward_s + row.backward_s
    curves = []
    for device_type, by_size in seconds.items():
        complete = max(len(layers) for layers in by_size.values())
        sizes = tuple(size for size in sorted(by_size) if len(by_size[size]) == complete)
        totals = tuple(sum(by_size[size].values()) for size in sizes)
        curves.append(BatchCurve(table.network, device_type, sizes, totals))
    return tuple(curves)


def _union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same time as disjoint intervals in order."""
    rows: list[Interval] = []
    for start, end in sorted(intervals):
        if rows and start <= rows[-1][1]:
            rows[-1] = (rows[-1][0], max(rows[-1][1], end))
        else:
            rows.append((start, end))
    return rows


def _length(intervals: Iterable[Interval]) -> int:
    return sum(end - start for start, end in intervals)
