"""What goes over the links of nodes: counted by hand, and what follows from it for plans whose replicas share them."""

from dataclasses import replace

import numpy as np
import pytest
from planner_cases import FREE_LINK, shared, simple_costs

from hetsim.costs import CostModel, TransferCost
from hetsim.hardware import Link, Node
from hetsim.plan import Plan
from hetsim.planner import search
from hetsim.planner.hybrid_problem import HybridProblem
from hetsim.planner.joint import JointSearch
from hetsim.planner.known import Known, Others
from hetsim.planner.market import Market
from hetsim.planner.watch import Watch
from hetsim.scenario.types import Search
from hetsim.workload import Training

NETWORK = Link("network", 0.0, 1000.0)  # bytes a second


def two_nodes(*, seconds=0.001, layers=4, parameters=(25,), output_bytes=100, devices=2):
    """Two nodes of `devices` like devices; each layer has 100 bytes of parameters and sends 100 bytes a sample."""
    costs = simple_costs(
        {"a": [seconds] * layers}, ["a"] * (2 * devices), parameters=parameters, output_bytes_per_sample=output_bytes
    )
    rows = costs.cluster.devices
    homes = (("one", rows[:devices]), ("two", rows[devices:]))
    nodes = tuple(Node(name, tuple(replace(row, node=name) for row in mine), FREE_LINK) for name, mine in homes)
    return CostModel(costs.chain, replace(costs.cluster, nodes=nodes, network=NETWORK), costs.table)


def crossings(costs, batch=8):
    problem = HybridProblem(costs, Training(batch), [1, 2], (1, 2))
    return problem, problem.crossings


def test_gradients_are_charged_once_for_all_devices_of_a_node():
    """Four replicas on two nodes of two: each node sends 2 * 3/4 of 400 bytes in 0.6 s, half of which a device is charged for."""
    _, counted = crossings(two_nodes())
    alone = counted.of_alone(0, np.array([0.0, 0.1]), Others(4))
    assert alone == pytest.approx(np.array([[0.3, 0.3], [0.3, 0.35]]), abs=1e-6)
    assert counted.room_s(2.0) == [4.0, 4.0]


def test_two_replicas_may_exchange_within_a_node():
    _, counted = crossings(two_nodes())
    assert not counted.of_alone(0, np.array([0.1]), Others(2)).any()


def test_stages_in_one_node_are_each_charged_for_all_or_their_messages_cross():
    problem, counted = crossings(two_nodes())
    row = problem.shapes.index((2,))
    ways = [(way.fixed_s[list(way.shapes).index(row)], way.sample_s) for way in counted.ways(Others(4)) if row in way.shapes]
    (together, kept), (apart, sent) = ways
    assert together == pytest.approx([0.6, 0.6], abs=1e-6)
    assert kept[0] == 0.0
    assert apart == pytest.approx([0.3, 0.3], abs=1e-6)
    assert sent[0] == pytest.approx(2 * 0.1, abs=1e-6)  # 100 bytes, and as many of gradients back


def test_more_stages_than_a_node_has_devices_send_messages():
    problem, counted = crossings(two_nodes())
    most = counted.most_sent(2, step_s=1.0)
    assert most[problem.shapes.index((3,))] == 5  # of 200 bytes over 1000 bytes a second
    assert most[problem.shapes.index((2,))] > 1000


def test_links_that_were_measured_are_not_counted():
    costs = two_nodes()
    row = TransferCost("send_recv", ("a0", "a2"), 100, 0.001)
    timed = CostModel(costs.chain, costs.cluster, replace(costs.table, transfers=(row,)))
    assert crossings(costs)[1].matter
    assert not crossings(timed)[1].matter
    assert not crossings(timed)[1].room_s(1.0)


def test_what_is_hoped_is_limited_by_the_links():
    """Three or four replicas put 2 * 2/3 of 400 bytes on each device's half of a link, whatever they compute."""
    problem, _ = crossings(two_nodes())
    most = np.full((len(problem.shapes), len(problem.tables)), 8)

    def taken(step_s):
        return Market(problem, Known(), Others(3), frozenset(), 3, step_s).hoped(most)[0].most

    assert taken(0.35) < 8  # three devices' charges: 3 * 0.267 s on two links
    assert taken(0.7) >= 8


def test_the_bound_of_hybrids_knows_that_links_are_shared():
    """Without messages worth the name and hardly any work, three replicas wait for their gradients on the nodes' links."""
    costs, training = two_nodes(seconds=1e-6, output_bytes=1, devices=3), Training(12)
    problem = HybridProblem(costs, training, [1, 2], (1, 2))
    found = JointSearch(problem)
    plan = Plan.parse("a0[0:4] 3/1 | a1[0:4] 3/1 | a3[0:4] 3/1 | a4[0:2] > a5[2:4] 3/3; 1f1b")
    step_s = shared(costs)(plan)
    list(found.run(lambda: step_s, 0.0, 500, Watch()))
    assert found.bound_s <= step_s


def test_the_choice_is_never_under_the_bound_over_slow_links():
    costs = two_nodes(seconds=0.01, devices=3)
    result = search(costs, Training(24), Search(microbatches=(1, 2, 4)), shared(costs))
    assert result.lower_bound_s <= result.chosen.step_s
