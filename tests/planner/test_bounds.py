"""The lower bounds against every plan, as the recurrence predicts it."""

from itertools import combinations, pairwise, permutations, product

import pytest
from hypothesis import given, settings
from planner_cases import problems, recurrence, simple_costs

from hetsim.costs import CostModel, CostTable, TransferCost
from hetsim.hardware import Link
from hetsim.plan import PLAIN_SCHEDULES, Plan, Replica, Stage
from hetsim.planner.batch_split import BatchSplit
from hetsim.planner.bounds import data_parallel_bound_s, lower_bound_s, pipeline_bound_s
from hetsim.planner.layer_split import LayerSplit
from hetsim.planner.pools import pools_of
from hetsim.workload import Training

LONG_S = 1e6


def all_steps(costs, batch, microbatches):
    """The step of every plan of one replica with `microbatches`."""
    names, layers, evaluate = [d.name for d in costs.cluster.devices], len(costs.chain), recurrence(costs)
    for count in range(1, min(len(names), layers) + 1):
        for order in permutations(names, count):
            for inner in combinations(range(1, layers), count - 1):
                cuts = pairwise([0, *inner, layers])
                stages = tuple(Stage(name, a, b) for name, (a, b) in zip(order, cuts, strict=True))
                for schedule in PLAIN_SCHEDULES:
                    yield evaluate(Plan((Replica(stages, batch, microbatches),), schedule))


@given(problems(most_devices=3, most_layers=4, most_batch=4))
@settings(max_examples=50, deadline=None)
def test_no_pipeline_beats_its_bound(case):
    costs, training = case
    for microbatches in (m for m in (1, 2, 4) if training.global_batch % m == 0):
        split = LayerSplit(costs, training, pools_of(costs.cluster, costs.cluster.device_types), microbatches)
        best_s = min(all_steps(costs, training.global_batch, microbatches))
        bound_s = pipeline_bound_s(split, LONG_S)
        assert bound_s <= best_s
        assert pipeline_bound_s(split, bound_s / 2) == bound_s / 2, "a bound is not above the value it is asked below"


@given(problems(most_devices=3, most_layers=3, most_batch=5, limited=False))
@settings(max_examples=50, deadline=None)
def test_no_data_parallel_plan_beats_its_bound(case):
    costs, training = case
    evaluate, names, layers = recurrence(costs), [d.name for d in costs.cluster.devices], len(costs.chain)
    plans = (
        Plan(tuple(Replica((Stage(name, 0, layers),), b) for name, b in zip(names, shares, strict=True) if b))
        for shares in product(range(training.global_batch + 1), repeat=len(names))
        if sum(shares) == training.global_batch
    )
    split = BatchSplit(costs, training, pools_of(costs.cluster, costs.cluster.device_types))
    assert data_parallel_bound_s(split) <= min(map(evaluate, plans))


def test_pipeline_bound_is_the_fill_of_equal_stages_without_links():
    """With P equal stages and M microbatches the step is (M + P - 1) * t, and the bound finds nothing better than uneven ones."""
    costs = simple_costs({"a": [0.001] * 4}, ["a"] * 4)
    split = LayerSplit(costs, Training(16), pools_of(costs.cluster, ["a"]), 16)
    bound_s = pipeline_bound_s(split, LONG_S)
    assert bound_s == pytest.approx(0.019, rel=2e-3)
    assert bound_s <= min(all_steps(costs, 16, 16))


def test_data_parallel_bound_is_reached_unless_groups_were_measured():
    costs = simple_costs({"a": [0.001]}, ["a", "a"], link=Link("slow", 0.01, 1e6), parameters=(1000,))
    training = Training(64)
    split = BatchSplit(costs, training, pools_of(costs.cluster, ["a"]))
    assert data_parallel_bound_s(split) == pytest.approx(recurrence(costs)(split.best()[0].plan), abs=1e-8)
    table = CostTable("net", costs.table.layers, (TransferCost("all_reduce", ("a0", "a1"), 4000, 0.02),))
    measured = CostModel(costs.chain, costs.cluster, table)
    split = BatchSplit(measured, training, pools_of(costs.cluster, ["a"]))
    assert data_parallel_bound_s(split) == pytest.approx(0.032, abs=1e-8)


def test_bound_of_a_search_is_the_smallest_and_never_above_what_was_achieved():
    costs = simple_costs({"a": [0.001] * 4}, ["a"] * 4)
    pools = pools_of(costs.cluster, ["a"])
    batch = [BatchSplit(costs, Training(16), pools)]
    layers = [LayerSplit(costs, Training(16), pools, m) for m in (1, 16)]
    assert lower_bound_s(batch, layers, 1.0) == pytest.approx(0.016, abs=1e-8)
    assert lower_bound_s([], layers, 1.0) == pytest.approx(0.019, rel=2e-3)
    assert lower_bound_s(batch, layers, 0.001) == 0.001


def test_many_types_are_merged_without_losing_the_bound():
    kinds = {f"t{i}": [0.001 * (1 + i / 10)] * 3 for i in range(11)}
    costs = simple_costs(kinds, list(kinds))
    split = LayerSplit(costs, Training(8), pools_of(costs.cluster, list(kinds)), 8)
    best = split.best("gpipe")[0]
    assert 8 * 0.001 < pipeline_bound_s(split, LONG_S) <= recurrence(costs)(best.plan)
