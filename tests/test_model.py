"""Rules of docs/model.md that no other test holds: against hand computation, theory and torch."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hetsim.costs import LOSS, STEP, CostModel, CostTable, LayerCost, TransferCost
from hetsim.errors import CostError
from hetsim.exchange import BUCKET_BYTES, FIRST_BUCKET_BYTES, buckets
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.measurement import Measurement
from hetsim.memory import memory_use
from hetsim.plan import Plan
from hetsim.schedule import Kind
from hetsim.simulator import predict, step_s
from hetsim.simulator.draws import DRIFT_SPREAD, MODEL_SPREAD
from hetsim.validation import Case, compare, phases
from hetsim.workload import Chain, Layer, Training

BUS = Link("bus", 0.001, 1e6)
CHAIN = Chain("net", (Layer("l0", (100,), 40, 80), Layer("l1", (20, 5), 12, 60)), input_bytes_per_sample=16)
ROWS = (
    *(LayerCost(kind, "l0", 1, 0.1 * times, 0.2 * times, 0.01) for kind, times in (("fast", 1), ("slow", 4))),
    *(LayerCost(kind, "l1", 1, 0.3 * times, 0.5 * times, 0.02) for kind, times in (("fast", 1), ("slow", 4))),
)


def costs_of(rows=ROWS, transfers=(), *, chain=CHAIN, link=BUS, network=BUS, split_nodes=False, cores=((), ())):
    """Costs on a fast device f and a slow device s, in one node or in two."""
    f, s = Device("f", "fast", "a", cores=cores[0]), Device("s", "slow", "b" if split_nodes else "a", cores=cores[1])
    nodes = (Node("a", (f,), link), Node("b", (s,), link)) if split_nodes else (Node("a", (f, s), link),)
    cluster = Cluster(nodes, {"fast": DeviceType("fast"), "slow": DeviceType("slow")}, network)
    return CostModel(chain, cluster, CostTable("net", rows, transfers))


def test_an_unpriced_layer_is_an_error():
    costs = costs_of(ROWS[:3])
    with pytest.raises(CostError, match="no cost for layer l1 on slow"):
        predict(Plan.parse("s[0:2] 1/1"), costs, Training(1))
    assert predict(Plan.parse("f[0:2] 1/1"), costs, Training(1)).step_s == pytest.approx(1.13)


def test_what_was_measured_of_a_link_counts_before_its_specification():
    rows = [TransferCost(op, ("f", "s"), size, size / 1e3) for op in ("send_recv", "all_reduce") for size in (1000, 2000)]
    specified, measured = costs_of(), costs_of(transfers=tuple(rows))
    assert specified.send_s("f", "s", 1500) == pytest.approx(0.001 + 1500 / 1e6)
    assert specified.reduce_s(["f", "s"], 1500) == pytest.approx(2 * (0.001 + 750 / 1e6))
    for a, b in (("f", "s"), ("s", "f")):
        assert measured.send_s(a, b, 1500) == pytest.approx(1.5)
        assert measured.reduce_s([a, b], 1500) == pytest.approx(1.5)
    assert measured.send_s("f", "f", 1500) == measured.send_s("f", "s", 0) == measured.reduce_s(["f"], 1500) == 0.0


def test_messages_between_nodes_take_the_rate_that_lasts():
    """A short message that comes alone hides in buffers; within a node there are none."""
    rows = tuple(TransferCost("send_recv", ("f", "s"), size, seconds) for size, seconds in ((1000, 0.1), (4000, 4.0)))
    assert costs_of(transfers=rows, split_nodes=True).send_s("f", "s", 1000) == pytest.approx(1.0)
    assert costs_of(transfers=rows, split_nodes=True).send_s("f", "s", 4000) == pytest.approx(4.0)
    assert costs_of(transfers=rows).send_s("f", "s", 1000) == pytest.approx(0.1)


def test_a_curve_of_several_origins_keeps_that_of_each_point():
    rows = (*ROWS, replace(ROWS[0], microbatch=4, provenance="transferred", spread=0.3))
    costs = costs_of(rows)
    origins = [(n, costs.forward("f", 0, n).provenance) for n in (1, 2, 4, 8)]
    assert origins == [(1, "measured"), (2, "transferred"), (4, "transferred"), (8, "transferred")]
    assert (costs.forward("f", 0, 1).spread, costs.forward("f", 0, 4).spread) == (0.0, 0.3)


def test_the_slowest_link_sets_the_pace_of_a_ring():
    near = Link("near", 0.0, 1e9)
    assert costs_of(link=near, split_nodes=True).reduce_s(["f", "s"], 4000) == pytest.approx(2 * (0.001 + 2000 / 1e6))
    assert costs_of(link=near).reduce_s(["f", "s"], 4000) == pytest.approx(2 * 2000 / 1e9)


@given(st.lists(st.integers(1, 9_000_000), min_size=1, max_size=12))
def test_buckets_are_those_of_torch(elements):
    """The same cut as the function with which DistributedDataParallel fills its buckets."""
    chain = Chain("net", tuple(Layer(f"l{i}", (n,)) for i, n in enumerate(elements)))
    mine = buckets(Plan.parse(f"f[0:{len(chain)}] 1/1 | s[0:{len(chain)}] 1/1"), chain)
    ready = [torch.empty(n, device="meta") for n in reversed(elements)]
    limits = [FIRST_BUCKET_BYTES, BUCKET_BYTES]
    theirs, _ = torch.distributed._compute_bucket_assignment_by_size(ready, limits, [False] * len(ready))
    assert [bucket.size_bytes for bucket in mine] == [sum(ready[i].nbytes for i in row) for row in theirs]
    assert [bucket.first_layer for bucket in mine] == [len(chain) - 1 - max(row) for row in theirs]


def test_every_part_of_a_step_has_its_price():
    """Overhead, forward, loss, backward, packing, exchange and updates of two replicas, one after the other, by hand."""
    extra = (LayerCost("fast", LOSS, 1, 0.03, 0.04), LayerCost("fast", STEP, 1, 0.0, 0.0, 0.05))
    packing = (TransferCost("bucket", ("fast",), 500, 0.007),)
    costs = costs_of(ROWS + extra, packing)
    computed_s = 0.05 + 2 * (0.1 + 0.3 + 0.03 + 0.04 + 0.5 + 0.2)
    assert step_s(Plan.parse("f[0:2] 2/2"), costs) == pytest.approx(computed_s + 0.03)
    plan = Plan.parse("f[0:2] 8/1 | s[0:2] 1/1")
    packed_s = 0.05 + 8 * (0.1 + 0.3 + 0.03 + 0.04 + 0.5 + 0.2) + 0.007
    exchange_s = 2 * (0.001 + 250 / 1e6)
    assert step_s(plan, costs) == pytest.approx(packed_s + exchange_s + 0.03)


def test_a_message_keeps_its_device_busy_for_what_a_real_pipeline_showed():
    """The call takes 1 ms a kilobyte; at 2 kB the whole was seen to take 7 ms, so 5 ms come on top at any size."""
    calls = [TransferCost("post_send", ("fast",), size, size / 1e6) for size in (1000, 4000)]
    seen = TransferCost("handle_send", ("fast",), 2000, 0.007)
    bare, whole = costs_of(transfers=tuple(calls)), costs_of(transfers=(*calls, seen))
    assert bare.handle_send_s("f", 3000) == pytest.approx(bare.post_send_s("f", 3000)) == pytest.approx(0.003)
    assert whole.handle_send_s("f", 3000) == pytest.approx(0.008)
    assert whole.handle_send_s("f", 0) == whole.handle_receive_s("f", 3000) == whole.handle_send_s("s", 3000) == 0.0
    quick = costs_of(transfers=(*calls, replace(seen, seconds=0.001)))
    assert quick.handle_send_s("f", 3000) == pytest.approx(0.003), "never less than the call"


def test_a_message_takes_longer_where_a_real_pipeline_showed_that_its_receiver_waits():
    told = TransferCost("hand_over", ("slow",), 2000, 0.004)
    bare, whole = costs_of(), costs_of(transfers=(TransferCost("send_recv", ("f", "s"), 1000, 0.01), told))
    assert whole.send_s("f", "s", 1000) == pytest.approx(0.014)
    assert whole.send_s("s", "f", 1000) == pytest.approx(0.01), "of the receiver's type nothing was told"
    assert bare.send_s("f", "s", 1000) == costs_of(transfers=(told,)).send_s("f", "s", 1000), "a link that nobody timed"


def test_an_exchange_takes_longer_at_the_end_of_a_real_step():
    """1 kB takes 10 ms at rest, and 2 kB 20 ms; at the end of a step 2 kB took 30 ms, half as long again."""
    at_rest = tuple(TransferCost("all_reduce", ("f", "s"), size, size / 1e5) for size in (1000, 2000))
    seen = TransferCost("exchange", ("f", "s"), 2000, 0.03)
    assert costs_of(transfers=at_rest).reduce_s(("f", "s"), 1000) == pytest.approx(0.01)
    assert costs_of(transfers=(*at_rest, seen)).reduce_s(("f", "s"), 1000) == pytest.approx(0.015)
    quick = costs_of(transfers=(*at_rest, replace(seen, seconds=0.01)))
    assert quick.reduce_s(("f", "s"), 1000) == pytest.approx(0.01), "never less than at rest"
    assert costs_of(transfers=(seen,)).reduce_s(("f", "s"), 1000) == costs_of().reduce_s(("f", "s"), 1000)


def test_a_step_begins_as_a_run_does_and_each_tensor_of_a_bucket_takes_its_own():
    begin = TransferCost("begin", ("fast",), 1000, 0.02)
    assert costs_of(transfers=(begin,)).step_overhead_s("f") == pytest.approx(0.02)
    more = (*ROWS, LayerCost("fast", STEP, 1, 0.0, 0.0, 0.05))
    assert costs_of(more, (begin,)).step_overhead_s("f") == pytest.approx(0.05), "the longer of the two"
    packing = (TransferCost("bucket", ("fast",), 1 << 20, 0.007), TransferCost("bucket_tensor", ("fast",), 1024, 1e-3))
    costs = costs_of(transfers=packing)
    assert costs.bucket_s("f", 1 << 20, 1) == pytest.approx(0.007), "one tensor a mebibyte is in the figure"
    assert costs.bucket_s("f", 1 << 20, 5) == pytest.approx(0.011)


def test_the_interval_of_a_prediction_is_that_of_its_costs():
    """One device whose costs are sure to 10 % at 95 %: 5 % to 95 % of a normal error are 1.645 of its deviations."""
    rows = tuple(replace(row, update_s=0.0, spread=0.1) for row in ROWS)
    prediction = predict(Plan.parse("f[0:2] 4/4"), costs_of(rows), Training(4))
    half = 1.645 * math.hypot(0.1, MODEL_SPREAD, DRIFT_SPREAD) / 1.96 * 4.4
    # Of 200 draws the ends scatter by some tenth of the width; the seed is fixed.
    assert prediction.low_s == pytest.approx(4.4 - half, abs=0.3 * half)
    assert prediction.high_s == pytest.approx(4.4 + half, abs=0.3 * half)
    assert prediction.step_s == pytest.approx(4.4)
    by_hand = tuple(replace(row, provenance="specified") for row in ROWS)
    exact = predict(Plan.parse("f[0:2] 4/4"), costs_of(by_hand), Training(4))
    assert exact.low_s == exact.step_s == exact.high_s


@pytest.mark.parametrize(
    ("plan", "in_flight"), [("f[0:1] > s[1:2] 8/4; gpipe", (4, 4)), ("f[0:1] > s[1:2] 8/4; 1f1b", (2, 1))]
)
@pytest.mark.parametrize(
    ("training", "state"), [(Training(8), 4), (Training(8, momentum=0.0), 0), (Training(8, "adamw"), 8)]
)
def test_the_peak_of_a_pipeline_by_hand(plan, in_flight, training, state):
    first, second = memory_use(Plan.parse(plan), costs_of(), training)
    assert first.peak_bytes == 100 * (4 + 4 + state) + in_flight[0] * 2 * 80 + 8 * (16 + 40)
    assert second.peak_bytes == 25 * (4 + 4 + state) + in_flight[1] * 2 * 60 + 8 * (40 + 0)
    assert first.fits, "a device of unknown size holds anything"


def test_measured_saved_bytes_count_before_the_networks_own():
    rows = (replace(ROWS[0], saved_bytes=1000), *ROWS[1:])
    (use,) = memory_use(Plan.parse("f[0:2] 3/1"), costs_of(rows), Training(3))
    assert use.activations_bytes == 3 * 1000 + 3 * 60


def measured(prediction, factor):
    """A measurement that went like the prediction, but took `factor` times as long."""
    spans = (
        span._replace(start_ns=round(span.start_ns * factor), end_ns=round(span.end_ns * factor))
        for span in prediction.timeline.spans
    )
    timeline = type(prediction.timeline).of(spans)
    return Measurement(prediction.plan, (timeline.step_s,) * 7, (1.0,) * 7, timeline)


def test_a_validation_by_hand():
    rows = (
        replace(row, microbatch=size, forward_s=size * row.forward_s, backward_s=size * row.backward_s)
        for size in (1, 4, 7)
        for row in ROWS
    )
    costs, training = costs_of(tuple(rows)), Training(8)
    chosen = predict(Plan.parse("f[0:2] 7/1 | s[0:2] 1/1"), costs, training)
    even = predict(Plan.parse("f[0:2] 4/1 | s[0:2] 4/1"), costs, training)
    good = Case("net", "chosen", chosen, measured(chosen, 1.0), chosen=True)
    bad = Case("net", "even split", even, measured(even, 0.25))
    assert (good.error, good.inside) == (pytest.approx(0.0), True)
    assert (bad.error, bad.inside) == (pytest.approx(3.0), False)
    (verdict,) = compare("office", [good, bad], "even split").verdicts
    assert verdict.best_measured is bad
    assert verdict.regret == pytest.approx(good.measurement.median_s / bad.measurement.median_s - 1)
    assert verdict.speedup_over_even == pytest.approx(bad.measurement.median_s / good.measurement.median_s)
    rows = phases(good.prediction.plan, good.prediction.timeline, good.measurement.timeline)
    for device in ("f", "s"):
        mine = {row.phase: row.predicted_s for row in rows if row.device == device}
        assert math.isclose(sum(mine.values()), chosen.step_s)
        assert mine["update"] == pytest.approx(0.03)
        assert mine["forward"] == pytest.approx(7 * 0.4 if device == "f" else 1.6)
        assert chosen.timeline.busy_s(device, Kind.BACKWARD) == pytest.approx(mine["backward"])


def test_a_pipeline_is_priced_from_its_own_curves():
    """Rows with several microbatches in flight price stages of pipelines, and nothing else."""
    colder = tuple(replace(row, in_flight=4, forward_s=3 * row.forward_s) for row in ROWS if row.layer != STEP)
    costs = costs_of((*ROWS, *colder))
    for layer in range(2):
        plain, pipelined = costs.forward("f", layer, 1), costs.forward("f", layer, 1, pipelined=True)
        assert pipelined.seconds == pytest.approx(3 * plain.seconds)
        assert costs.backward("f", layer, 1) == costs.backward("f", layer, 1, pipelined=True)
    assert costs_of().forward("f", 0, 1, pipelined=True) == costs_of().forward("f", 0, 1), (
        "without such rows the plain serve"
    )


def test_a_device_whose_neighbours_rest_is_as_fast_as_alone():
    """f and s share a node: f takes 0.8 of its cost while s rests; a difference within its spread is none."""
    alone = LayerCost("fast", "@alone", 8, 0.8, 1.0, spread=0.05)
    unsure = LayerCost("slow", "@alone", 8, 0.99, 1.0, spread=0.05)
    costs = costs_of((*ROWS, alone, unsure))
    assert costs.neighbour_factor("f", ("f",)) == pytest.approx(0.8)
    assert costs.neighbour_factor("f", ("f", "s")) == 1.0
    assert costs.neighbour_factor("s", ("s",)) == 1.0
    shared = costs_of((*ROWS, alone), cores=((0,), (0,)))
    assert shared.neighbour_factor("f", ("f",)) == 1.0, "who shares its core does not work beside it"
    plain, quicker = (step_s(Plan.parse("f[0:2] 2/2"), c) for c in (costs_of(ROWS), costs))
    update_s = sum(row.update_s for row in ROWS if row.device_type == "fast")
    assert quicker - update_s == pytest.approx(0.8 * (plain - update_s))


def test_a_core_that_is_shared_takes_what_was_measured_in_the_crowd():
    """f needs a quarter more of its core where s uses it, too. Both have the same work."""
    rows = tuple(replace(row, device_type=kind, update_s=0.0) for row in ROWS[::2] for kind in ("fast", "slow"))
    crowd = LayerCost("fast", "@crowd", 8, 1.25, 1.0)
    calm = LayerCost("slow", "@crowd", 8, 0.98, 1.0)
    costs = costs_of((*rows, crowd, calm), cores=((0,), (0,)))
    both = ("f", "s")
    assert (costs.crowd_factor("f", both), costs.crowd_factor("s", both)) == (1.25, 1.0), "turns never make work less"
    assert costs.crowd_factor("f", ("f",)) == 1.0
    assert costs_of((*rows, crowd), cores=((0,), (1,))).crowd_factor("f", both) == 1.0
    assert step_s(Plan.parse("f[0:2] 1/1"), costs) == pytest.approx(1.1)
    timeline = predict(Plan.parse("f[0:2] 1/1 | s[0:2] 1/1"), costs, Training(2)).timeline
    ends = {span.device: span.end_ns / 1e9 for span in timeline.spans if span.kind is Kind.BACKWARD}
    # They share the core until s is done, and then f does by itself what is left of its 1.375 s.
    assert ends["s"] == pytest.approx(2 * 1.1)
    assert ends["f"] == pytest.approx(1.1 + 1.375)
