"""A trace file for Perfetto (ui.perfetto.dev) and chrome://tracing: predicted and measured timelines side by side.

The format is Google's "Trace Event Format": a process for each timeline and device, a thread for each lane, complete (`X`)
events in microseconds, a flow (`s` to `f`) from each send to its receive. Perfetto colours a slice by its name without
the numbers, so that all forwards look alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hetsim.communication import Message, messages
from hetsim.files import write_text
from hetsim.memory import MemoryCurve
from hetsim.plan import Plan
from hetsim.report.summary import ordered_devices
from hetsim.schedule import Action, Kind
from hetsim.timeline import LANES, Span, Timeline

Event = dict[str, Any]

NAMES: dict[Kind, str] = {
    Kind.FORWARD: "forward",
    Kind.BACKWARD: "backward",
    Kind.UPDATE: "update",
    Kind.SEND_F: "send activation",
    Kind.SEND_B: "send gradient",
    Kind.RECV_F: "receive activation",
    Kind.RECV_B: "receive gradient",
    Kind.REDUCE: "exchange bucket",
}
"""What an action is called for people."""

_SUBLANES = 100
"""Thread numbers kept for each lane; overlapping spans of a lane take one each."""


def write_trace(
    path: Path, timelines: Mapping[str, Timeline], plan: Plan, memory: Mapping[str, MemoryCurve] | None = None
) -> None:
    """Write `timelines` of one step of `plan` to `path`; their keys (`predicted`, `measured`) name the groups in the viewer.

    `memory`: what each device holds over the first of them. The same input gives the same bytes.
    """
    about = json.dumps({"format": "hetsim trace", "schema_version": 1, "plan": str(plan)}, ensure_ascii=False)
    events = ",\n".join(json.dumps(event, ensure_ascii=False) for event in trace_events(timelines, plan, memory))
    write_text(path, f'{{"displayTimeUnit": "ms", "otherData": {about}, "traceEvents": [\n{events}\n]}}\n')


def trace_events(
    timelines: Mapping[str, Timeline], plan: Plan, memory: Mapping[str, MemoryCurve] | None = None
) -> list[Event]:
    """The events of the trace: names first, then slices and memory by process and time, then flows."""
    left = dict(memory or {})
    names: list[Event] = []
    slices: list[Event] = []
    flows: list[Event] = []
    process = 0
    for group, timeline in timelines.items():
        places: dict[Span, tuple[int, int]] = {}
        for device in ordered_devices(timeline, plan):
            process += 1
            names += _process_names(process, f"{group}: {device}")
            for number, lane in enumerate(LANES):
                spans = [span for span in timeline.spans if span.device == device and span.lane == lane]
                for sublane, row in enumerate(without_overlap(spans)):
                    thread = number * _SUBLANES + sublane
                    names += _thread_names(process, thread, lane if sublane == 0 else f"{lane} {sublane + 1}")
                    places |= dict.fromkeys(row, (process, thread))
                    slices += [_slice(span, process, thread) for span in row]
            slices += [_memory(process, ns, size) for ns, size in left.pop(device, ())]
        flows += _flows(timeline, plan, places, first_id=len(flows) // 2)
    return names + slices + flows


def without_overlap(spans: Iterable[Span]) -> list[list[Span]]:
    """`spans` dealt to as few rows as they need so that no two of a row overlap, each row in order of time."""
    rows: list[list[Span]] = []
    for span in sorted(spans, key=lambda s: (s.start_ns, s.end_ns)):
        for row in rows:
            if row[-1].end_ns <= span.start_ns:
                row.append(span)
                break
        else:
            rows.append([span])
    return rows


def _process_names(process: int, name: str) -> list[Event]:
    return [
        {"ph": "M", "name": "process_name", "pid": process, "args": {"name": name}},
        {"ph": "M", "name": "process_sort_index", "pid": process, "args": {"sort_index": process}},
    ]


def _thread_names(process: int, thread: int, name: str) -> list[Event]:
    return [
        {"ph": "M", "name": "thread_name", "pid": process, "tid": thread, "args": {"name": name}},
        {"ph": "M", "name": "thread_sort_index", "pid": process, "tid": thread, "args": {"sort_index": thread}},
    ]


def _slice(span: Span, process: int, thread: int) -> Event:
    action = Action.parse(span.action)
    number = "" if action.kind is Kind.UPDATE else f" {action.item}"
    item = {} if action.kind is Kind.UPDATE else {"bucket" if action.kind is Kind.REDUCE else "microbatch": action.item}
    return {
        "ph": "X",
        "name": NAMES[action.kind] + number,
        "cat": span.lane,
        "pid": process,
        "tid": thread,
        "ts": _us(span.start_ns),
        "dur": _us(span.end_ns - span.start_ns),
        "args": {"action": span.action, "stage": action.stage, **item},
    }


def _memory(process: int, ns: int, size_bytes: int) -> Event:
    return {"ph": "C", "name": "memory", "pid": process, "ts": _us(ns), "args": {"bytes": size_bytes}}


def _flows(timeline: Timeline, plan: Plan, places: Mapping[Span, tuple[int, int]], first_id: int) -> list[Event]:
    rows: list[Event] = []
    for number, message in enumerate(_in_time(messages(timeline, plan)), start=first_id):
        # An end belongs to the slice only if it lies before the slice's end.
        arrival_ns = max(message.receive.start_ns, message.receive.end_ns - 1)
        for phase, span, ns in (("s", message.send, message.send.start_ns), ("f", message.receive, arrival_ns)):
            process, thread = places[span]
            event: Event = {"ph": phase, "name": "message", "cat": "message", "id": number}
            event |= {"pid": process, "tid": thread, "ts": _us(ns)}
            rows.append(event | ({"bp": "e"} if phase == "f" else {}))
    return rows


def _in_time(rows: Sequence[Message]) -> list[Message]:
    """Messages that arrive after they were sent: clocks of two hosts may disagree, and a viewer refuses a backward flow."""
    return [row for row in rows if row.receive.end_ns > row.send.start_ns]


def _us(ns: int) -> float:
    return ns / 1000
