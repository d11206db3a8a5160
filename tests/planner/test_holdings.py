"""What places can hold: never less than a cut that exists, and as much as there is where that is known."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from planner_cases import problems, simple_costs

from hetsim.planner.capacity import shapes_of, size_table
from hetsim.planner.exchange_floor import ExchangeFloor
from hetsim.planner.kinds import kinds_of
from hetsim.planner.replica_split import ReplicaSplit
from hetsim.planner.stage_grid import StageGrid
from hetsim.workload import Training


def table_of(costs, training, microbatches):
    kinds = kinds_of(costs)
    size = training.global_batch // microbatches
    grid = StageGrid(costs, training, kinds, size, ExchangeFloor(costs), pipelined=microbatches > 1)
    shapes = shapes_of([kind.count for kind in kinds], [kind.width for kind in kinds], 4, 1000)
    return grid, shapes, size_table(grid, shapes, np.array([microbatches]))


@given(problems(most_devices=4, most_layers=5, most_batch=8), st.sampled_from([1, 2, 4]), st.floats(0.0, 0.5))
@settings(max_examples=150, deadline=None)
def test_a_cut_that_exists_is_not_ruled_out(case, microbatches, slack):
    costs, training = case
    assume(training.global_batch % microbatches == 0)
    grid, shapes, table = table_of(costs, training, microbatches)
    split = ReplicaSplit(grid, microbatches)
    for row, shape in enumerate(shapes):
        found = split.best(shape)
        if found.cut is not None:
            step_s = found.high_s * (1 + slack)
            assert not table.holdings.too_many(np.array([row]), np.array([microbatches]), step_s)[0]
            assert table.least_s[row, 0] <= found.high_s * (1 + 1e-9)


def test_layers_cannot_be_cut():
    """Five equal layers on two places: one holds three, so a step takes as long as if there were six."""
    costs = simple_costs({"a": [0.001] * 5}, ["a", "a"])
    _, shapes, table = table_of(costs, Training(64), 64)
    row, count = np.array([shapes.index((2,))]), np.array([64])
    shared_s, whole_s = 0.005 + 63 * 0.0025, 0.005 + 63 * 0.003
    assert table.least_s[row[0], 0] <= shared_s
    assert table.holdings.too_many(row, count, whole_s - 0.002)[0]
    assert not table.holdings.too_many(row, count, whole_s)[0]


def test_what_the_memory_does_not_hold_is_ruled_out_at_any_step():
    costs = simple_costs({"a": [0.001] * 4}, ["a", "a"], memory={"a": 2500}, saved_bytes_per_sample=1000)
    _, shapes, table = table_of(costs, Training(4), 4)
    assert table.holdings.too_many(np.array([shapes.index((2,))]), np.array([4]), np.inf)[0]
