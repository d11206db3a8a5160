"""How fast the simulator is: `make bench`. Times are of this machine; the table that is worth keeping is in docs/accuracy.md."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
import simpy

from hetsim.costs import CostModel, CostTable, LayerCost
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.plan import Plan
from hetsim.schedule import make_schedule
from hetsim.simulator import price, simulate, solve
from hetsim.simulator.recurrence import program_of, step_ns
from hetsim.workload import Chain, Layer


def pipeline(stages: int, microbatches: int, *, apart: bool) -> tuple[Plan, CostModel]:
    """Unlike stages under 1F1B, one device a node; `apart`: links so wide that nothing shares them for any time."""
    dice = random.Random(1)  # noqa: S311
    names = [f"d{s}" for s in range(stages)]
    network = Link("network", 1e-3, 1e15 if apart else 1e9)
    nodes = tuple(Node(f"n{s}", (Device(name, name, f"n{s}"),), network) for s, name in enumerate(names))
    cluster = Cluster(nodes, {name: DeviceType(name) for name in names}, network)
    chain = Chain("net", tuple(Layer(f"l{s}", (10**6,), 10**6) for s in range(stages)))
    rows = [
        LayerCost(n, layer.name, 1, dice.uniform(0.01, 0.02), dice.uniform(0.02, 0.04))
        for n in names
        for layer in chain.layers
    ]
    text = " > ".join(f"{name}[{s}:{s + 1}]" for s, name in enumerate(names))
    plan = Plan.parse(f"{text} {microbatches}/{microbatches}; 1f1b")
    return plan, CostModel(chain, cluster, CostTable("net", tuple(rows)))


def hybrid() -> tuple[Plan, CostModel]:
    """64 devices of two types in 16 nodes: 8 replicas of 8 stages, two replicas to a node's network link, 16 microbatches."""
    kinds = {"old": DeviceType("old"), "new": DeviceType("new")}
    link = Link("network", 2e-5, 1.25e9)
    devices = [[Device(f"n{n}.{i}", "old" if n % 2 else "new", f"n{n}") for i in range(4)] for n in range(16)]
    cluster = Cluster(tuple(Node(f"n{n}", tuple(row), link) for n, row in enumerate(devices)), kinds, link)
    chain = Chain("net", tuple(Layer(f"l{i}", (10**7,), 4 * 10**6) for i in range(32)))
    rows = [
        LayerCost(k, layer.name, 1, 0.002 * f, 0.004 * f) for k, f in (("old", 2.0), ("new", 1.0)) for layer in chain.layers
    ]
    replicas = []
    for r in range(8):
        held = [devices[(2 * s + r // 4) % 16][r % 4].name for s in range(8)]
        replicas.append(" > ".join(f"{d}[{4 * s}:{4 * s + 4}]" for s, d in enumerate(held)) + " 16/16")
    return Plan.parse(" | ".join(replicas) + "; 1f1b"), CostModel(chain, cluster, CostTable("net", tuple(rows)))


@pytest.mark.parametrize(("stages", "microbatches"), [(16, 128), (32, 256), (64, 1024)])
@pytest.mark.parametrize("apart", [True, False], ids=["alone", "sharing"])
def test_events(benchmark: Any, stages: int, microbatches: int, *, apart: bool) -> None:
    plan, costs = pipeline(stages, microbatches, apart=apart)
    schedule, prices = make_schedule(plan, costs.chain), price(plan, costs)
    timeline = benchmark.pedantic(lambda: simulate(schedule, prices), rounds=3 if stages > 16 else 9)
    benchmark.extra_info["actions"] = len(timeline.spans)
    assert round(timeline.step_s * 1e9) >= solve(schedule, prices).step_ns


@pytest.mark.parametrize(("stages", "microbatches"), [(16, 128), (32, 256), (64, 1024)])
def test_recurrence(benchmark: Any, stages: int, microbatches: int) -> None:
    plan, costs = pipeline(stages, microbatches, apart=True)
    prices = price(plan, costs)
    program_of(plan, costs.chain, prices)  # what is kept for a shape
    assert benchmark(lambda: step_ns(plan, costs.chain, prices)) > 0


def test_a_hybrid_with_contention(benchmark: Any) -> None:
    plan, costs = hybrid()
    schedule, prices = make_schedule(plan, costs.chain), price(plan, costs)
    timeline = benchmark.pedantic(lambda: simulate(schedule, prices), rounds=5)
    benchmark.extra_info["actions"] = len(timeline.spans)
    assert round(timeline.step_s * 1e9) > solve(schedule, prices).step_ns, "something contends"


def test_raw_simpy(benchmark: Any) -> None:
    """What SimPy itself takes for as many events as 16 stages with 128 microbatches have: timeouts, and nothing else."""

    def run() -> None:
        env = simpy.Environment()

        def process() -> Iterator[simpy.Event]:
            for _ in range(14_000 // 16):
                yield env.timeout(1)

        for _ in range(16):
            env.process(process())
        env.run()

    benchmark(run)
