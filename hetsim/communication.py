"""What travels in a timeline: messages and exchanges, from when both ends stand ready to when it is there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from hetsim.plan import Plan
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


def busy_and_exposed_ns(timeline: Timeline, plan: Plan) -> dict[str, tuple[int, int]]:
    """Device -> nanoseconds in which it computes, and in which it does not while a message or exchange of its own is under way."""
    communication = defaultdict(list, exchanges(timeline))
    for message in messages(timeline, plan):
        communication[message.send.device].append(message.travel)
        communication[message.receive.device].append(message.travel)
    rows = {}
    for device in timeline.devices:
        computing = _union((s.start_ns, s.end_ns) for s in timeline.spans if s.device == device and s.lane == "compute")
        busy_ns = _length(computing)
        rows[device] = busy_ns, _length(_union([*computing, *communication[device]])) - busy_ns
    return rows


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
