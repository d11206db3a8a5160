"""Where gradients stay: plans whose step is hardly more than what their case charges for, so that it must not be a bit more."""

from dataclasses import replace

import numpy as np
import pytest
from planner_cases import FREE_LINK, shared, simple_costs

from hetsim.costs import CostModel, CostTable, LayerCost
from hetsim.hardware import Link, Node
from hetsim.plan import Plan
from hetsim.planner.hopes import Hopes
from hetsim.planner.hybrid_problem import HybridProblem
from hetsim.planner.known import Known, Others
from hetsim.planner.market import Market
from hetsim.planner.questions import Questions
from hetsim.planner.stays import Home, Stay
from hetsim.planner.teams import SURE
from hetsim.workload import Chain, Layer, Training

TWO = Home(("a", "a"))
THREE = Home(("a", "a", "a"))


def nodes_of(sizes, parameters, seconds, *, output_bytes=100, bytes_per_s=1000.0):
    """Nodes of so many like devices, called a0 and on through all nodes; by layer its parameters and what a sample takes."""
    costs = simple_costs({"a": [0.0]}, ["a"] * sum(sizes))
    devices, nodes = list(costs.cluster.devices), []
    for number, size in enumerate(sizes):
        rows, devices = devices[:size], devices[size:]
        nodes.append(Node(f"n{number}", tuple(replace(row, node=f"n{number}") for row in rows), FREE_LINK))
    cluster = replace(costs.cluster, nodes=tuple(nodes), network=Link("network", 0.0, bytes_per_s))
    layers = tuple(Layer(f"l{i}", (count,) if count else (), output_bytes, 0) for i, count in enumerate(parameters))
    table = tuple(LayerCost("a", layer.name, 1, s / 3, s * 2 / 3) for layer, s in zip(layers, seconds, strict=True))
    return CostModel(Chain("net", layers), cluster, CostTable("net", table))


def taken(problem, others, stay, step_s, most):
    """Samples that replicas of several stages take in a step, if `most` microbatches of one sample are hoped of each."""
    hoped = np.zeros((len(problem.shapes), len(problem.tables)), dtype=np.int64)
    hoped[:, 0] = most
    alone = frozenset(range(len(problem.kinds)))
    return Market(problem, Known(), others, alone, others.holders, step_s, stay).hoped(hoped)[0].most


@pytest.mark.parametrize("seconds", [(1e-6, 1e-6), (0.3, 1e-6)], ids=["messages", "work"])
def test_what_crosses_and_what_is_computed_in_the_node_is_charged_once(seconds):
    """Two replicas have their first stages in one node. Its link carries all messages; or its two devices compute."""
    batch, stay = 32, Stay(TWO, first=0, last=1)
    costs = nodes_of([2, 2], (1, 0), seconds, bytes_per_s=1000.0 if seconds[0] < 1e-3 else 1e6)
    problem = HybridProblem(costs, Training(batch), [1, 2], (1, 2))
    step_s = shared(costs)(Plan.parse("a0[0:1] > a2[1:2] 16/16 | a1[0:1] > a3[1:2] 16/16; 1f1b"))
    assert stay in problem.crossings.stays.cases(Others(2))
    assert taken(problem, Others(2), stay, step_s, batch // 2) >= batch * SURE
    assert taken(problem, Others(2), stay, 0.85 * step_s, batch) < batch * SURE


def test_gradients_that_all_leave_fill_the_links():
    """Each replica is all in a node of its own: both links carry the gradients of all layers."""
    costs = nodes_of([2, 2], (500, 300), (1e-6, 1e-6))
    problem, stay = HybridProblem(costs, Training(8), [1, 2], (1, 2)), Stay(first=2)
    step_s = shared(costs)(Plan.parse("a0[0:1] > a1[1:2] 4/4 | a2[0:1] > a3[1:2] 4/4; 1f1b"))
    assert 0.99 * step_s <= problem.longest_exchange_s(Others(2, leave=frozenset({"a"})), stay) <= step_s
    assert taken(problem, Others(2, leave=frozenset({"a"})), stay, step_s, 4) >= 8 * SURE


def test_only_layers_larger_than_the_first_that_stays_leave():
    """The first layer stays in a node of three, the second, which is larger, leaves it: one replica is all in it, the other is not.

    The link of that node carries the second layer, and the messages of the replica that is not all in it.
    """
    costs = nodes_of([3, 1], (300, 500), (1e-6, 1e-6), output_bytes=10)
    problem, stay = HybridProblem(costs, Training(8), [1, 2], (1, 2)), Stay(THREE, first=1, last=2)
    step_s = shared(costs)(Plan.parse("a0[0:1] > a3[1:2] 4/4 | a1[0:1] > a2[1:2] 4/4; 1f1b"))
    assert stay in problem.crossings.stays.halves(Stay(THREE, first=0, last=2))
    assert 0.95 * step_s <= problem.longest_exchange_s(Others(2), stay) <= step_s
    assert taken(problem, Others(2), stay, step_s, 4) >= 8 * SURE
    inside = next(
        use
        for use in problem.crossings.homes.uses((0,), np.array([problem.shapes.index((2,))]), stay, THREE, leaving_s=2.0)
        if use.inside
    )
    assert inside.fixed == pytest.approx(np.array([[2.0, 2 / 3 * 2.0, 0.0]]))


def test_a_second_node_takes_a_stage_of_every_replica():
    """Each layer stays in a node, of two devices: one replica of two stages cannot be in both and all in one."""
    costs = nodes_of([2, 2], (500, 300), (1e-6, 1e-6))
    problem, stay = HybridProblem(costs, Training(8), [1, 2], (1, 2)), Stay(TWO, TWO, 0, 2)
    step_s = shared(costs)(Plan.parse("a0[0:1] > a2[1:2] 4/4 | a1[0:1] > a3[1:2] 4/4; 1f1b"))
    assert stay in problem.crossings.stays.cases(Others(2))
    assert taken(problem, Others(2), stay, step_s, 4) >= 8 * SURE
    assert taken(problem, Others(2), stay, 0.6 * step_s, 8) < 8 * SURE
    assert not [use for use in problem.crossings.homes.uses((0,), np.arange(1), stay, TWO, 0.0) if use.inside]


def test_a_case_is_ruled_out_by_a_question_and_the_plan_in_it_is_not():
    batch, stay = 32, Stay(TWO, first=0, last=1)
    costs = nodes_of([2, 2], (1, 0), (1e-6, 1e-6))
    problem = HybridProblem(costs, Training(batch), [1, 2], (1, 2))
    step_s = shared(costs)(Plan.parse("a0[0:1] > a2[1:2] 16/16 | a1[0:1] > a3[1:2] 16/16; 1f1b"))

    def ruled_out_s(step_s):
        return Hopes(Questions(problem), Others(2), frozenset({0}), 2, step_s, stay).rule_out(200)[0]

    assert ruled_out_s(step_s) is None
    assert ruled_out_s(0.85 * step_s) is not None
