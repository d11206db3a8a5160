"""The event model against theory, and against the recurrence written apart from it."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetsim.costs import CostModel, CostTable, LayerCost, TransferCost
from hetsim.errors import PlanError
from hetsim.exchange import buckets
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.plan import Plan
from hetsim.schedule import Kind, make_schedule
from hetsim.simulator import busy_s, predict, price, simulate, solve
from hetsim.workload import Chain, Layer, Training


def make_costs(
    forward_s,
    backward_s,
    *,
    latency_s=0.0,
    bandwidth=1e30,
    parameters=(),
    output_bytes=0,
    update_s=0.0,
    accumulate_s=None,
    post_s=0.0,
    beside=(),
):
    """Costs of a chain on devices d0, d1, …; forward_s[d][l] is the time of one sample of layer l on device d."""
    types = {f"t{d}": DeviceType(f"t{d}") for d in range(len(forward_s))}
    devices = tuple(Device(f"d{d}", f"t{d}", "n") for d in range(len(forward_s)))
    link = Link("bus", latency_s, bandwidth)
    cluster = Cluster((Node("n", devices, link),), types, link)
    names = [f"l{i}" for i in range(len(forward_s[0]))]
    chain = Chain("net", tuple(Layer(n, tuple(parameters), output_bytes) for n in names))
    rows = tuple(
        LayerCost(f"t{d}", names[i], 1, f, b, update_s, accumulate_s)
        for d, (row_f, row_b) in enumerate(zip(forward_s, backward_s, strict=True))
        for i, (f, b) in enumerate(zip(row_f, row_b, strict=True))
    )
    posts = tuple(
        TransferCost(operation, (kind,), 10**5, post_s * share)
        for kind in types
        for operation, share in (("post_send", 1.0), ("post_receive", 0.5))
    )
    besides = tuple(TransferCost(operation, (kind,), 10**5, seconds) for kind in types for operation, seconds in beside)
    return CostModel(chain, cluster, CostTable("net", rows, posts + besides))


def alone(prices):
    """The same prices where no transfer takes anything from another."""
    return replace(
        prices,
        send={key: replace(flow, load={}) for key, flow in prices.send.items()},
        exchange=tuple(tuple(tuple(replace(f, load={}) for f in phase) for phase in row) for row in prices.exchange),
    )


def both(plan, costs):
    schedule = make_schedule(Plan.parse(plan) if isinstance(plan, str) else plan, costs.chain)
    prices = alone(price(schedule.plan, costs))
    return simulate(schedule, prices), solve(schedule, prices)


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("stages", "microbatches"), [(2, 4), (4, 4), (4, 16), (3, 1)])
def test_bubble_of_equal_stages(schedule, stages, microbatches):
    """(P-1)/(M+P-1) of the step is bubble: Huang et al. 2019, section 2.3; the same for 1F1B with flush."""
    costs = make_costs([[1.0] * stages] * stages, [[2.0] * stages] * stages)
    text = " > ".join(f"d{s}[{s}:{s + 1}]" for s in range(stages)) + f" {microbatches}/{microbatches}; {schedule}"
    timeline, _ = both(text, costs)
    bubble = 1 - timeline.utilisation("d0")
    assert bubble == pytest.approx((stages - 1) / (microbatches + stages - 1))
    assert timeline.step_s == pytest.approx(3.0 * (microbatches + stages - 1))


def test_ring_all_reduce_of_equal_replicas():
    """2(n-1)/n of the bytes cross each link: Patarasuk & Yuan 2009."""
    costs = make_costs([[1.0]] * 4, [[1.0]] * 4, bandwidth=1e6, parameters=(100_000,))
    timeline, _ = both("d0[0:1] 1/1 | d1[0:1] 1/1 | d2[0:1] 1/1 | d3[0:1] 1/1", costs)
    assert timeline.step_s == pytest.approx(2.0 + 2 * 3 / 4 * 400_000 / 1e6)


def test_buckets_overlap_with_backward():
    """The exchange of the last layer's gradients hides behind the backward of the first layer."""
    parameters = (300_000,)  # 1.2 MB: one bucket a layer, each taking 2 * (1/2) * 1.2 s
    costs = make_costs([[1.0, 1.0]] * 2, [[5.0, 5.0]] * 2, bandwidth=1e6, parameters=parameters)
    timeline, _ = both("d0[0:2] 1/1 | d1[0:2] 1/1", costs)
    reduces = [span for span in timeline.spans if span.kind is Kind.REDUCE and span.device == "d0"]
    assert [(s.start_ns, s.end_ns) for s in reduces] == [(7 * 10**9, 8_200_000_000), (12 * 10**9, 13_200_000_000)]
    assert timeline.step_s == pytest.approx(13.2)


@pytest.mark.parametrize(
    ("plan", "step_s"),
    [
        ("d0[0:2] 4/1", 4 * 12.0),  # one microbatch: nothing to add to
        ("d0[0:2] 4/4", 4 * 12.0 + 3 * 1.0),
        ("d0[0:2] 4/4 | d1[0:2] 2/1", 4 * 12.0 + 3 * 1.0),
        ("d0[0:1] > d1[1:2] 4/4; gpipe", (4 + 1) * 6.0 + 4 * 0.5),  # what the first stage does last follows the last stage
    ],
)
def test_all_microbatches_but_the_first_add_to_gradients(plan, step_s):
    costs = make_costs([[1.0, 1.0]] * 2, [[5.0, 5.0]] * 2, accumulate_s=0.5)
    timeline, solution = both(plan, costs)
    assert timeline.step_s == solution.step_ns / 1e9 == pytest.approx(step_s)


def test_an_exchange_slows_the_backward_beside_it():
    parameters = (300_000,)
    costs = make_costs(
        [[1.0, 1.0]] * 2, [[5.0, 5.0]] * 2, bandwidth=1e6, parameters=parameters, beside=[("beside_reduce", 0.4 / 12)]
    )  # 1.2 MB a bucket, so 0.4 s
    timeline, _ = both("d0[0:2] 1/1 | d1[0:2] 1/1", costs)
    reduces = [span for span in timeline.spans if span.kind is Kind.REDUCE and span.device == "d0"]
    assert [s.start_ns / 1e9 for s in reduces] == pytest.approx([7.0, 12.4]), "the last bucket has nothing beside it"
    assert timeline.step_s == pytest.approx(13.6)


def test_messages_slow_the_computation_beside_them_in_a_pipeline_alone():
    beside = [("beside_send", 0.1), ("beside_receive", 0.2)]
    costs = make_costs([[1.0, 1.0]] * 2, [[2.0, 2.0]] * 2, output_bytes=10**5, beside=beside)
    timeline, _ = both("d0[0:1] > d1[1:2] 4/4; gpipe", costs)
    seconds = {
        kind: [s.end_ns - s.start_ns for s in timeline.spans if s.action == kind] for kind in ("0F1", "1F1", "0B1", "1B1")
    }
    assert [seconds[kind][0] / 1e9 for kind in ("0F1", "1F1", "0B1", "1B1")] == pytest.approx([1.1, 1.2, 2.2, 2.1])
    assert both("d0[0:1] > d1[1:2] 1/1", costs)[0].step_s == pytest.approx(6.0)


def test_message_delays_the_next_stage():
    costs = make_costs([[1.0, 1.0]] * 2, [[1.0, 1.0]] * 2, latency_s=0.25, bandwidth=1000.0, output_bytes=500)
    timeline, _ = both("d0[0:1] > d1[1:2] 1/1", costs)
    assert timeline.step_s == pytest.approx(4 * 1.0 + 2 * (0.25 + 0.5))


def test_slowest_replica_sets_the_step():
    costs = make_costs([[1.0], [2.0]], [[2.0], [4.0]])
    assert both("d0[0:1] 8/1 | d1[0:1] 4/1", costs)[0].step_s == pytest.approx(24.0)
    assert both("d0[0:1] 6/1 | d1[0:1] 6/1", costs)[0].step_s == pytest.approx(36.0)


@st.composite
def cases(draw):
    """A random plan with its costs: some replicas, each of some stages, with any cuts, shares and microbatches."""
    layers = draw(st.integers(1, 6))
    replica_count = draw(st.integers(1, 3))
    stage_counts = [draw(st.integers(1, min(3, layers))) for _ in range(replica_count)]
    devices = sum(stage_counts)
    seconds = st.integers(0, 1000).map(lambda ms: ms / 1000)
    times = st.lists(st.lists(seconds, min_size=layers, max_size=layers), min_size=devices, max_size=devices)
    costs = make_costs(
        draw(times),
        draw(times),
        latency_s=draw(seconds),
        bandwidth=draw(st.sampled_from([1e5, 1e6, 1e30])),
        parameters=draw(st.lists(st.integers(1, 400_000), max_size=3)),
        output_bytes=draw(st.integers(0, 10**5)),
        update_s=draw(seconds),
        accumulate_s=draw(st.one_of(st.none(), seconds)),
        post_s=draw(seconds),
    )
    replicas, device = [], 0
    for stages in stage_counts:
        cuts = [0, *sorted(draw(st.permutations(range(1, layers)))[: stages - 1]), layers]
        text = " > ".join(f"d{device + i}[{a}:{b}]" for i, (a, b) in enumerate(pairwise(cuts)))
        device += stages
        microbatches = draw(st.integers(1, 5))
        replicas.append(f"{text} {microbatches * draw(st.integers(1, 3))}/{microbatches}")
    return f"{' | '.join(replicas)}; {draw(st.sampled_from(['gpipe', '1f1b']))}", costs


@given(cases())
@settings(max_examples=150, deadline=None)
def test_events_equal_recurrence(case):
    plan, costs = case
    timeline, solution = both(plan, costs)
    assert round(timeline.step_s * 1e9) == solution.step_ns
    assert {(s.device, s.action): (s.start_ns, s.end_ns) for s in timeline.spans} == {
        (node.device, str(node.action)): (solution.start_ns[node], solution.end_ns[node]) for node in solution.end_ns
    }


@given(cases())
@settings(max_examples=60, deadline=None)
def test_invariants(case):
    text, costs = case
    plan = Plan.parse(text)
    schedule = make_schedule(plan, costs.chain)
    prices = price(schedule.plan, costs)
    timeline = simulate(schedule, prices)
    assert timeline == simulate(schedule, prices), "same inputs, same timeline"
    for device, actions in schedule.actions.items():
        spans = [s for s in timeline.spans if s.device == device]
        assert sorted(s.action for s in spans) == sorted(map(str, actions)), "every action happens once"
        compute = sorted((s for s in spans if s.lane == "compute"), key=lambda s: (s.start_ns, s.end_ns))
        assert all(a.end_ns <= b.start_ns for a, b in pairwise(compute)), "no overlap on a device"
        work_ns = sum(
            prices.compute_ns[device, a.stage, a.kind] for a in actions if (device, a.stage, a.kind) in prices.compute_ns
        )
        backwards = [a for a in actions if a.kind is Kind.BACKWARD]
        if backwards:
            key = (device, backwards[0].stage)
            work_ns -= prices.compute_ns[*key, Kind.BACKWARD] - prices.first_backward_ns[key]
        assert abs(sum(s.end_ns - s.start_ns for s in compute) - work_ns) <= len(costs.chain), "work is conserved"
        assert timeline.step_s * 1e9 >= work_ns - len(costs.chain), "no device works faster than it can"
    whole_replicas = len(plan.replicas) > 1 and len(plan.replicas[0].stages) == 1
    assert timeline.step_s * 1e9 >= (sum(prices.exchange_ns) if whole_replicas else 0)
    assert round(timeline.step_s * 1e9) >= solve(schedule, prices).step_ns, "sharing makes nothing faster"


def slowed(flow, factor):
    """`flow`, which takes `factor` times as long."""
    return replace(
        flow,
        latency_ns=flow.latency_ns * factor,
        transfer_ns=flow.transfer_ns * factor,
        bytes_per_s=flow.bytes_per_s / factor,
    )


@given(cases(), st.integers(2, 9))
@settings(max_examples=40, deadline=None)
def test_uniform_slow_down_scales_time(case, factor):
    text, costs = case
    schedule = make_schedule(Plan.parse(text), costs.chain)
    prices = price(schedule.plan, costs)
    slower = replace(
        prices,
        start_ns={d: ns * factor for d, ns in prices.start_ns.items()},
        compute_ns={k: ns * factor for k, ns in prices.compute_ns.items()},
        first_backward_ns={k: ns * factor for k, ns in prices.first_backward_ns.items()},
        last_backward={
            k: tuple(replace(p, duration_ns=p.duration_ns * factor) for p in v) for k, v in prices.last_backward.items()
        },
        send={k: slowed(flow, factor) for k, flow in prices.send.items()},
        post_ns={k: ns * factor for k, ns in prices.post_ns.items()},
        exchange=tuple(tuple(tuple(slowed(f, factor) for f in phase) for phase in row) for row in prices.exchange),
        exchange_ns=tuple(ns * factor for ns in prices.exchange_ns),
    )
    quick, slow = simulate(schedule, prices), simulate(schedule, slower)
    # Where transfers share, an end is rounded up to the next nanosecond, as often as there are transfers.
    assert slow.step_s * 1e9 == pytest.approx(factor * quick.step_s * 1e9, abs=factor * (len(quick.spans) + 1))
    assert solve(schedule, slower).step_ns == factor * solve(schedule, prices).step_ns


@pytest.mark.parametrize("microbatches", [2, 3, 4, 5, 7, 8, 11])
@pytest.mark.parametrize("rounds", [2, 3])
@pytest.mark.parametrize("width", [2, 3])
def test_interleaved_pipelines_never_wait_for_themselves(width, rounds, microbatches):
    depth = width * rounds
    costs = make_costs([[0.01] * depth] * width, [[0.02] * depth] * width, latency_s=1e-5, bandwidth=1e6, output_bytes=100)
    stages = " > ".join(f"d{number % width}[{number}:{number + 1}]" for number in range(depth))
    plan = Plan.parse(f"{stages} {microbatches}/{microbatches}; interleaved")
    schedule, prices = make_schedule(plan, costs.chain), price(plan, costs)
    assert simulate(schedule, prices).step_s * 1e9 == pytest.approx(solve(schedule, prices).step_ns, abs=10)


def test_a_schedule_that_waits_for_itself_is_no_short_step():
    costs = make_costs([[0.01] * 2] * 2, [[0.02] * 2] * 2, bandwidth=1e6, output_bytes=100)
    plan = Plan.parse("d0[0:1] > d1[1:2] 2/2; 1f1b")
    schedule, prices = make_schedule(plan, costs.chain), price(plan, costs)
    crossed = {device: tuple(reversed(row)) if device == "d0" else row for device, row in schedule.actions.items()}
    with pytest.raises(PlanError, match="waits for itself"):
        simulate(replace(schedule, actions=crossed), prices)


def test_every_gradient_byte_is_exchanged_once():
    costs = make_costs([[1.0] * 5] * 4, [[1.0] * 5] * 4, parameters=(70_000, 7_000_000, 3))
    plan = Plan.parse("d0[0:2] > d1[2:5] 2/1 | d2[0:4] > d3[4:5] 2/2")
    rows = buckets(plan, costs.chain)
    assert sum(b.size_bytes for b in rows) == costs.chain.parameter_bytes()
    assert sum(b.tensors for b in rows) == 15
    assert {b.segment.devices for b in rows} == {("d0", "d2"), ("d1", "d2"), ("d1", "d3")}


def test_prediction_names_what_limits_and_brackets_the_step():
    costs = make_costs([[1.0], [2.0]], [[2.0], [4.0]])
    prediction = predict(Plan.parse("d0[0:1] 8/1 | d1[0:1] 8/1"), costs, Training(16))
    assert prediction.limited_by == "compute on d1 (100%)"
    assert prediction.low_s <= prediction.step_s <= prediction.high_s
    assert math.isclose(sum(row.share for row in prediction.limits), 1.0)


def test_an_exchange_that_begins_in_a_backward_limits_from_there_on():
    """Three layers of 1 s backward each, a bucket each of 10 s: what binds is 1 s of backward, behind 3 s of forward."""
    costs = make_costs([[1.0] * 3] * 2, [[1.0] * 3] * 2, parameters=(25_000_000,), bandwidth=1e7)
    prediction = predict(Plan.parse("d0[0:3] 1/1 | d1[0:3] 1/1"), costs, Training(2), interval=False)
    assert prediction.step_s == pytest.approx(4 + 3 * 10, rel=1e-6)
    assert {row.what: round(row.seconds, 6) for row in prediction.limits} == {
        "gradient exchange": 30.0,
        "compute on d0": 4.0,
    }


def test_the_drift_of_a_host_does_not_blur_which_plan_is_faster():
    costs = make_costs([[1.0], [1.0], [1.15]], [[2.0], [2.0], [2.3]])
    training = Training(16)
    first, equal, slower = (predict(Plan.parse(f"d{i}[0:1] 16/16"), costs, training) for i in range(3))
    assert slower.low_s < first.high_s, "the intervals overlap"
    assert slower.chance_against(first) < 0.01, "they drift together"
    assert first.chance_against(first) == 1.0
    assert 0.3 < equal.chance_against(first) < 0.7, "what the model misses is each plan's own"


@pytest.mark.parametrize(
    "text",
    [
        "d0[0:4] 4/1 | d1[0:4] 8/4",
        "d0[0:1] > d1[1:4] 12/3; 1f1b",
        "d0[0:1] > d1[1:4] 12/2; gpipe",
        "d0[0:1] > d1[1:2] > d0[2:3] > d1[3:4] 12/1; interleaved",
        "d0[0:1] > d1[1:2] > d0[2:3] > d1[3:4] 12/4; interleaved",
    ],
)
def test_busy_time_is_that_of_the_timeline(text):
    costs = make_costs(
        [[0.01] * 4, [0.02] * 4],
        [[0.02] * 4, [0.03] * 4],
        parameters=(1000,),
        update_s=0.003,
        accumulate_s=0.001,
        beside=(("beside_send", 1),),
    )
    plan = Plan.parse(text)
    timeline = simulate(make_schedule(plan, costs.chain), price(plan, costs))
    busy = busy_s(plan, costs)
    assert set(busy) == set(plan.devices)
    for device in plan.devices:
        assert busy[device] == pytest.approx(timeline.busy_s(device), abs=1e-9)
