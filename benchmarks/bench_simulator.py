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
from hetsim.simulator import least_step_s, milestones, price, shared_step_s, simulate, solve, step_ns
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


def hybrid(devices: int, *, alike: bool = True) -> tuple[Plan, CostModel]:
    """Two types in nodes of four: replicas of 8 stages, four to a node's network link, 16 microbatches each.

    Not `alike`: replica r has 16 + r microbatches, so that no two of them are.
    """
    count = devices // 4
    kinds = {"old": DeviceType("old"), "new": DeviceType("new")}
    link = Link("network", 2e-5, 1.25e9)
    rows = [[Device(f"n{n}.{i}", "old" if n % 2 else "new", f"n{n}") for i in range(4)] for n in range(count)]
    cluster = Cluster(tuple(Node(f"n{n}", tuple(row), link) for n, row in enumerate(rows)), kinds, link)
    chain = Chain("net", tuple(Layer(f"l{i}", (10**7,), 4 * 10**6) for i in range(32)))
    costs = [
        LayerCost(k, layer.name, 1, 0.002 * f, 0.004 * f) for k, f in (("old", 2.0), ("new", 1.0)) for layer in chain.layers
    ]
    replicas = []
    for r in range(devices // 8):
        held = [rows[r // 8 * 16 + 2 * s + r // 4 % 2][r % 4].name for s in range(8)]
        microbatches = 16 if alike else 16 + r
        replicas.append(
            " > ".join(f"{d}[{4 * s}:{4 * s + 4}]" for s, d in enumerate(held)) + f" {microbatches}/{microbatches}"
        )
    return Plan.parse(" | ".join(replicas) + "; 1f1b"), CostModel(chain, cluster, CostTable("net", tuple(costs)))


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
    step_ns(plan, costs.chain, prices)  # what is kept for a shape
    assert benchmark(lambda: step_ns(plan, costs.chain, prices)) > 0


def test_a_hybrid_with_contention(benchmark: Any) -> None:
    plan, costs = hybrid(64)
    schedule, prices = make_schedule(plan, costs.chain), price(plan, costs)
    timeline = benchmark.pedantic(lambda: simulate(schedule, prices), rounds=5)
    benchmark.extra_info["actions"] = len(timeline.spans)
    assert round(timeline.step_s * 1e9) > solve(schedule, prices).step_ns, "something contends"


@pytest.mark.parametrize("alike", [True, False], ids=["alike", "unlike"])
@pytest.mark.parametrize("devices", [128, 512])
def test_least_step(benchmark: Any, devices: int, *, alike: bool) -> None:
    """What a search asks of each plan, for one of a known shape."""
    plan, costs = hybrid(devices, alike=alike)
    assert benchmark(lambda: least_step_s(plan, costs)) > 0


@pytest.mark.parametrize("alike", [True, False], ids=["alike", "unlike"])
@pytest.mark.parametrize("devices", [128, 512])
def test_new_shape(benchmark: Any, devices: int, *, alike: bool) -> None:
    """The same for a shape that is not known."""
    plan, costs = hybrid(devices, alike=alike)
    forget = milestones._programs.clear  # noqa: SLF001 - what is kept is nobody else's business
    assert benchmark.pedantic(lambda: least_step_s(plan, costs), setup=forget, rounds=5) > 0


@pytest.mark.parametrize("alike", [True, False], ids=["alike", "unlike"])
@pytest.mark.parametrize("devices", [128, 512])
def test_shared_step(benchmark: Any, devices: int, *, alike: bool) -> None:
    """What a search asks of the plans that may be the best: by the event model."""
    plan, costs = hybrid(devices, alike=alike)
    step_s = benchmark.pedantic(lambda: shared_step_s(plan, costs), rounds=5 if devices == 128 else 3)
    assert step_s > least_step_s(plan, costs), "something contends"


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
