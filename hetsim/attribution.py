"""Where the error of a prediction comes from: each cause by what it moves the predicted step towards the measured one.

The prediction is solved again and again, each time with one more kind of its durations replaced by the measured ones: the start,
the forwards, the backwards, the updates, the messages, the exchanges. What each replacement moves the step by is that cause's part.
It says more than a sum of durations: work that is off the critical path moves nothing. What is left at the end is waiting that no
duration explains: the order in which things came, and their scatter from microbatch to microbatch.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from hetsim.communication import messages
from hetsim.costs import CostModel
from hetsim.plan import Plan
from hetsim.schedule import Action, Kind, Schedule, make_schedule
from hetsim.simulator import Prices, price, simulate
from hetsim.simulator.prices import BackwardPart, Flow
from hetsim.timeline import Timeline

LEFT = "order and scatter"


@dataclass(frozen=True, slots=True)
class Cause:
    """A part of measured - predicted."""

    what: str
    seconds: float
    """Positive where reality took longer than predicted. The causes of a case add up to measured - predicted."""


def causes(plan: Plan, costs: CostModel, measured: Timeline) -> tuple[Cause, ...]:
    """What the difference between the predicted step of `plan` and that of `measured` is made of, in the order of replacement."""
    schedule = make_schedule(plan, costs.chain)
    prices = price(plan, costs)
    before_s = simulate(schedule, prices).step_s
    rows = []
    for what, put_in in _REPLACEMENTS.items():
        prices = put_in(prices, schedule, measured)
        after_s = simulate(schedule, prices).step_s
        rows.append(Cause(what, after_s - before_s))
        before_s = after_s
    return (*rows, Cause(LEFT, measured.step_s - before_s))


def _start(prices: Prices, schedule: Schedule, measured: Timeline) -> Prices:
    """Of the devices that wait for nobody before their first action; the others begin when their first message is there."""
    first: dict[str, int] = {}
    for span in measured.spans:
        if span.kind is Kind.FORWARD:
            first[span.device] = min(span.start_ns, first.get(span.device, span.start_ns))
    early = {d: first[d] for d, row in schedule.actions.items() if d in first and row[0].kind is Kind.FORWARD}
    return replace(prices, start_ns={**prices.start_ns, **early})


def _forward(prices: Prices, _schedule: Schedule, measured: Timeline) -> Prices:
    return _with_compute(prices, _medians(measured, Kind.FORWARD), Kind.FORWARD)


def _update(prices: Prices, _schedule: Schedule, measured: Timeline) -> Prices:
    return _with_compute(prices, _medians(measured, Kind.UPDATE), Kind.UPDATE)


def _with_compute(prices: Prices, found: Mapping[tuple[str, int], int], kind: Kind) -> Prices:
    known = {(*key, kind): value for key, value in found.items() if (*key, kind) in prices.compute_ns}
    # What was measured on cores that are shared has been shared already.
    return replace(prices, compute_ns={**prices.compute_ns, **known}, cores={})


def _backward(prices: Prices, schedule: Schedule, measured: Timeline) -> Prices:
    """The first, the last and the others of each stage are priced apart, and so they are replaced."""
    order: dict[tuple[str, int], list[str]] = defaultdict(list)
    for device, actions in schedule.actions.items():
        for action in actions:
            if action.kind is Kind.BACKWARD:
                order[device, action.stage].append(str(action))
    took = {(s.device, s.action): s.end_ns - s.start_ns for s in measured.spans if s.kind is Kind.BACKWARD}
    first, middle, last = dict(prices.first_backward_ns), {}, dict(prices.last_backward)
    for (device, stage), names in order.items():
        seen = [took[device, name] for name in names if (device, name) in took]
        if not seen:
            continue
        first[device, stage] = seen[0]
        middle[device, stage] = round(statistics.median(seen[1:-1] or seen))
        last[device, stage] = _scaled(last[device, stage], seen[-1])
    return replace(_with_compute(prices, middle, Kind.BACKWARD), first_backward_ns=first, last_backward=last)


def _scaled(parts: tuple[BackwardPart, ...], total_ns: int) -> tuple[BackwardPart, ...]:
    """`parts` stretched to `total_ns` together."""
    whole_ns = sum(part.duration_ns for part in parts) or 1
    return tuple(replace(part, duration_ns=round(part.duration_ns * total_ns / whole_ns)) for part in parts)


def _messages(prices: Prices, schedule: Schedule, measured: Timeline) -> Prices:
    travels: dict[tuple[str, int, Kind], list[int]] = defaultdict(list)
    for message in messages(measured, schedule.plan):
        start_ns, end_ns = message.travel
        action = Action.parse(message.send.action)
        travels[message.send.device, action.stage, action.kind].append(end_ns - start_ns)
    found = {key: _alone(round(statistics.median(row))) for key, row in travels.items() if key in prices.send}
    return replace(prices, send={**prices.send, **found})


def _exchanges(prices: Prices, schedule: Schedule, measured: Timeline) -> Prices:
    """An exchange lasts from when its last device is ready, and the one before it on any of them is through."""
    rows = _by_bucket(schedule, measured)
    exchange, seconds = list(prices.exchange), list(prices.exchange_ns)
    for index, (start_ns, end_ns) in rows.items():
        devices = set(schedule.buckets[index].segment.devices)
        earlier = [end for other, (_, end) in rows.items() if other < index and devices & set(_devices(schedule, other))]
        seconds[index] = max(0, end_ns - max([start_ns, *earlier]))
        exchange[index] = ((_alone(seconds[index]),),)
    return replace(prices, exchange=tuple(exchange), exchange_ns=tuple(seconds))


def _by_bucket(schedule: Schedule, measured: Timeline) -> dict[int, tuple[int, int]]:
    """Bucket -> when all of its devices stood in it, and when it was through."""
    spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for span in measured.spans:
        if span.kind is Kind.REDUCE:
            spans[Action.parse(span.action).item].append((span.start_ns, span.end_ns))
    known = range(len(schedule.buckets))
    return {i: (max(s for s, _ in row), max(e for _, e in row)) for i, row in sorted(spans.items()) if i in known}


def _devices(schedule: Schedule, bucket: int) -> Iterable[str]:
    return schedule.buckets[bucket].segment.devices


def _alone(duration_ns: int) -> Flow:
    """A transfer that takes so long whatever else travels: it was measured beside what travelled then."""
    return Flow(duration_ns, 0, {}, 1.0)


def _medians(measured: Timeline, kind: Kind) -> dict[tuple[str, int], int]:
    """(device, stage) -> the median of what an action of `kind` took."""
    rows: dict[tuple[str, int], list[int]] = defaultdict(list)
    for span in measured.spans:
        if span.kind is kind:
            rows[span.device, Action.parse(span.action).stage].append(span.end_ns - span.start_ns)
    return {key: round(statistics.median(row)) for key, row in rows.items()}


_Replacement = Callable[[Prices, Schedule, Timeline], Prices]
_REPLACEMENTS: Mapping[str, _Replacement] = {
    "start of the step": _start,
    "forward": _forward,
    "backward": _backward,
    "update": _update,
    "messages": _messages,
    "gradient exchange": _exchanges,
}
