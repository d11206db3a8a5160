"""The search for one pipeline: the best of all plans, as the recurrence has it, within what it says."""

import pytest
from hypothesis import given, settings
from planner_cases import problems, recurrence, simple_costs
from test_replica_split import all_plans

from hetsim.costs import CostModel, CostTable
from hetsim.memory import memory_use
from hetsim.plan import PLAIN_SCHEDULES
from hetsim.planner.pipelines import PipelineSearch
from hetsim.planner.watch import Watch
from hetsim.workload import Training


def run(costs, training, counts, schedules=PLAIN_SCHEDULES, gap=0.0, most=10_000):
    """The search, with the best plan that fits and its step; None where there is none."""
    search, evaluate = PipelineSearch(costs, training, counts, schedules), recurrence(costs)
    best = [(float("inf"), None)]
    for proposal in search.run(lambda: best[0][0], gap, most, Watch()):
        if all(use.fits for use in memory_use(proposal.plan, costs, training)):
            best.append((evaluate(proposal.plan), proposal.plan))
            best.sort(key=lambda row: row[0])
    return search, best[0]


@given(problems(most_devices=3, most_layers=4, most_batch=8))
@settings(max_examples=50, deadline=None)
def test_bound_is_under_every_plan_and_the_best_is_within_it(case):
    costs, training = case
    counts = [m for m in (1, 2, 4) if training.global_batch % m == 0]
    search, (best_s, _) = run(costs, training, counts)
    evaluate = recurrence(costs)
    every = [
        evaluate(plan)
        for count in counts
        for schedule in PLAIN_SCHEDULES
        for plan, order, _ in all_plans(costs, training, count, schedule)
        if len(order) > 1
    ]
    least_s = min(every, default=float("inf"))
    assert search.bound_s <= least_s + 1e-7
    assert (best_s == float("inf")) == (not every)
    assert best_s >= least_s - 1e-7


@given(problems(most_devices=4, most_layers=4, most_batch=4, limited=False, nodes=False))
@settings(max_examples=30, deadline=None)
def test_model_parallel_is_near_the_best_of_all(case):
    """With one microbatch nothing overlaps but updates, so what is minimised is nearly the step."""
    costs, training = case
    search, (best_s, _) = run(costs, training, [1], ["gpipe"])
    evaluate = recurrence(costs)
    every = [evaluate(plan) for plan, order, _ in all_plans(costs, training, 1, "gpipe") if len(order) > 1]
    if every:
        updates_s = sum(costs.update_s(d.name, range(len(costs.chain))) for d in costs.cluster.devices)
        overhead_s = max(costs.step_overhead_s(d.name) for d in costs.cluster.devices)
        assert best_s <= min(every) * 1.003 + updates_s + overhead_s
        assert search.bound_s <= min(every) + 1e-7


def test_counts_that_do_not_divide_are_left_out():
    search = PipelineSearch(simple_costs({"a": [0.001] * 3}, ["a"] * 2), Training(12), [1, 5, 6, 8], PLAIN_SCHEDULES)
    assert search.usable == [1, 6]


def test_a_type_without_costs_for_a_layer_gets_others():
    costs = simple_costs({"a": [0.001] * 3, "b": [0.001] * 3}, ["a", "b"])
    rows = tuple(row for row in costs.table.layers if (row.device_type, row.layer) != ("b", "l0"))
    _, (_, plan) = run(CostModel(costs.chain, costs.cluster, CostTable("net", rows)), Training(8), [4])
    assert str(plan).startswith("a0[0:")
    assert "b0[" in str(plan)


def test_it_ends_when_told():
    costs = simple_costs({"a": [0.001] * 6, "b": [0.003] * 6}, ["a", "b"] * 3)
    search, (best_s, _) = run(costs, Training(64), [4, 8, 16], most=3)
    assert search.solved == 3
    assert 0 < search.bound_s <= best_s
    thorough, (better_s, _) = run(costs, Training(64), [4, 8, 16])
    assert better_s <= best_s
    assert search.bound_s <= thorough.bound_s * (1 + 1e-9)


def test_scales_with_speed():
    """A uniform speed-up scales the step of the best pipeline and its bound."""
    slow, quick = (simple_costs({"a": [t] * 6, "b": [3 * t] * 6}, ["a", "b"] * 2) for t in (0.01, 0.005))
    (one, (one_s, _)), (two, (two_s, _)) = (run(costs, Training(16), [8]) for costs in (slow, quick))
    assert one_s == pytest.approx(2 * two_s, rel=1e-6)
    assert one.bound_s == pytest.approx(2 * two.bound_s, rel=1e-2)
