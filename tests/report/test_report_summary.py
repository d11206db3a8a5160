"""The shares of a step against a count of their own, and what is read off a cost table."""

from collections import Counter

import pytest
from report_world import World, slowed

from hetsim.communication import messages
from hetsim.costs import LOSS, CostTable, LayerCost
from hetsim.plan import Plan
from hetsim.report.summary import batch_curves, summarise_costs, summarise_devices
from hetsim.schedule import Kind
from hetsim.timeline import Span, Timeline


def span(device: str, action: str, start_ns: int, end_ns: int) -> Span:
    kind = next(kind for kind in sorted(Kind, key=len, reverse=True) if kind in action)
    return Span(device, kind, action, start_ns, end_ns)


def test_shares_of_a_step_that_can_be_counted_by_hand() -> None:
    plan = Plan.parse("a[0:1] > b[1:2] 4/1")
    timeline = Timeline.of(
        [
            span("a", "0F0", 0, 30),
            span("a", "0SEND_F0", 30, 40),
            span("b", "1RECV_F0", 0, 40),  # posted at once, but nothing travels before 30
            span("b", "1F0", 40, 50),
            span("b", "1B0", 50, 70),
            span("b", "1SEND_B0", 70, 80),
            span("a", "0RECV_B0", 30, 80),
            span("a", "0B0", 80, 100),
        ]
    )
    rows = summarise_devices(timeline, plan, network="n", case="chosen", label="predicted")
    shares = {row.device: (row.utilisation, row.exposed_communication, row.bubble) for row in rows}
    assert shares == {"a": (0.5, 0.2, 0.3), "b": (0.3, 0.2, 0.5)}


def test_an_exchange_is_under_way_when_all_have_entered_it() -> None:
    plan = Plan.parse("a[0:1] 4/1 | b[0:1] 4/1")
    timeline = Timeline.of(
        [span("a", "0B0", 0, 20), span("b", "0B0", 0, 60), span("a", "0REDUCE0", 20, 80), span("b", "0REDUCE0", 60, 80)]
    )
    (a, b) = summarise_devices(timeline, plan, network="n", case="chosen", label="measured")
    assert (a.utilisation, a.exposed_communication, a.bubble) == (0.25, 0.25, 0.5)
    assert (b.utilisation, b.exposed_communication, b.bubble) == (0.75, 0.25, 0.0)


def test_shares_agree_with_a_count_in_slices(world: World, plan: Plan) -> None:
    """The independent count: cut the step into slices and ask of each what stands open in it."""
    timeline = slowed(world.predicted(plan), 1.03)
    slices = 4000
    step_ns = round(timeline.step_s * 1e9)
    travel = messages(timeline, plan)
    members = Counter(s.action[1:] for s in timeline.spans if s.kind is Kind.REDUCE)
    for row in summarise_devices(timeline, plan, network="n", case="c", label="measured"):
        assert row.utilisation == pytest.approx(timeline.utilisation(row.device))
        assert row.utilisation + row.exposed_communication + row.bubble == pytest.approx(1)
        counts: Counter[str] = Counter()
        for number in range(slices):
            ns = (number + 0.5) * step_ns / slices
            here = [s for s in timeline.spans if s.start_ns <= ns < s.end_ns]
            entered = Counter(s.action[1:] for s in here if s.kind is Kind.REDUCE)
            mine = {s.action[1:] for s in here if s.kind is Kind.REDUCE and s.device == row.device}
            reducing = any(entered[bucket] == members[bucket] for bucket in mine)
            moving = [
                m for m in travel if row.device in (m.send.device, m.receive.device) and m.travel[0] <= ns < m.travel[1]
            ]
            computing = any(s.device == row.device and s.lane == "compute" for s in here)
            counts["compute" if computing else "communication" if reducing or moving else "bubble"] += 1
        assert counts["communication"] / slices == pytest.approx(row.exposed_communication, abs=0.01)
        assert counts["bubble"] / slices == pytest.approx(row.bubble, abs=0.01)


def test_every_send_finds_its_receive(world: World, plan: Plan) -> None:
    timeline = world.predicted(plan)
    found = messages(timeline, plan)
    assert len(found) == sum(s.lane == "send" for s in timeline.spans) == sum(s.lane == "receive" for s in timeline.spans)
    for message in found:
        assert message.send.end_ns == message.receive.end_ns  # so the engine has it
        assert message.send.device != message.receive.device


def test_a_send_without_its_receive_is_left_out() -> None:
    plan = Plan.parse("a[0:1] > b[1:2] 4/1")
    alone = Timeline.of([span("a", "0SEND_F0", 0, 5), span("b", "1SEND_F0", 0, 5), span("stranger", "0SEND_F0", 0, 5)])
    assert messages(alone, plan) == ()


def test_an_empty_timeline_has_no_devices() -> None:
    assert summarise_devices(Timeline(()), Plan.parse("a[0:1] 4/1"), network="n", case="c", label="measured") == ()


def test_batch_curves_add_up_the_layers(world: World) -> None:
    fast, slow = batch_curves(world.table)
    assert fast.microbatches == (1, 4, 16, 64)
    assert fast.seconds[2] == pytest.approx(9 * (1e-3 + 2e-4 * 16 + 2e-3 + 4.5e-4 * 16))
    assert slow.seconds == pytest.approx([3.9 * seconds for seconds in fast.seconds])


def test_batch_curves_leave_out_sizes_that_a_layer_lacks() -> None:
    rows = [LayerCost("x", "a", 1, 1.0, 1.0), LayerCost("x", "b", 1, 1.0, 1.0), LayerCost("x", "a", 2, 1.0, 1.0)]
    (curve,) = batch_curves(CostTable("n", (*rows, LayerCost("x", LOSS, 2, 1.0, 1.0))))
    assert (curve.microbatches, curve.seconds) == ((1,), (4.0,))


def test_batch_curves_are_of_plain_costs_whatever_the_order_of_the_table() -> None:
    plain = [LayerCost("x", "a", size, 1.0 * size, 2.0 * size) for size in (2, 8)]
    pipelined = [LayerCost("x", "a", size, 9.0, 9.0, in_flight=4) for size in (2, 4)]
    for rows in ([*plain, *pipelined], [*pipelined, *plain]):
        (curve,) = batch_curves(CostTable("n", tuple(rows)))
        assert (curve.microbatches, curve.seconds) == ((2, 8), (6.0, 24.0))


def test_cost_summary_counts(world: World) -> None:
    extra = LayerCost("fast", LOSS, 4, 1e-4, 1e-4, provenance="specified")
    summary = summarise_costs(CostTable("n", (*world.table.layers, extra), source="t.csv"))
    assert summary.points == {"measured": 72, "specified": 1}
    assert (summary.layers, summary.device_types, summary.transfers) == (9, ("fast", "slow"), 0)
