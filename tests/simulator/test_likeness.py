"""Replicas that are alike: one of each class tells what all of them do."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from hetsim.costs import CostModel, CostTable, LayerCost, TransferCost
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.memory import memory_use
from hetsim.plan import Plan
from hetsim.schedule import make_schedule
from hetsim.simulator import price, solve, step_ns
from hetsim.simulator.likeness import representatives
from hetsim.workload import Chain, Layer, Training

LAYERS = 4
KINDS = ("old", "new")


@st.composite
def repeated(draw):
    """A plan whose replicas are copies of a few, on nodes of a few devices, of two types that differ or do not."""
    milliseconds = st.integers(0, 9).map(lambda ms: ms / 1000)
    network = Link("net", draw(milliseconds), draw(st.sampled_from([1e6, 1e9])), draw(st.booleans()))
    width = draw(st.integers(1, 3))
    parameters = tuple(draw(st.lists(st.integers(1, 400_000), max_size=2)))
    chain = Chain("net", tuple(Layer(f"l{i}", parameters, draw(st.integers(0, 10**4))) for i in range(LAYERS)))
    times = {kind: [[draw(milliseconds) for _ in range(4)] for _ in chain.layers] for kind in KINDS}
    if draw(st.booleans()):
        times["new"] = times["old"]  # they differ in what they take beside the layers
    rows = [
        LayerCost(kind, layer.name, 1, *mine)
        for kind in KINDS
        for layer, mine in zip(chain.layers, times[kind], strict=True)
    ]
    posts = [
        TransferCost(operation, (kind,), 10**4, draw(milliseconds))
        for kind in KINDS
        for operation in ("post_send", "post_receive", "bucket", "beside_send", "beside_reduce")
    ]
    replicas, nodes = [], {kind: [] for kind in KINDS}
    for _ in range(draw(st.integers(1, 3))):
        depth = draw(st.integers(1, 3))
        cuts = [0, *sorted(draw(st.permutations(range(1, LAYERS)))[: depth - 1]), LAYERS]
        kinds = draw(st.lists(st.sampled_from(KINDS), min_size=depth, max_size=depth))
        microbatches, size = draw(st.integers(1, 4)), draw(st.integers(1, 2))
        for _ in range(draw(st.integers(1, 4))):
            held = []
            for kind, (start, stop) in zip(kinds, pairwise(cuts), strict=True):
                if not nodes[kind] or len(nodes[kind][-1]) == width:
                    nodes[kind].append([])
                name = f"{kind}{len(nodes[kind])}.{len(nodes[kind][-1])}"
                nodes[kind][-1].append(Device(name, kind, name.split(".")[0]))
                held.append(f"{name}[{start}:{stop}]")
            replicas.append(f"{' > '.join(held)} {microbatches * size}/{microbatches}")
    hosts = [
        Node(devices[0].node, tuple(devices), Link("bus", draw(milliseconds), 1e9))
        for row in nodes.values()
        for devices in row
    ]
    cluster = Cluster(tuple(hosts), {kind: DeviceType(kind) for kind in KINDS}, network)
    order = draw(st.permutations(replicas))
    how = draw(st.sampled_from(["ring", "tree", "hierarchical", f"ps@{hosts[0].name}", "whole ring"]))
    plan = Plan.parse(f"{' | '.join(order)}; {draw(st.sampled_from(['gpipe', '1f1b']))}; {how}")
    return plan, CostModel(chain, cluster, CostTable("net", tuple(rows), tuple(posts)))


@given(repeated())
@settings(max_examples=200, deadline=None)
def test_the_step_by_one_of_each_class_is_the_step_of_all(case):
    plan, costs = case
    prices = price(plan, costs)
    assert step_ns(plan, costs.chain, prices) == solve(make_schedule(plan, costs.chain), prices).step_ns


def test_a_large_plan_has_as_many_classes_as_there_are_unlike_replicas():
    link = Link("net", 1e-5, 1e9)
    nodes = tuple(
        Node(f"n{n}", tuple(Device(f"n{n}.{i}", KINDS[n % 2], f"n{n}") for i in range(4)), link) for n in range(16)
    )
    chain = Chain("net", tuple(Layer(f"l{i}", (1000,), 100) for i in range(LAYERS)))
    rows = tuple(LayerCost(kind, layer.name, 1, 0.1, 0.2) for kind in KINDS for layer in chain.layers)
    costs = CostModel(chain, Cluster(nodes, dict.fromkeys(KINDS, DeviceType("")), link), CostTable("net", rows))
    text = [f"n{2 * n}.{i}[0:2] > n{2 * n + 1}.{i}[2:4] 8/4" for n in range(8) for i in range(4)]
    for replicas, classes in ((text, 1), ([*text[:-1], text[-1].replace("8/4", "8/2")], 2)):
        plan = Plan.parse(" | ".join(replicas) + "; 1f1b")
        assert len(representatives(plan, price(plan, costs)).replicas) == classes


def test_packing_alone_tells_replicas_apart():
    link = Link("net", 0.0, 1e6)
    devices = tuple(Device(f"d{i}", KINDS[i % 2], "n") for i in range(4))
    chain = Chain("net", (Layer("l0", (1000,)),))
    rows = tuple(LayerCost(kind, "l0", 1, 0.1, 0.2) for kind in KINDS)
    packing = (TransferCost("bucket", ("new",), 4000, 0.5),)
    cluster = Cluster((Node("n", devices, link),), dict.fromkeys(KINDS, DeviceType("")), link)
    costs = CostModel(chain, cluster, CostTable("net", rows, packing))
    plan = Plan.parse(" | ".join(f"{device.name}[0:1] 1/1" for device in devices))
    prices = price(plan, costs)
    assert [replica.devices for replica in representatives(plan, prices).replicas] == [("d0",), ("d1",)]
    assert step_ns(plan, chain, prices) == round((0.3 + 0.5 + 6 / 4 * 0.004) * 1e9)


@given(repeated())
@settings(max_examples=60, deadline=None)
def test_what_is_alike_is_priced_as_if_it_were_not(case):
    """A scale may treat each device in its own way, so under one every stage is priced for itself."""
    plan, costs = case
    assert price(plan, costs) == price(plan, costs, lambda _device, estimate: estimate.seconds)


@given(repeated())
@settings(max_examples=60, deadline=None)
def test_the_memory_of_a_plan_is_that_of_its_replicas(case):
    plan, costs = case
    training = Training(plan.global_batch, "adamw")
    alone = [memory_use(Plan((replica,), plan.schedule), costs, training) for replica in plan.replicas]
    assert memory_use(plan, costs, training) == tuple(use for uses in alone for use in uses)
