"""Interleaved stages and exchanges other than rings: found where they help, and never under the bound."""

from dataclasses import replace
from itertools import combinations, pairwise, permutations

import pytest
from hypothesis import given, settings
from planner_cases import problems, recurrence, simple_costs

from hetsim.costs import CostModel
from hetsim.errors import InfeasibleError
from hetsim.hardware import Cluster, Device, Link, Node
from hetsim.memory import memory_use
from hetsim.plan import EXCHANGES, SCHEDULES, Exchange, Plan, Replica, Stage
from hetsim.planner import search
from hetsim.scenario.types import Search
from hetsim.units import format_seconds
from hetsim.workload import Training

ALL = Search(microbatches=(1, 2, 4), schedules=SCHEDULES, exchanges=EXCHANGES)
PLAIN = replace(ALL, schedules=("gpipe", "1f1b"), exchanges=("ring",))


def interleaved(costs, training):
    """Every pipeline of two rounds and more over two devices and more that fits."""
    names, layers = [device.name for device in costs.cluster.devices], len(costs.chain)
    for order in (order for used in range(2, len(names) + 1) for order in permutations(names, used)):
        for rounds in range(2, layers // len(order) + 1):
            stages = len(order) * rounds
            for inner in combinations(range(1, layers), stages - 1):
                cuts = pairwise((0, *inner, layers))
                made = tuple(Stage(order[n % len(order)], a, b) for n, (a, b) in enumerate(cuts))
                for count in (m for m in ALL.microbatches if m > 1 and training.global_batch % m == 0):
                    plan = Plan((Replica(made, training.global_batch, count),), "interleaved")
                    if all(use.fits for use in memory_use(plan, costs, training)):
                        yield plan


@given(problems(most_devices=3, most_layers=5, most_batch=4))
@settings(max_examples=40, deadline=None)
def test_never_worse_than_without_and_never_under_the_bound(case):
    costs, training = case
    evaluate = recurrence(costs)
    try:
        plain, all_of_them = (search(costs, training, space, evaluate) for space in (PLAIN, ALL))
    except InfeasibleError:
        return
    assert all_of_them.chosen.step_s <= plain.chosen.step_s
    assert (
        all_of_them.plain_bound_s == pytest.approx(plain.lower_bound_s, rel=1e-6)
        or plain.lower_bound_s == plain.chosen.step_s
    )
    steps = [evaluate(plan) for plan in interleaved(costs, training)]
    steps += [
        evaluate(replace(row.plan, exchange=Exchange(kind)))
        for row in plain.candidates
        for kind in ("tree", "hierarchical")
        if len(row.plan.replicas) > 1
    ]
    assert all_of_them.lower_bound_s <= min([*steps, all_of_them.chosen.step_s]) * (1 + 1e-9)


@given(problems(most_devices=2, most_layers=6, most_batch=4, nodes=False, limited=False))
@settings(max_examples=25, deadline=None)
def test_two_devices_are_interleaved_as_well_as_can_be(case):
    """In the order of a pipeline that was found, each number of rounds gets the best cut of all."""
    costs, training = case
    evaluate, space = recurrence(costs), replace(ALL, strategies=("pipeline",), exchanges=("ring",))
    try:
        result = search(costs, training, space, evaluate)
    except InfeasibleError:
        return
    seeds = {
        (*row.plan.devices, row.plan.replicas[0].microbatches) for row in result.candidates if row.plan.schedule == "1f1b"
    }
    every = [
        evaluate(plan)
        for plan in interleaved(costs, training)
        if (*plan.devices, plan.replicas[0].microbatches) in seeds and len(plan.replicas[0].stages) <= 4 * len(plan.devices)
    ]
    if every and len(seeds) <= 4:
        assert result.chosen.step_s <= min(every) * (1 + 1e-9)


def test_going_round_fills_the_pipeline():
    """Four equal devices, four microbatches, sixteen layers: the bubble of 3/4 of the work becomes 3/16 in four rounds."""
    costs = simple_costs({"a": [0.001] * 16}, ["a"] * 4)
    space = Search(strategies=("pipeline",), microbatches=(4,))
    plain = search(costs, Training(4), space, recurrence(costs))
    round_and_round = search(costs, Training(4), replace(space, schedules=SCHEDULES), recurrence(costs))
    work_s = 16 * 0.001
    assert plain.chosen.step_s > work_s * (1 + 5 / 8)
    assert round_and_round.chosen.step_s == pytest.approx(work_s * (1 + 3 / 16))
    assert round_and_round.chosen.plan.schedule == "interleaved"
    assert len(round_and_round.chosen.plan.replicas[0].stages) == 16
    assert round_and_round.lower_bound_s == pytest.approx(work_s, rel=1e-4)
    assert 0.0266 < round_and_round.plain_bound_s <= plain.chosen.step_s
    told = f"with one stage a device and rings none takes less than {format_seconds(round_and_round.plain_bound_s)}"
    assert told in " ".join(round_and_round.explanation)


def two_boxes():
    """Two nodes of four devices, quick inside, slow between them."""
    base = simple_costs({"a": [0.01]}, ["a"], parameters=(1_000_000,))
    inside, between = Link("bus", 1e-6, 1e11), Link("network", 1e-3, 1e8)
    nodes = tuple(Node(f"n{n}", tuple(Device(f"a{4 * n + i}", "a", f"n{n}") for i in range(4)), inside) for n in range(2))
    return CostModel(base.chain, Cluster(nodes, base.cluster.device_types, between), base.table)


def test_a_hierarchy_crosses_a_slow_network_less_often():
    costs = two_boxes()
    space = Search(strategies=("data_parallel",), microbatches=(1,))
    ring = search(costs, Training(64), space, recurrence(costs))
    found = search(costs, Training(64), replace(space, exchanges=("ring", "hierarchical")), recurrence(costs))
    assert found.chosen.plan.exchange == Exchange("hierarchical")
    assert found.chosen.name.endswith(", hierarchical")
    assert found.chosen.step_s < ring.chosen.step_s


def test_parameter_servers_are_tried_together_and_alone():
    costs = two_boxes()
    space = Search(strategies=("data_parallel",), microbatches=(1,), exchanges=("ring", "ps"))
    result = search(costs, Training(64), space, recurrence(costs))
    tried = {row.plan.exchange.servers for row in result.candidates if row.plan.exchange.kind == "ps"}
    assert {("n0", "n1"), ("n0",), ("n1",)} <= tried
