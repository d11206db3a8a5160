"""What a timeline or a cost table comes to: messages, shares of the step, batch curves, counts of points."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from hetsim.costs import CostTable
from hetsim.plan import Plan
from hetsim.report.rows import BatchCurve, CostSummary, DeviceRow
from hetsim.schedule import Action, Kind
from hetsim.timeline import Span, Timeline

Interval = tuple[int, int]
"""(start, end) in nanoseconds."""


class Message(NamedTuple):
    """A send and the receive that it belongs to."""

    send: Span
    receive: Span

    @property
    def travel(self) -> Interval:
        """While both its send and its receive stand open: from the later start to the earlier end; may be empty."""
        start = max(self.send.start_ns, self.receive.start_ns)
        return start, max(start, min(self.send.end_ns, self.receive.end_ns))


def messages(timeline: Timeline, plan: Plan) -> tuple[Message, ...]:
    """The messages of `timeline`, in its order. A send without a receive, or the reverse, is left out."""
    by_action = {(span.device, span.action): span for span in timeline.spans}
    stages = {stage.device: replica.stages for replica in plan.replicas for stage in replica.stages}
    rows = []
    for send in timeline.spans:
        if send.lane != "send" or send.device not in stages:
            continue
        action = Action.parse(send.action)
        forward = action.kind is Kind.SEND_F
        target = action.stage + (1 if forward else -1)
        if not 0 <= target < len(stages[send.device]):
            continue
        wanted = Action(target, Kind.RECV_F if forward else Kind.RECV_B, action.item)
        receive = by_action.get((stages[send.device][target].device, str(wanted)))
        if receive is not None:
            rows.append(Message(send, receive))
    return tuple(rows)


def exchanges(timeline: Timeline) -> dict[str, list[Interval]]:
    """Device -> when each of its gradient exchanges is under way: while all of the bucket's devices stand in it."""
    by_bucket: dict[int, list[Span]] = defaultdict(list)
    for span in timeline.spans:
        if span.kind is Kind.REDUCE:
            by_bucket[Action.parse(span.action).item].append(span)
    rows: dict[str, list[Interval]] = defaultdict(list)
    for spans in by_bucket.values():
        start = max(span.start_ns for span in spans)
        end = max(start, min(span.end_ns for span in spans))
        for span in spans:
            rows[span.device].append((start, end))
    return rows


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
