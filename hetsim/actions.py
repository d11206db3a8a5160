"""Predicted beside measured, action by action: what a forward, a message or an exchange takes on each device and stage."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from hetsim.communication import exchanges, messages
from hetsim.plan import Plan
from hetsim.schedule import Action, Kind
from hetsim.timeline import Timeline

_WORDS = {
    Kind.FORWARD: "forward",
    Kind.BACKWARD: "backward",
    Kind.SEND_F: "message of activations",
    Kind.SEND_B: "message of gradients",
    Kind.REDUCE: "gradient exchange",
    Kind.UPDATE: "update",
}


@dataclass(frozen=True, slots=True)
class ActionError:
    """One kind of action of one stage."""

    device: str
    stage: int
    action: str
    count: int
    """How many of them a step has."""

    predicted_s: float
    """Mean seconds of one; of a message from when both ends are ready for it, of an exchange from when all its devices are."""

    measured_s: float

    @property
    def error(self) -> float | None:
        """predicted / measured - 1: positive where the prediction is too slow; None where nothing was measured."""
        return self.predicted_s / self.measured_s - 1 if self.measured_s else None


def action_errors(plan: Plan, predicted: Timeline, measured: Timeline) -> tuple[ActionError, ...]:
    """What each kind of action takes in two timelines of `plan`, by device, stage and kind in the order of a step.

    Kinds that only one of them has are left out.
    """
    ours, theirs = _durations_s(plan, predicted), _durations_s(plan, measured)
    order = list(_WORDS)
    rows = []
    for device, stage, kind in sorted(ours.keys() & theirs.keys(), key=lambda key: (key[0], key[1], order.index(key[2]))):
        mine, seen = ours[device, stage, kind], theirs[device, stage, kind]
        rows.append(ActionError(device, stage, _WORDS[kind], len(seen), sum(mine) / len(mine), sum(seen) / len(seen)))
    return tuple(rows)


def _durations_s(plan: Plan, timeline: Timeline) -> dict[tuple[str, int, Kind], list[float]]:
    found: dict[tuple[str, int, Kind], list[float]] = defaultdict(list)
    for device, stage, kind, seconds in (*_computed(timeline), *_travelled(plan, timeline)):
        found[device, stage, kind].append(seconds)
    return found


def _computed(timeline: Timeline) -> Iterator[tuple[str, int, Kind, float]]:
    for span in timeline.spans:
        if span.kind in (Kind.FORWARD, Kind.BACKWARD, Kind.UPDATE):
            yield span.device, Action.parse(span.action).stage, span.kind, span.duration_s


def _travelled(plan: Plan, timeline: Timeline) -> Iterator[tuple[str, int, Kind, float]]:
    for message in messages(timeline, plan):
        start_ns, end_ns = message.travel
        yield message.send.device, Action.parse(message.send.action).stage, message.send.kind, (end_ns - start_ns) / 1e9
    stage_of = {s.device: Action.parse(s.action).stage for s in timeline.spans if s.kind is Kind.REDUCE}
    for device, intervals in exchanges(timeline).items():
        for start_ns, end_ns in intervals:
            yield device, stage_of[device], Kind.REDUCE, (end_ns - start_ns) / 1e9
