"""What the runtime takes beside the layers: which pipelines are looked at, and what is read off them."""

import pytest

from hetsim.cli.probe import MESSAGE_BYTES, exchanging_plan, probe_plans
from hetsim.cli.probe_rows import exchange_row, handling_rows
from hetsim.exchange import buckets
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.plan import Plan
from hetsim.schedule import Kind
from hetsim.timeline import Span, Timeline
from hetsim.workload import Chain, Layer

LINK = Link("bus", 0.0, 1e9)


def cluster_of(**cores):
    devices = tuple(Device(name, name[0], "n", cores=tuple(mine)) for name, mine in cores.items())
    return Cluster((Node("n", devices, LINK),), {kind: DeviceType(kind) for kind in "ab"}, LINK)


def ends(plan):
    first, last = plan.replicas[0].devices
    return first, last


def test_each_type_has_the_last_stage_once_with_a_core_of_its_own():
    assert [ends(plan) for plan in probe_plans(cluster_of(a0=[0], b0=[1]))] == [("b0", "a0"), ("a0", "b0")]
    assert [ends(plan) for plan in probe_plans(cluster_of(a0=[0], a1=[1]))] == [("a1", "a0")]
    assert [ends(plan) for plan in probe_plans(cluster_of(a0=[0], b0=[0], b1=[1]))] == [("b1", "a0"), ("b1", "b0")]
    assert probe_plans(cluster_of(a0=[0], b0=[0])) == []


def test_gradients_are_exchanged_by_two_devices_with_cores_of_their_own():
    assert str(exchanging_plan(cluster_of(b0=[1], a0=[0]))) == "a0[0:9] 128/1 | b0[0:9] 128/1"
    assert exchanging_plan(cluster_of(a0=[0], b0=[0], b1=[1])).devices == ("a0", "b1")
    assert exchanging_plan(cluster_of(a0=[0], b0=[0])) is None


def test_gaps_with_one_posting_are_told_by_what_is_posted():
    """The last stage: a receive stands in a gap of 30, a send in one of 70; one with both, and the update, tell of neither."""
    spans = [
        Span("a0", Kind.FORWARD, "0F0", 200, 400),
        Span("b0", Kind.FORWARD, "1F0", 1000, 1100),
        Span("b0", Kind.RECV_F, "1RECV_F1", 1105, 1500),
        Span("b0", Kind.BACKWARD, "1B0", 1130, 1300),
        Span("b0", Kind.SEND_B, "1SEND_B0", 1310, 1700),
        Span("b0", Kind.FORWARD, "1F1", 1370, 1400),
        Span("b0", Kind.RECV_F, "1RECV_F2", 1405, 1500),
        Span("b0", Kind.SEND_B, "1SEND_B9", 1406, 1500),
        Span("b0", Kind.BACKWARD, "1B1", 1600, 1700),
        Span("b0", Kind.SEND_B, "1SEND_B1", 1710, 1800),
        Span("b0", Kind.UPDATE, "1UPDATE", 1900, 2000),
    ]
    timelines, types = [Timeline.of(spans)], {"a0": "a", "b0": "b"}
    rows = {row["operation"]: row for row in handling_rows(timelines, types, lambda _source, _target: 0.0, MESSAGE_BYTES)}
    assert rows["handle_receive"]["seconds"] == pytest.approx([30e-9])
    assert rows["handle_send"]["seconds"] == pytest.approx([70e-9])
    assert rows["begin"]["seconds"] == pytest.approx([200e-9])
    assert (rows["begin"]["group"], rows["handle_send"]["group"]) == (["a"], ["b"])
    assert all(row["size_bytes"] == MESSAGE_BYTES for row in rows.values())


def test_a_message_is_handed_over_from_the_end_of_what_made_it_to_the_start_of_what_waited_for_it():
    """Gradients 0 and 1 are waited for: 90 and 100 after the backwards that made them; those of 2 come while `a0` computes.

    Handling takes the sender 20, and 30 are what the message takes between devices at rest.
    """
    made = [
        Span("b0", Kind.BACKWARD, "1B0", 100, 200),
        Span("b0", Kind.SEND_B, "1SEND_B0", 205, 260),
        Span("b0", Kind.FORWARD, "1F1", 220, 300),
        Span("b0", Kind.BACKWARD, "1B1", 310, 400),
        Span("b0", Kind.BACKWARD, "1B2", 410, 600),
    ]
    waited = [
        Span("a0", Kind.FORWARD, "0F2", 100, 180),
        Span("a0", Kind.BACKWARD, "0B0", 290, 350),
        Span("a0", Kind.BACKWARD, "0B1", 500, 700),
        Span("a0", Kind.BACKWARD, "0B2", 701, 800),
    ]
    at_rest = {("b0", "a0"): 30e-9}
    rows = handling_rows([Timeline.of([*made, *waited])], {"a0": "a", "b0": "b"}, lambda *pair: at_rest[pair], MESSAGE_BYTES)
    (row,) = (row for row in rows if row["operation"] == "hand_over")
    assert (row["group"], row["size_bytes"]) == (["a"], MESSAGE_BYTES)
    assert row["seconds"] == pytest.approx([40e-9, 50e-9])


def test_an_exchange_counts_from_the_last_that_is_ready_with_what_its_updates_take_longer():
    """Both are ready at 500 and done at 900. An update took 300 for two of the three layers, so 450 for all; here 500 and 470."""
    chain = Chain("net", tuple(Layer(f"l{i}", (1 << 18,)) for i in range(3)))
    plan = Plan.parse("a0[0:3] 4/1 | b0[0:3] 4/1")
    *_, last = buckets(plan, chain)
    exchanged = [
        Span("a0", Kind.REDUCE, "0REDUCE0", 100, 600),
        Span("a0", Kind.REDUCE, f"0REDUCE{last.index}", 400, 900),
        Span("b0", Kind.REDUCE, f"0REDUCE{last.index}", 500, 900),
        Span("a0", Kind.UPDATE, "0UPDATE", 900, 1400),
        Span("b0", Kind.UPDATE, "0UPDATE", 900, 1370),
    ]
    computed = Span("a0", Kind.FORWARD, "0F0", 0, 1), Span("b0", Kind.FORWARD, "1F0", 1, 2)
    turned = Span("b0", Kind.FORWARD, "0F0", 0, 1), Span("a0", Kind.FORWARD, "1F0", 1, 2)
    pipelines = [
        Timeline.of([*computed, Span("b0", Kind.UPDATE, "1UPDATE", 2, 302)]),
        Timeline.of([*turned, Span("a0", Kind.UPDATE, "1UPDATE", 2, 302)]),
    ]
    row = exchange_row(plan, [Timeline.of(exchanged)], pipelines, chain, {"a0": "a", "b0": "b"})
    assert (row["operation"], row["group"], row["size_bytes"]) == ("exchange", ["a0", "b0"], last.size_bytes)
    assert row["seconds"] == pytest.approx([450e-9])
