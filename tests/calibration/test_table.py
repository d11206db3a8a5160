"""From raw samples to costs: medians, the optimizer's share, the step's overhead, the closing test."""

import pytest

from calibration.table import closing, conditions, cost_table
from hetsim.costs import ALONE, CANARY, CONTEXT, CROWD, LOSS, STEP, WORKSPACE

CANARIES = {"fast": [0.002]}


def row(microbatch=8, in_flight=1, *, forward_s=(0.1, 0.1, 0.9), gap_s=0.002, canary_s=0.002, crowded=0, added_s=()):
    """A point of two layers and the loss: three marked steps, and as many whole ones where `in_flight` is 1."""
    layers = {
        "a": {"forward_s": list(forward_s), "backward_s": [0.2] * 3, "update_s": [0.006] * 3},
        "b": {"forward_s": [0.05] * 3, "backward_s": [0.1] * 3, "update_s": [0.002] * 3},
        LOSS: {"forward_s": [0.001] * 3, "backward_s": [0.002] * 3, "update_s": [0.0]},
    }
    marked_s = [f + 0.2 + 0.05 + 0.1 + 0.003 + 0.008 for f in forward_s]
    whole = in_flight == 1
    return {
        "device_type": "fast",
        "fingerprint": {"backend": "cpu"},
        "microbatch": microbatch,
        "in_flight": in_flight,
        "layers": layers,
        "marked_s": marked_s,
        "marked_update_s": [0.008] * 3,
        "whole_s": [m - 0.008 + 0.004 + gap_s for m in marked_s] if whole else [],
        "whole_update_s": [0.004] * 3 if whole else [],
        "accumulation_s": list(added_s),
        "canary_s": [canary_s] * 3,
        "rounds": 3 + crowded,
        "crowded_rounds": crowded,
    }


def costs_of(*rows):
    return {(c.layer, c.in_flight): c for c in cost_table("net", rows, (), CANARIES).layers}


def test_costs_are_medians():
    costs = costs_of(row())
    assert costs["a", 1].forward_s == 0.1
    assert costs["a", 1].backward_s == 0.2
    assert costs[LOSS, 1].forward_s == 0.001
    assert costs["a", 1].samples == 3


def test_marks_are_taken_out_of_an_accelerators_times_and_of_no_processors():
    waiting = row(gap_s=-0.0453)  # a tenth of forward and backward, but in the step with the burst
    crowded = {**row(9, in_flight=2), "fingerprint": {"backend": "cuda"}}
    assert costs_of(waiting)["a", 1].backward_s == 0.2
    costs = costs_of({**waiting, "fingerprint": {"backend": "cuda"}}, crowded)
    assert [costs["a", 1].forward_s, costs["a", 1].backward_s] == pytest.approx([0.1 * 0.9, 0.2 * 0.9], rel=1e-3)
    assert costs["a", 2].backward_s == pytest.approx(0.2 * 0.9, rel=1e-3)
    assert costs["a", 1].update_s == costs_of(waiting)["a", 1].update_s
    slower = costs_of({**row(gap_s=0.002), "fingerprint": {"backend": "cuda"}})
    assert slower["a", 1].backward_s == 0.2


def test_points_at_another_speed_are_brought_to_that_of_the_table():
    slower = row(16, canary_s=0.0025)
    costs = {(c.layer, c.microbatch): c for c in cost_table("net", [row(), slower], (), CANARIES).layers}
    assert costs["a", 8].backward_s == 0.2
    assert costs["a", 16].backward_s == pytest.approx(0.2 * 0.8)
    assert costs[CANARY, 1].forward_s == 0.002


def test_conditions_tell_drift_and_crowding():
    (state,) = conditions([row(), row(16, canary_s=0.0025, crowded=3), row(32, canary_s=0.0019)])
    assert (state.slowest, state.fastest) == pytest.approx((0.25, -0.05))
    assert state.crowded == pytest.approx(3 / 12)


def test_one_optimizer_is_divided_as_many_were():
    costs = costs_of(row())
    assert (costs["a", 1].update_s, costs["b", 1].update_s) == pytest.approx((0.003, 0.001))


def test_adding_to_gradients_is_divided_like_the_optimizer_and_taken_off_where_it_was_timed_along():
    """With few in flight only backwards count that have added to gradients, with many all, of which the first has not."""
    costs = costs_of(row(added_s=(0.02, 0.024, 0.9)), row(4, in_flight=4), row(4, in_flight=8))
    assert (costs["a", 1].accumulate_s, costs["b", 1].accumulate_s) == pytest.approx((0.018, 0.006))
    assert costs[LOSS, 1].accumulate_s == 0.0
    assert costs["a", 1].backward_s == 0.2
    assert costs["a", 4].backward_s == pytest.approx(0.2 - 0.018)
    assert costs["a", 8].backward_s == pytest.approx(0.2 - 7 / 8 * 0.018)


def test_adding_to_gradients_is_not_known_where_no_point_tells():
    assert costs_of(row())["a", 1].accumulate_s is None
    assert costs_of(row(added_s=(-0.1, -0.1)))["a", 1].accumulate_s == 0.0


def test_overhead_of_a_step_is_what_the_parts_do_not_explain_even_when_a_burst_hits_a_pair():
    assert costs_of(row())[STEP, 1].update_s == pytest.approx(0.002)
    assert costs_of(row(gap_s=-0.002))[STEP, 1].update_s == 0.0


def test_closing_test_compares_parts_with_the_whole():
    (test,) = closing([row(), row(4, in_flight=4)])
    assert test.parts_s == pytest.approx(0.1 + 0.2 + 0.05 + 0.1 + 0.003 + 0.004)
    assert test.whole_s == pytest.approx(test.parts_s + 0.002)
    assert test.error == pytest.approx(-0.002 / test.whole_s)
    assert test.marks == pytest.approx(-0.002 / (test.whole_s - 0.004))


def test_an_accelerator_that_marks_hold_up_waits_for_its_host():
    held_up, gpu = row(gap_s=-0.0453), {"fingerprint": {"backend": "cuda"}}
    told = closing([held_up, {**held_up, **gpu}, {**row(gap_s=-0.001), **gpu}])
    assert [test.waits_for_host for test in told] == [False, True, False]


def test_pipelined_points_price_pipelines_alone():
    costs = costs_of(row(), row(4, in_flight=4, forward_s=(0.3, 0.3, 0.3)))
    assert costs["a", 4].forward_s == 0.3
    assert costs["a", 1].forward_s == 0.1
    assert sum(layer == STEP for layer, _ in costs) == 1


def test_what_is_held_beside_the_layers_has_rows_of_its_own():
    held = {"saved_bytes": {"a": 100, "b": 50}, "workspace_bytes": 7, "context_bytes": 1000}
    larger = held | {"workspace_bytes": 9, "context_bytes": 900}
    table = cost_table("net", [row() | held, row(16) | larger], (), CANARIES)
    saved = {(cost.layer, cost.microbatch): cost.saved_bytes for cost in table.layers if cost.saved_bytes is not None}
    assert saved == {
        ("a", 8): 100, ("b", 8): 50, ("a", 16): 100, ("b", 16): 50,
        (WORKSPACE, 8): 7, (WORKSPACE, 16): 9, (CONTEXT, 1): 900,
    }  # fmt: skip


def test_a_step_alone_stands_beside_one_among_others():
    """The canary was twice as slow while the device was timed alone, so its step counts half."""
    alone = {"device_type": "fast", "microbatch": 8, "marked_s": [0.9, 0.9, 0.9], "canary_s": [0.004]}
    (cost,) = (c for c in cost_table("net", [row()], (), CANARIES, [alone]).layers if c.layer == ALONE)
    assert (cost.forward_s, cost.backward_s) == pytest.approx((0.45, 0.461))
    assert cost.spread >= 0.02


def test_a_step_in_the_crowd_stands_beside_one_on_a_core_of_its_own():
    """The median of the rounds' ratios: the machine slowed down in the second round, which both felt."""
    crowd = {
        "device_type": "fast",
        "microbatch": 4,
        "apart_s": [[0.1, 0.1, 0.1], [0.2, 0.2, 0.2], [0.1, 0.1, 0.1]],
        "crowd_s": [[0.11, 0.11, 0.9], [0.23, 0.23, 0.23], [0.12, 0.12, 0.12]],
    }
    (cost,) = (c for c in cost_table("net", [row()], (), CANARIES, (), [crowd]).layers if c.layer == CROWD)
    assert cost.forward_s / cost.backward_s == pytest.approx(1.15)
    assert (cost.microbatch, cost.samples) == (4, 3)
