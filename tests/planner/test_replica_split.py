"""The exact cut of one replica: against all cuts and orders, the recurrence and the memory model."""

from dataclasses import replace
from itertools import combinations, pairwise, permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from planner_cases import problems, recurrence, simple_costs

from hetsim.hardware import Link
from hetsim.memory import memory_use
from hetsim.plan import PLAIN_SCHEDULES, Plan, Replica, Stage
from hetsim.planner.cut_value import value_s
from hetsim.planner.exchange_floor import ExchangeFloor
from hetsim.planner.kinds import kinds_of
from hetsim.planner.replica_split import NEAR, STAGES_NEAR, ReplicaSplit
from hetsim.planner.shortest_cut import Cut
from hetsim.planner.stage_grid import StageGrid
from hetsim.workload import Training


def grid_of(costs, training, microbatches):
    floor = ExchangeFloor(costs)
    size = training.global_batch // microbatches
    return StageGrid(costs, training, kinds_of(costs), size, floor, pipelined=microbatches > 1)


def cuts(layers, stages):
    for inner in combinations(range(1, layers), stages - 1):
        yield (0, *inner, layers)


def all_plans(costs, training, microbatches, schedule):
    """Every plan of one replica that fits the memory, with the kinds of its stages."""
    kinds = [kind.device_type for kind in kinds_of(costs)]
    names, layers = [d.name for d in costs.cluster.devices], len(costs.chain)
    for stages in range(1, min(len(names), layers) + 1):
        for order in permutations(names, stages):
            for cut in cuts(layers, stages):
                rows = tuple(Stage(name, a, b) for name, (a, b) in zip(order, pairwise(cut), strict=True))
                plan = Plan((Replica(rows, training.global_batch, microbatches),), schedule)
                if all(use.fits for use in memory_use(plan, costs, training)):
                    yield plan, tuple(kinds.index(costs.cluster.device(name).type) for name in order), cut


@given(problems(most_devices=4, most_layers=4, most_batch=8), st.sampled_from([1, 2, 4]), st.sampled_from(PLAIN_SCHEDULES))
@settings(max_examples=40, deadline=None)
def test_no_plan_of_a_shape_is_under_its_bound(case, microbatches, schedule):
    """Against the recurrence of every plan, under either schedule; and a shape without a bound has no plan."""
    costs, training = case
    assume(training.global_batch % microbatches == 0)
    kinds, evaluate = kinds_of(costs), recurrence(costs)
    split = ReplicaSplit(grid_of(costs, training, microbatches), microbatches, schedule=schedule)
    bounds = {}
    for plan, order, _ in all_plans(costs, training, microbatches, schedule):
        if len(order) < 2:
            continue
        shape = tuple(order.count(kind) for kind in range(len(kinds)))
        if shape not in bounds:
            bounds[shape] = split.best(shape).low_s
        assert bounds[shape] <= evaluate(plan) + 1e-7


@given(problems(most_devices=4, most_layers=4, most_batch=8), st.sampled_from([2, 4, 8]))
@settings(max_examples=40, deadline=None)
def test_the_bound_of_1f1b_is_one_of_gpipe_too(case, microbatches):
    """Hybrids are searched under one bound, whatever their schedule; memory aside, which GPipe needs more of."""
    costs, training = case
    assume(training.global_batch % microbatches == 0)
    kinds, evaluate = kinds_of(costs), recurrence(costs)
    grid = grid_of(costs, training, microbatches)
    for plan, order, cut in all_plans(costs, training, microbatches, "gpipe"):
        seconds = value_s(grid, Cut(order, cut), np.array([microbatches]), 1)[0]
        assert seconds <= evaluate(plan) + 1e-7
        if len(order) > 1:
            shape = tuple(order.count(kind) for kind in range(len(kinds)))
            assert ReplicaSplit(grid, microbatches).best(shape).low_s <= evaluate(plan) + 1e-7


def test_the_way_back_of_the_last_microbatch_is_waited_for():
    """A first stage that is a little longer than those behind it: 1F1B takes their forwards and backwards longer than its work.

    The first stage is forward P times, waits for the first microbatch, and works without a rest until its last forward; then it
    waits for the last one, too: M t for itself, and twice 3 t' less the forwards and backwards that fit in between.
    """
    costs = simple_costs({"a": [0.0036, 0.003, 0.003, 0.003]}, ["a"] * 4)
    found = ReplicaSplit(grid_of(costs, Training(16), 16), 16).best((4,))
    plan = Plan((Replica(tuple(Stage(f"a{i}", i, i + 1) for i in range(4)), 16, 16),), "1f1b")
    assert found.cut == Cut((0, 0, 0, 0), (0, 1, 2, 3, 4))
    assert found.high_s == pytest.approx(recurrence(costs)(plan))
    assert found.high_s == pytest.approx((16 - 4 + 1) * 0.0036 + 2 * 3 * 0.003)


def least_values(costs, training, grid, microbatches, holders=1):
    """Shape -> the least value of all its cuts and orders, by listing them."""
    kinds, least = kinds_of(costs), {}
    for _, order, cut in all_plans(costs, training, microbatches, "1f1b"):
        shape = tuple(order.count(kind) for kind in range(len(kinds)))
        seconds = value_s(grid, Cut(order, cut), np.array([microbatches]), holders)[0]
        least[shape] = min(seconds, least.get(shape, np.inf))
    return least


@given(problems(most_devices=4, most_layers=4, most_batch=8, nodes=False), st.sampled_from([2, 4]))
@settings(max_examples=40, deadline=None)
def test_equals_brute_force_over_all_cuts_and_orders(case, microbatches):
    """Where all devices share one node, links depend on nothing but kinds, so all that is minimised can be listed."""
    costs, training = case
    assume(training.global_batch % microbatches == 0)
    grid = grid_of(costs, training, microbatches)
    for shape, expected in least_values(costs, training, grid, microbatches).items():
        if sum(shape) > 1:
            found = ReplicaSplit(grid, microbatches).best(shape)
            assert found.high_s == pytest.approx(value_s(grid, found.cut, np.array([microbatches]), 1)[0])
            assert found.low_s <= expected * (1 + 1e-9) + 1e-12
            assert expected <= found.high_s * (1 + 1e-9) + 1e-12
            assert found.low_s >= expected * (1 - STAGES_NEAR - 2 * NEAR) - 1e-9


@given(problems(most_devices=4, most_layers=5, most_batch=8), st.sampled_from([2, 4, 8]), st.sampled_from([1, 3]))
@settings(max_examples=60, deadline=None)
def test_where_links_differ_no_cut_is_under_the_bound(case, microbatches, holders):
    costs, training = case
    assume(training.global_batch % microbatches == 0)
    grid = grid_of(costs, training, microbatches)
    for shape, expected in least_values(costs, training, grid, microbatches, holders).items():
        if sum(shape) > 1:
            found = ReplicaSplit(grid, microbatches, holders).best(shape)
            assert found.low_s <= expected * (1 + 1e-9) + 1e-12
            assert expected <= found.high_s * (1 + 1e-9) + 1e-12


def test_equal_stages_take_the_fill_of_a_pipeline():
    """With P equal stages and M microbatches on equal devices the step is (M + P - 1) t (Huang et al. 2019, section 2)."""
    costs = simple_costs({"a": [0.001] * 8}, ["a"] * 4)
    found = ReplicaSplit(grid_of(costs, Training(16), 16), 16).best((4,))
    assert found.cut == Cut((0, 0, 0, 0), (0, 2, 4, 6, 8))
    assert found.high_s == pytest.approx(0.001 * 2 * (16 + 4 - 1))
    assert found.low_s >= found.high_s * (1 - 2 * NEAR)


@pytest.mark.parametrize("fast", [1, 2, 4])
def test_layers_go_by_speed(fast):
    """The textbook's K80 and V100: twice as fast, twice the layers."""
    costs = simple_costs({"v100": [0.001] * 12, "k80": [0.002] * 12}, ["v100"] * fast + ["k80"])
    found = ReplicaSplit(grid_of(costs, Training(64), 64), 64).best((fast, 1))
    held = dict.fromkeys((0, 1), 0)
    for kind, (start, stop) in zip(found.cut.kinds, pairwise(found.cut.cuts), strict=True):
        held[kind] += stop - start
    assert held[1] == pytest.approx(12 / (2 * fast + 1), abs=0.7)


def test_slow_link_is_crossed_where_little_is_sent():
    costs = simple_costs({"a": [0.01] * 4}, ["a", "a"], link=Link("bus", 0.0, 1e3), output_bytes_per_sample=100)
    layers = list(costs.chain.layers)
    layers[2] = replace(layers[2], output_bytes_per_sample=1)
    costs.chain = replace(costs.chain, layers=tuple(layers))
    found = ReplicaSplit(grid_of(costs, Training(8), 4), 4).best((2,))
    assert found.cut.cuts == (0, 3, 4)


def test_1f1b_fits_where_gpipe_does_not():
    costs = simple_costs({"a": [0.01] * 2}, ["a", "a"], memory={"a": 2500}, saved_bytes_per_sample=1000)
    grid = grid_of(costs, Training(4), 4)
    assert ReplicaSplit(grid, 4, schedule="gpipe").best((2,)).cut is None
    assert ReplicaSplit(grid, 4).best((2,)).cut == Cut((0, 0), (0, 1, 2))


def test_steps_that_are_not_looked_for_are_the_bound():
    costs = simple_costs({"a": [0.001] * 4}, ["a"] * 2)
    split = ReplicaSplit(grid_of(costs, Training(8), 4), 4)
    step_s = split.best((2,)).high_s
    found = split.best((2,), below_s=0.9 * step_s)
    assert found.low_s >= 0.9 * step_s * (1 - NEAR)
