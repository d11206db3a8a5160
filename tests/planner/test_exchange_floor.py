"""Lower bounds on communication, against the exchanges of plans."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from hetsim.costs import CostModel, CostTable, LayerCost
from hetsim.exchange import BUCKET_BYTES, buckets, fewest_buckets
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.plan import Plan
from hetsim.planner.exchange_floor import ExchangeFloor
from hetsim.simulator import price
from hetsim.workload import Chain, Layer

LAYERS, PER_NODE = 5, 3
QUARTER = BUCKET_BYTES // 4
"""Elements of a bucket that is just full."""

tensors = st.lists(st.sampled_from([1, QUARTER // 3, QUARTER // 2, QUARTER - 1, QUARTER, 2 * QUARTER]), max_size=3)


@st.composite
def exchanging(draw):
    """Two or three replicas, cut anywhere, over nodes with links of their own; and their costs."""
    network = Link("net", draw(st.sampled_from([0.0, 0.3])), draw(st.sampled_from([1e7, 1e8])))
    bus = Link("bus", draw(st.sampled_from([0.0, 0.1, 1.0])), draw(st.sampled_from([1e7, 1e9])))
    names = [f"n{i // PER_NODE}.{i % PER_NODE}" for i in range(9)]
    nodes = tuple(
        Node(node, tuple(Device(name, "t", node) for name in names if name.startswith(node)), bus)
        for node in ("n0", "n1", "n2")
    )
    chain = Chain("net", tuple(Layer(f"l{i}", tuple(draw(tensors))) for i in range(LAYERS)))
    rows = tuple(LayerCost("t", layer.name, 1, 1e-3, 2e-3) for layer in chain.layers)
    costs = CostModel(chain, Cluster(nodes, {"t": DeviceType("t")}, network), CostTable("net", rows))
    free = iter(draw(st.permutations(names)))
    replicas = []
    for _ in range(draw(st.integers(2, 3))):
        inner = draw(st.sets(st.integers(1, LAYERS - 1), max_size=2))
        stages = pairwise([0, *sorted(inner), LAYERS])
        replicas.append(" > ".join(f"{next(free)}[{start}:{stop}]" for start, stop in stages) + " 1/1")
    return Plan.parse(" | ".join(replicas) + "; 1f1b"), costs


@given(exchanging())
@settings(max_examples=300, deadline=None)
def test_what_follows_a_layer_takes_no_less_in_any_plan(case):
    plan, costs = case
    chain, floor = costs.chain, ExchangeFloor(costs)
    every = list(zip(buckets(plan, chain), price(plan, costs).exchange_ns, strict=True))
    for stage in (stage for replica in plan.replicas for stage in replica.stages):
        mine = [(b, ns) for b, ns in every if stage.device in b.segment.devices]
        for stop in range(stage.start + 1, stage.stop + 1):
            after = [ns / 1e9 for bucket, ns in mine if bucket.first_layer < stop]
            fewest = fewest_buckets(chain)[stage.start][stop]
            size_bytes = chain.parameter_bytes(range(stage.start, stop))
            assert len(after) >= fewest
            least_s = float(floor.reduce_s(len(plan.replicas), size_bytes, frozenset({"t"}), fewest))
            assert sum(after) >= least_s - 1e-9 * (1 + len(after))


def test_alike_replicas_have_as_many_as_are_filled():
    chain = Chain("net", (Layer("a", (QUARTER, 1)), Layer("b", (QUARTER // 2,)), Layer("c", (QUARTER // 2, 3 * QUARTER))))
    assert fewest_buckets(chain)[0] == [0, 1, 1, 3]
    assert fewest_buckets(chain)[1] == [0, 0, 1, 2]
