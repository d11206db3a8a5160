"""The trace against the rules of the Trace Event Format, and against the timelines it was made from."""

import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from report_world import World, slowed

from hetsim.plan import Plan
from hetsim.report.trace import trace_events, without_overlap, write_trace
from hetsim.schedule import Kind
from hetsim.timeline import Span, Timeline


def traced(world: World, plan: Plan) -> tuple[dict[str, Timeline], list[dict[str, Any]]]:
    predicted = world.predicted(plan)
    timelines = {"predicted": predicted, "measured": slowed(predicted, 1.04)}
    return timelines, trace_events(timelines, plan)


def test_every_span_is_one_slice_in_its_group(world: World, plan: Plan) -> None:
    timelines, events = traced(world, plan)
    process = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert list(process.values()) == [f"{group}: {d}" for group in timelines for d in plan.devices]
    slices = [e for e in events if e["ph"] == "X"]
    got = sorted((process[e["pid"]], e["args"]["action"], round(e["ts"] * 1000), round(e["dur"] * 1000)) for e in slices)
    assert got == sorted(
        (f"{group}: {s.device}", s.action, s.start_ns, s.end_ns - s.start_ns)
        for group, timeline in timelines.items()
        for s in timeline.spans
    )
    assert {e["name"].rstrip("0123456789 ") for e in slices if e["cat"] == "compute"} == {"forward", "backward", "update"}


def test_slices_of_a_thread_do_not_overlap_and_threads_are_named(world: World, plan: Plan) -> None:
    _, events = traced(world, plan)
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    threads: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            start = round(event["ts"] * 1000)
            threads[event["pid"], event["tid"]].append((start, start + round(event["dur"] * 1000)))
    assert set(threads) == named
    for rows in threads.values():
        assert all(before[1] <= after[0] for before, after in pairwise(rows))


def test_a_flow_leads_from_each_send_into_its_receive(world: World, plan: Plan) -> None:
    timelines, events = traced(world, plan)
    slices = [e for e in events if e["ph"] == "X"]

    def enclosing(flow: dict[str, Any]) -> dict[str, Any]:
        (found,) = (
            e for e in slices
            if (e["pid"], e["tid"]) == (flow["pid"], flow["tid"]) and e["ts"] <= flow["ts"] < e["ts"] + e["dur"]
        )  # fmt: skip
        return found

    starts = {e["id"]: e for e in events if e["ph"] == "s"}
    ends = {e["id"]: e for e in events if e["ph"] == "f"}
    assert len(starts) == len(ends) == sum(s.lane == "send" for t in timelines.values() for s in t.spans)
    for number, start in starts.items():
        sent, received = enclosing(start), enclosing(ends[number])
        assert sent["name"].replace("send", "receive") == received["name"]
        assert abs(sent["args"]["stage"] - received["args"]["stage"]) == 1
        assert start["ts"] <= ends[number]["ts"]
        assert ends[number]["bp"] == "e"


def test_a_message_that_arrives_before_it_was_sent_has_no_flow() -> None:
    spans = [Span("a", Kind.SEND_F, "0SEND_F0", 50, 60), Span("b", Kind.RECV_F, "1RECV_F0", 0, 40)]
    events = trace_events({"measured": Timeline.of(spans)}, Plan.parse("a[0:1] > b[1:2] 4/1"))
    assert not [e for e in events if e["ph"] in "sf"]


def test_the_file_is_json_and_the_same_every_time(world: World, plan: Plan, tmp_path: Path) -> None:
    timelines, events = traced(world, plan)
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    write_trace(first, timelines, plan)
    write_trace(second, dict(timelines), Plan.parse(str(plan)))
    assert first.read_bytes() == second.read_bytes()
    document = json.loads(first.read_text())
    assert document["traceEvents"] == events
    assert document["otherData"] == {"format": "hetsim trace", "schema_version": 1, "plan": str(plan)}


bursts = st.builds(lambda at, ns: Span("a", Kind.REDUCE, "0REDUCE0", at, at + ns), st.integers(0, 50), st.integers(1, 20))


@given(st.lists(bursts, max_size=12))
def test_sublanes_keep_every_span_and_are_as_few_as_can_be(spans: list[Span]) -> None:
    rows = without_overlap(spans)
    assert Counter(span for row in rows for span in row) == Counter(spans)
    for row in rows:
        assert all(before.end_ns <= after.start_ns for before, after in pairwise(row))
    assert len(rows) == max((sum(o.start_ns <= s.start_ns < o.end_ns for o in spans) for s in spans), default=0)
