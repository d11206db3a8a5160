"""Replicas that are alike: one of each class tells what all of them do."""

from hypothesis import given, settings
from simulator_cases import KINDS, repeated, uniform

from hetsim.costs import CostModel, CostTable, LayerCost, TransferCost
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.memory import memory_use
from hetsim.plan import Plan
from hetsim.schedule import make_schedule
from hetsim.simulator import price, solve, step_ns
from hetsim.simulator.likeness import representatives
from hetsim.workload import Chain, Layer, Training


@given(repeated())
@settings(max_examples=200, deadline=None)
def test_the_step_by_one_of_each_class_is_the_step_of_all(case):
    plan, costs = case
    prices = price(plan, costs)
    assert step_ns(plan, costs.chain, prices) == solve(make_schedule(plan, costs.chain), prices).step_ns


def test_a_large_plan_has_as_many_classes_as_there_are_unlike_replicas():
    costs, texts = uniform()
    for replicas, classes in ((texts, 1), ([*texts[:-1], texts[-1].replace("8/4", "8/2")], 2)):
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
