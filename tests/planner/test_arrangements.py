"""Small problems: what is chosen equals the best of all plans that there are, listed one by one."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from planner_cases import FREE_LINK, arrangements, problems, recurrence, shared, simple_costs

from hetsim.costs import CostModel
from hetsim.errors import InfeasibleError
from hetsim.hardware import Device, DeviceType, Link, Node
from hetsim.memory import memory_use
from hetsim.plan import Plan, Replica
from hetsim.planner import Effort, search
from hetsim.planner.arrangements import Arrangements
from hetsim.scenario.types import Search
from hetsim.workload import Training

COUNTS = (1, 2, 3)
SPACE = Search(
    strategies=("data_parallel", "model_parallel", "pipeline", "hybrid"),
    schedules=("gpipe", "1f1b"),
    microbatches=COUNTS,
    microbatch_samples=(1, 2),
)


def plans(costs, training):
    """Every plan of the searched space."""
    batch = training.global_batch
    for rows in arrangements([device.name for device in costs.cluster.devices], len(costs.chain)):
        for shares in product(range(1, batch + 1), repeat=len(rows)):
            if sum(shares) != batch:
                continue
            counts = [
                [m for m in COUNTS if share % m == 0]
                if len(stages) == 1 or len(rows) == 1
                else [m for m in range(2, share + 1) if share % m == 0 and share // m in SPACE.sizes(batch)]
                for stages, share in zip(rows, shares, strict=True)
            ]
            for chosen in product(*counts):
                replicas = tuple(Replica(*row) for row in zip(rows, shares, chosen, strict=True))
                pipelined = any(replica.is_pipelined for replica in replicas)
                yield from (Plan(replicas, schedule) for schedule in (("gpipe", "1f1b") if pipelined else ("gpipe",)))


def best_of_all(costs, training):
    """The shortest step of all plans; infinite where none fits."""
    evaluate, best_s = shared(costs), float("inf")
    for plan in plans(costs, training):
        if all(use.fits for use in memory_use(plan, costs, training)):
            best_s = min(best_s, evaluate(plan))
    return best_s


def check_best(costs, training):
    best_s = best_of_all(costs, training)
    try:
        found = search(costs, training, SPACE, recurrence(costs), settle=shared(costs), effort=Effort(gap=0.0))
    except InfeasibleError:
        assert best_s == float("inf")
        return
    assert found.chosen.step_s == pytest.approx(best_s, rel=1e-9, abs=1e-8)
    assert found.lower_bound_s <= best_s + 1e-8


@given(problems(most_devices=3, most_layers=5, most_batch=5))
@settings(max_examples=60, deadline=None)
def test_equals_brute_force(case):
    check_best(*case)


@given(problems(most_devices=4, most_layers=3, most_batch=4))
@settings(max_examples=15, deadline=None)
def test_equals_brute_force_on_four_devices(case):
    check_best(*case)


SECONDS = {"a": [0.03, 0.01, 0.02, 0.05, 0.01, 0.01, 0.04, 0.02], "b": [0.02, 0.03, 0.05, 0.04, 0.03, 0.02, 0.05, 0.06]}


@pytest.mark.parametrize("network", [Link("bus", 0.0, 1e30), Link("bus", 0.002, 2e5)], ids=["free", "slow"])
def test_equals_brute_force_on_five_devices_and_eight_layers(network):
    """Plans are passed over whose busiest device alone computes for longer than the step that was chosen."""
    costs = simple_costs(SECONDS, ["a", "b", "a", "b", "b"], link=network, parameters=(2000,), output_bytes_per_sample=500)
    training, evaluate, kind = Training(4), recurrence(costs), costs.cluster.device
    chosen = search(costs, training, SPACE, evaluate, effort=Effort(gap=0.0)).chosen
    seen = 0
    for plan in plans(costs, training):
        busiest_s = max(
            replica.samples * sum(SECONDS[kind(stage.device).type][stage.start : stage.stop])
            for replica in plan.replicas
            for stage in replica.stages
        )
        if busiest_s < chosen.step_s:
            seen += 1
            assert evaluate(plan) >= chosen.step_s - 1e-8, plan
    assert seen > 10


def test_only_few_are_listed():
    many = simple_costs({"a": [0.01] * 8}, ["a"] * 8)
    few = simple_costs({"a": [0.01] * 8}, ["a"] * 3)
    assert not Arrangements(many, Training(8), SPACE).are_few(20_000)
    assert Arrangements(few, Training(8), SPACE).are_few(100), "alike devices are told apart by nothing"
    assert not Arrangements(few, Training(8), SPACE).are_few(10)


def test_a_device_that_nothing_is_priced_on_takes_no_part():
    priced = simple_costs({"a": [0.01] * 4}, ["a"] * 2)
    strange = Device("strange", "x", "host")
    node = replace(priced.cluster.nodes[0], devices=(*priced.cluster.devices, strange))
    types = {**priced.cluster.device_types, "x": DeviceType("x")}
    cluster = replace(priced.cluster, nodes=(node,), device_types=types)
    costs = CostModel(priced.chain, cluster, priced.table)
    chosen = search(costs, Training(4), SPACE, recurrence(costs), effort=Effort(gap=0.0)).chosen
    assert "strange" not in chosen.plan.devices
    assert chosen.step_s == pytest.approx(search(priced, Training(4), SPACE, recurrence(priced)).chosen.step_s)


def test_devices_that_share_cores_are_told_apart():
    """Two of three like devices compute on one core, where each is half as fast while the other computes."""
    costs = simple_costs({"a": [0.01, 0.02]}, ["a"] * 3)
    devices = tuple(replace(device, cores=(place // 2,)) for place, device in enumerate(costs.cluster.devices))
    node = replace(costs.cluster.nodes[0], devices=devices)
    crowded = CostModel(costs.chain, replace(costs.cluster, nodes=(node,)), costs.table)
    assert len(Arrangements(costs, Training(4), SPACE)._sorts) == 1
    assert Arrangements(crowded, Training(4), SPACE)._sorts == [["a0"], ["a1"], ["a2"]]
    check_best(crowded, Training(4))
    evaluate = shared(crowded)
    chosen = search(crowded, Training(4), SPACE, recurrence(crowded), settle=evaluate, effort=Effort(gap=0.0)).chosen
    assert chosen.step_s == pytest.approx(0.06)
    assert "a2" in chosen.plan.devices


def test_rings_of_four_go_round_in_every_order_where_it_matters():
    """Which wires a ring crosses depends on the order of its replicas, from four on and over several nodes."""
    costs = simple_costs({"a": [0.01] * 2}, ["a"] * 5)
    devices = costs.cluster.devices
    homes = (
        Node("one", devices[:2], FREE_LINK),
        Node("two", devices[2:3], FREE_LINK),
        Node("three", devices[3:], FREE_LINK),
    )
    apart = CostModel(costs.chain, replace(costs.cluster, nodes=homes), costs.table)
    plan = Plan.parse("a0[0:1] > a1[1:2] 2/2 | a2[0:2] 2/1 | a3[0:2] 2/1 | a4[0:2] 2/1")
    assert len(list(Arrangements(costs, Training(8), SPACE)._in_orders(plan.replicas))) == 1
    found = list(Arrangements(apart, Training(8), SPACE)._in_orders(plan.replicas))
    assert len(set(found)) == 6
    assert all(set(replicas) == set(plan.replicas) for replicas in found)
    assert len(list(Arrangements(apart, Training(8), SPACE)._in_orders(plan.replicas[:3]))) == 1
