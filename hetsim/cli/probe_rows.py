"""What runs of the probe showed of the runtime: rows as those of timed links, by operation."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from hetsim.costs.table import Operation
from hetsim.exchange import buckets
from hetsim.plan import Plan
from hetsim.schedule import Action, Kind
from hetsim.timeline import Span, Timeline
from hetsim.workload import Chain

_COMPUTED = (Kind.FORWARD, Kind.BACKWARD, Kind.UPDATE)
_HANDLED: dict[Kind, Operation] = {
    Kind.SEND_F: "handle_send",
    Kind.SEND_B: "handle_send",
    Kind.RECV_F: "handle_receive",
    Kind.RECV_B: "handle_receive",
}


def handling_rows(
    timelines: Iterable[Timeline], types: Mapping[str, str], at_rest_s: Callable[[str, str], float], message_bytes: int
) -> list[dict[str, Any]]:
    """What was seen of messages in `timelines` of pipelines of two stages, by operation and device type.

    A message is handled in a gap between two computations in which nothing else is posted. It is handed over between the end of
    what made it and the start of what waited for it, less what handling it takes its sender and what it takes between devices at
    rest. A step is begun by the time that the first stage begins to compute. `types`: device -> its type; `at_rest_s`: (source,
    target) -> seconds of the probe's message behind the call that posts it.
    """
    found: dict[tuple[Operation, str], list[float]] = defaultdict(list)
    waits: dict[tuple[str, str], list[float]] = defaultdict(list)
    for timeline in timelines:
        first, last = _ends(timeline)
        for operation, seconds in _gaps(timeline, last):
            found[operation, types[last]].append(seconds)
        waits[last, first] += _waits(timeline, first, last)
        found["begin", types[first]].append(_computed(timeline, first)[0].start_ns / 1e9)
    for (source, target), seen_s in waits.items():
        if handled_s := found["handle_send", types[source]]:
            known_s = statistics.median(handled_s) + at_rest_s(source, target)
            found["hand_over", types[target]] += [max(0.0, seconds - known_s) for seconds in seen_s]
    return [
        {"operation": operation, "group": [kind], "size_bytes": message_bytes, "seconds": seconds}
        for (operation, kind), seconds in found.items()
        if seconds
    ]


def _ends(timeline: Timeline) -> tuple[str, str]:
    """The devices of the first and of the last stage."""
    stages = {Action.parse(span.action).stage: span.device for span in timeline.spans if span.kind is Kind.FORWARD}
    return stages[min(stages)], stages[max(stages)]


def _computed(timeline: Timeline, device: str) -> list[Span]:
    """What `device` computed, in order."""
    return sorted((s for s in timeline.spans if s.device == device and s.kind in _COMPUTED), key=lambda span: span.start_ns)


def _waits(timeline: Timeline, first: str, last: str) -> list[float]:
    """Seconds from the end of each backward of the last stage to the start of that of the first, where this one had nothing else
    to do."""
    made_ns = {Action.parse(s.action).item: s.end_ns for s in _computed(timeline, last) if s.kind is Kind.BACKWARD}
    return [
        (after.start_ns - made_ns[item]) / 1e9
        for before, after in pairwise(_computed(timeline, first))
        if after.kind is Kind.BACKWARD and before.end_ns <= made_ns[item := Action.parse(after.action).item]
    ]


def _gaps(timeline: Timeline, device: str) -> list[tuple[Operation, float]]:
    """What is handled by itself between two computations of `device`, and the seconds from the end of one to the start of the
    next."""
    posts = [span for span in timeline.spans if span.device == device and span.kind in _HANDLED]
    gaps: list[tuple[Operation, float]] = []
    for before, after in pairwise(_computed(timeline, device)):
        posted = [_HANDLED[span.kind] for span in posts if before.end_ns <= span.start_ns <= after.start_ns]
        if len(posted) == 1 and after.kind is not Kind.UPDATE:
            gaps.append((posted[0], (after.start_ns - before.end_ns) / 1e9))
    return gaps


def exchange_row(
    plan: Plan, timelines: Sequence[Timeline], pipelines: Iterable[Timeline], chain: Chain, types: Mapping[str, str]
) -> dict[str, Any]:
    """What was seen of the last exchange in `timelines` of `plan`, data parallelism over some devices.

    From the time that all have its gradients ready to its end, and what the updates take longer that all then begin at once: beside
    those of last stages in `pipelines`, as many bytes for as many.
    """
    last = buckets(plan, chain)[-1]
    update_s = _updates_s(pipelines, chain, types)
    whole_bytes = chain.parameter_bytes()
    seconds = []
    for timeline in timelines:
        mine = [s for s in timeline.spans if s.kind is Kind.REDUCE and Action.parse(s.action).item == last.index]
        exchange_s = (max(s.end_ns for s in mine) - max(s.start_ns for s in mine)) / 1e9
        updates = [s for s in timeline.spans if s.kind is Kind.UPDATE]
        longer_s = max(s.duration_s - whole_bytes * update_s.get(types[s.device], float("inf")) for s in updates)
        seconds.append(exchange_s + max(0.0, longer_s))
    return {
        "operation": "exchange",
        "group": sorted(plan.devices),
        "size_bytes": last.size_bytes,
        "seconds": seconds,
    }


def _updates_s(pipelines: Iterable[Timeline], chain: Chain, types: Mapping[str, str]) -> dict[str, float]:
    """Device type -> seconds of an update for each byte of gradients: the median of those of last stages, all but the first
    layer."""
    found: dict[str, list[float]] = defaultdict(list)
    for timeline in pipelines:
        _, last = _ends(timeline)
        found[types[last]] += [s.duration_s for s in timeline.spans if s.kind is Kind.UPDATE and s.device == last]
    held_bytes = chain.parameter_bytes(range(1, len(chain)))
    return {kind: statistics.median(seconds) / held_bytes for kind, seconds in found.items()}
