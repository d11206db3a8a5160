"""A small cluster of two device types with prices and power, and its estimator."""

from hetsim.costs import CostTable, LayerCost
from hetsim.economics import Economics, Power, Price
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.scenario.types import NetworkSpec, Scenario, Search
from hetsim.study.estimate import Estimator
from hetsim.workload import Chain, Layer, Training

LINK = Link("pcie", 1e-5, 1e10)
NETWORK = Link("network", 5e-5, 1e9)
LAYERS = 4
BATCH = 12

OLD = DeviceType("old", price=Price(0.0, 3600.0 * 1000), power=Power(100.0, 20.0))
NEW = DeviceType("new", price=Price(1000.0, 3600.0 * 1000), power=Power(200.0, 40.0))


def cluster(old=2, new=1, slots=4, network=NETWORK, old_type=OLD, new_type=NEW):
    nodes = (
        Node("a", tuple(Device(f"old{i}", "old", "a") for i in range(old)), LINK, slots=slots),
        Node("b", tuple(Device(f"new{i}", "new", "b") for i in range(new)), LINK, slots=slots),
    )
    return Cluster(tuple(n for n in nodes if n.devices), {"old": old_type, "new": new_type}, network)


def chain(name="net", parameters=1000):
    return Chain(name, tuple(Layer(f"l{i}", (parameters,), 1000, 4000, 1e6) for i in range(LAYERS)), 1000, 4)


def table(name="net", old_s=0.004, new_s=0.001):
    return CostTable(
        name,
        tuple(
            LayerCost(
                kind, f"l{i}", size, pace * size / 3, pace * size * 2 / 3, update_s=1e-5, spread=0.005, provenance="measured"
            )
            for kind, pace in (("old", old_s), ("new", new_s))
            for i in range(LAYERS)
            for size in range(1, BATCH + 1)
        ),
    )


ECONOMICS = Economics("EUR", 0.2, 1.5)


def estimator(cluster, economics=ECONOMICS, strategies=("data_parallel",), parameters=1000, **paces):
    spec = NetworkSpec("net", Training(BATCH), chain=chain(parameters=parameters))
    scenario = Scenario(
        "small", (spec,), cluster, Search(strategies=strategies, microbatches=(1, 2, 4)), economics=economics
    )
    return Estimator(scenario, {"net": spec.chain}, {"net": table(**paces)})
