"""Steps in which something is shared or disturbed, against times worked out by hand."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hetsim.conditions import Conditions, Disturbance
from hetsim.costs import CostModel, CostTable, LayerCost
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.memory import memory_over_time, memory_use
from hetsim.plan import Plan
from hetsim.schedule import Kind, make_schedule
from hetsim.simulator import least_step_s, predict, price, shared_step_s, simulate, solve, step_s
from hetsim.workload import Chain, Layer, Training

NET = Link("net", 0.0, 1e6)
"""A megabyte a second, so that a megabyte takes a second."""

MEGABYTE = 10**6


def costs_of(
    counts, *, layers=1, seconds=1.0, parameters=(), output_bytes=0, bus=1e30, half_duplex=False, cores=None, rows=()
):
    """A cluster of `counts` devices a node, n0.0, n0.1, n1.0 …; a forward of each layer takes `seconds`, a backward twice that."""
    nodes = tuple(
        Node(
            f"n{k}",
            tuple(Device(f"n{k}.{i}", "t", f"n{k}", i, cores[i] if cores else ()) for i in range(count)),
            Link("bus", 0.0, bus),
        )
        for k, count in enumerate(counts)
    )
    network = Link("net", 0.0, 1e6, half_duplex)
    chain = Chain("net", tuple(Layer(f"l{i}", tuple(parameters), output_bytes) for i in range(layers)))
    own = tuple(LayerCost("t", layer.name, 1, seconds, 2 * seconds) for layer in chain.layers)
    return CostModel(chain, Cluster(nodes, {"t": DeviceType("t")}, network), CostTable("net", (*own, *rows)))


def step_of(text, costs, *disturbances):
    plan = Plan.parse(text)
    return simulate(make_schedule(plan, costs.chain), price(plan, costs), disturbances)


def test_two_pipelines_over_one_switch_share_their_nodes_links():
    """Both first stages are in n0 and both second ones in n1: each megabyte takes 2 s instead of 1."""
    costs = costs_of([2, 2], layers=2, output_bytes=MEGABYTE)
    alone = step_of("n0.0[0:1] > n1.0[1:2] 1/1", costs)
    assert alone.step_s == pytest.approx(1 + 1 + 1 + 2 + 1 + 2)
    both = step_of("n0.0[0:1] > n1.0[1:2] 1/1 | n0.1[0:1] > n1.1[1:2] 1/1", costs)
    assert both.step_s == pytest.approx(1 + 2 + 1 + 2 + 2 + 2)


def test_a_wire_is_busy_from_when_its_exchanges_begin():
    """The last layer's gradients are there after 4 s and the first one's after 6 s; each exchange alone takes 4 s, both over the
    same wires: these are through after 4 + 8 s, though by the recurrence the step ends after 6 + 4 s."""
    costs = costs_of([2, 2], layers=2, parameters=[MEGABYTE])
    plan = Plan.parse("n0.0[0:1] > n0.1[1:2] 1/1 | n1.0[0:1] > n1.1[1:2] 1/1")
    steps_s = [step_s(plan, costs), least_step_s(plan, costs), shared_step_s(plan, costs)]
    assert steps_s == pytest.approx([10, 12, 12])


def test_half_duplex_lets_both_ways_share():
    """One pipeline goes from n0 to n1 and the other back: full duplex they do not meet, half duplex they do."""
    text = "n0.0[0:1] > n1.0[1:2] 1/1 | n1.1[0:1] > n0.1[1:2] 1/1"
    assert step_of(text, costs_of([2, 2], layers=2, output_bytes=MEGABYTE)).step_s == pytest.approx(8)
    half = costs_of([2, 2], layers=2, output_bytes=MEGABYTE, half_duplex=True)
    assert step_of(text, half).step_s == pytest.approx(10)


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_incast_at_a_parameter_server(workers):
    """n workers push a megabyte each through the server's one link, and pull it back: 2n seconds."""
    costs = costs_of([1] * (workers + 1), parameters=(MEGABYTE // 4,))
    plan = " | ".join(f"n{k}.0[0:1] 1/1" for k in range(1, workers + 1))
    if workers == 1:
        assert step_of(plan, costs).step_s == pytest.approx(3), "nobody to exchange with"
        return
    assert step_of(f"{plan}; ps@n0", costs).step_s == pytest.approx(3 + 2 * workers)


def test_two_parameter_servers_halve_the_incast():
    costs = costs_of([1] * 6, parameters=(MEGABYTE // 4,))
    plan = " | ".join(f"n{k}.0[0:1] 1/1" for k in range(2, 6))
    assert step_of(f"{plan}; ps@n0", costs).step_s == pytest.approx(3 + 8)
    assert step_of(f"{plan}; ps@n0+n1", costs).step_s == pytest.approx(3 + 4)


def test_a_worker_pushes_before_the_slow_ones_are_ready():
    """n1 is ready at 3 s and pushes till 4 s; n2 computes twice as much, pushes from 6 to 7 s; both pull till 9 s."""
    costs = costs_of([1, 1, 1], parameters=(MEGABYTE // 4,))
    timeline = step_of("n1.0[0:1] 1/1 | n2.0[0:1] 2/1; ps@n0", costs)
    starts = {span.device: span.start_ns / 1e9 for span in timeline.spans if span.kind is Kind.REDUCE}
    assert starts == pytest.approx({"n1.0": 3, "n2.0": 6})
    assert timeline.step_s == pytest.approx(9)


def test_two_devices_on_one_core_compute_at_half_speed():
    costs = costs_of([2], cores=[(0,), (0,)])
    assert step_of("n0.0[0:1] 1/1", costs).step_s == pytest.approx(3)
    assert step_of("n0.0[0:1] 1/1 | n0.1[0:1] 1/1", costs).step_s == pytest.approx(6)
    assert step_of("n0.0[0:1] 1/1 | n0.1[0:1] 3/1", costs).step_s == pytest.approx(12), "6 s together, then 6 s alone"
    apart = costs_of([2], cores=[(0,), (1,)])
    assert step_of("n0.0[0:1] 1/1 | n0.1[0:1] 1/1", apart).step_s == pytest.approx(3)


def test_a_disturbed_device_computes_slower_while_it_lasts():
    costs = costs_of([2])
    plan = "n0.0[0:1] 2/1 | n0.1[0:1] 2/1"
    assert step_of(plan, costs).step_s == pytest.approx(6)
    assert step_of(plan, costs, Disturbance("n0.0", 1.5)).step_s == pytest.approx(9)
    for_a_while = Disturbance("n0.0", 3.0, 1.0, 4.0)
    assert step_of(plan, costs, for_a_while).step_s == pytest.approx(8), "in 3 s it does the work of 1"
    twice = step_of(plan, costs, for_a_while, Disturbance("n0.0", 2.0, 4.0, 5.0))
    assert twice.step_s == pytest.approx(8.5)


def test_a_tensor_parallel_group_does_the_same_at_the_same_time():
    """Costs come from the rows of that width; each of four ranks hands its copy over, all through one link."""
    rows = tuple(LayerCost("t", f"l{i}", 1, 0.25, 0.5, 0.0, tensor_parallel=4) for i in range(2))
    costs = costs_of([4, 4], layers=2, output_bytes=MEGABYTE, rows=rows)
    a, b = "+".join(f"n0.{i}" for i in range(4)), "+".join(f"n1.{i}" for i in range(4))
    timeline = step_of(f"{a}[0:1] > {b}[1:2] 1/1", costs)
    assert timeline.step_s == pytest.approx(2 * 0.75 + 2 * 4)
    assert len(timeline.devices) == 8
    for group in ("n0", "n1"):
        rows_of = {
            device: [(s.action, s.start_ns, s.end_ns) for s in timeline.spans if s.device == device]
            for device in timeline.devices
            if device.startswith(group)
        }
        first, *others = rows_of.values()
        assert all(other == first for other in others)
    slowed = step_of(f"{a}[0:1] > {b}[1:2] 1/1", costs, Disturbance("n0.3", 2.0))
    assert slowed.step_s == pytest.approx(timeline.step_s + 0.75), "a group waits for its slowest"


@st.composite
def crowded(draw):
    """Replicas of stages spread over the devices of a few nodes, which talk over slow links."""
    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    devices = [f"n{k}.{i}" for k, count in enumerate(counts) for i in range(count)]
    order = draw(st.permutations(devices))
    layers = 4
    costs = costs_of(
        counts,
        layers=layers,
        seconds=draw(st.sampled_from([0.0, 0.001, 0.5])),
        parameters=(draw(st.integers(1, 10**6)),),
        output_bytes=draw(st.integers(0, 10**6)),
        bus=draw(st.sampled_from([1e6, 1e7, 1e30])),
        half_duplex=draw(st.booleans()),
    )
    replicas, taken = [], 0
    while taken < len(order):
        depth = draw(st.integers(1, min(layers, len(order) - taken)))
        mine, taken = order[taken : taken + depth], taken + depth
        cuts = [0, *sorted(draw(st.permutations(range(1, layers)))[: depth - 1]), layers]
        stages = " > ".join(f"{device}[{a}:{b}]" for device, (a, b) in zip(mine, pairwise(cuts), strict=True))
        microbatches = draw(st.integers(1, 3))
        replicas.append(f"{stages} {microbatches}/{microbatches}")
    how = draw(st.sampled_from(["ring", "tree", "hierarchical", "ps@n0", f"ps@n0+n{len(counts) - 1}"]))
    return f"{' | '.join(replicas)}; {draw(st.sampled_from(['gpipe', '1f1b']))}; {how}", costs


@given(crowded())
@settings(max_examples=80, deadline=None)
def test_resources_carry_what_they_can_and_every_byte_arrives(case):
    """Nothing is lost or stuck: each action happens once; no resource carries more than its bandwidth times the step."""
    text, costs = case
    plan = Plan.parse(text)
    schedule, prices = make_schedule(plan, costs.chain), price(plan, costs)
    timeline = simulate(schedule, prices)
    assert timeline == simulate(schedule, prices)
    for device, actions in schedule.actions.items():
        assert sorted(s.action for s in timeline.spans if s.device == device) == sorted(map(str, actions))
    messages = [prices.send[d, a.stage, a.kind] for d, row in schedule.actions.items() for a in row if "SEND" in a.kind]
    exchanges = [flow for row in prices.exchange for phase in row for flow in phase]
    busy_ns = {}
    for flow in messages + exchanges:
        for resource, load in flow.load.items():
            busy_ns[resource] = busy_ns.get(resource, 0.0) + load * flow.transfer_ns
    assert all(busy <= timeline.step_s * 1e9 + len(timeline.spans) for busy in busy_ns.values())
    for span in timeline.spans:
        if "SEND" in span.kind:
            stage = int(span.action.split("SEND")[0])
            assert span.end_ns - span.start_ns >= prices.send[span.device, stage, span.kind].duration_ns
    if "ps@" not in text:
        assert round(timeline.step_s * 1e9) >= solve(schedule, prices).step_ns, "the recurrence is a lower bound"
        assert timeline.step_s >= least_step_s(plan, costs) - 1e-9 * (1 + len(timeline.spans)), (
            "so is the busiest wire's time"
        )
        assert shared_step_s(plan, costs) == timeline.step_s, "what nothing shares needs no events"


@given(crowded())
@settings(max_examples=40, deadline=None)
def test_memory_comes_and_goes_and_never_exceeds_its_peak(case):
    text, costs = case
    plan = Plan.parse(text)
    layers = tuple(replace(layer, saved_bytes_per_sample=1000 * (i + 1)) for i, layer in enumerate(costs.chain.layers))
    costs = CostModel(replace(costs.chain, layers=layers), costs.cluster, costs.table)
    training = Training(plan.global_batch, "adamw")
    timeline = simulate(make_schedule(plan, costs.chain), price(plan, costs))
    assume(all(span.end_ns > span.start_ns for span in timeline.spans if span.kind is Kind.FORWARD))
    curves = memory_over_time(timeline, plan, costs, training)
    for use in memory_use(plan, costs, training):
        held = [size for _, size in curves[use.device]]
        base = use.parameters_bytes + use.optimizer_bytes + use.buffers_bytes
        assert held[-1] == base == min(held), "it returns to its base and never falls below"
        assert use.peak_bytes - use.gradients_bytes <= max(held) <= use.peak_bytes


def test_interleaved_stages_halve_the_bubble():
    """(P - 1) / v of a microbatch's time is lost at each end (Narayanan et al. 2021, section 2.2.2)."""
    costs = costs_of([4], layers=8)
    devices = [f"n0.{i}" for i in range(4)]
    plain = " > ".join(f"{d}[{2 * i}:{2 * i + 2}]" for i, d in enumerate(devices))
    folded = " > ".join(f"{devices[i % 4]}[{i}:{i + 1}]" for i in range(8))
    work_s = 8 * 2 * 3.0
    assert step_of(f"{plain} 8/8; 1f1b", costs).step_s == pytest.approx(work_s + 3 * 6.0)
    assert step_of(f"{folded} 8/8; interleaved", costs).step_s == pytest.approx(work_s + 3 * 6.0 / 2)
    timeline = step_of(f"{folded} 8/8; interleaved", costs)
    assert [timeline.utilisation(d) for d in devices] == pytest.approx([work_s / (work_s + 9)] * 4)


def test_possible_disturbances_widen_the_interval_and_certain_ones_move_the_step():
    costs = costs_of([2])
    plan, training = Plan.parse("n0.0[0:1] 1/1 | n0.1[0:1] 1/1"), Training(2)
    usual = predict(plan, costs, training)
    sure = predict(plan, costs, training, conditions=Conditions(disturbances=(Disturbance("n0.0", 2.0),)))
    assert sure.step_s == pytest.approx(2 * usual.step_s)
    assert sure.limited_by == "compute on n0.0 (100%)"
    rare = predict(plan, costs, training, conditions=Conditions(disturbances=(Disturbance("n0.0", 2.0, chance=0.2),)))
    assert rare.step_s == usual.step_s
    longer = sum(drawn > 1.5 * usual.step_s for drawn in rare.draws_s) / len(rare.draws_s)
    assert 0.1 < longer < 0.3
    shaky = predict(plan, costs, training, conditions=Conditions(jitter=0.3))
    assert shaky.high_s > usual.high_s
    assert shaky == predict(plan, costs, training, conditions=Conditions(jitter=0.3)), "seeded"
