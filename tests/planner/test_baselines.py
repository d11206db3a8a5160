"""The baselines do what their names say, and say which figure of speed they use."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planner_cases import simple_costs

from hetsim.costs import CostModel
from hetsim.planner.baselines import baselines, device_speeds, even_cuts, proportional_cuts, proportional_shares
from hetsim.scenario.types import Search
from hetsim.workload import Chain, Layer, Training


def named_plans(costs, training, search=Search()):  # noqa: B008 (frozen)
    return {row.name: [str(plan) for plan in row.plans] for row in baselines(costs, training, search)}


def with_peaks(costs, peaks):
    types = {name: replace(kind, peak_flops_per_s=peaks[name]) for name, kind in costs.cluster.device_types.items()}
    return CostModel(costs.chain, replace(costs.cluster, device_types=types), costs.table)


def test_all_baselines_of_two_unlike_devices():
    costs = with_peaks(simple_costs({"a": [0.001] * 8, "b": [0.002] * 8}, ["a", "b"]), {"a": 3e12, "b": 1e12})
    plans = named_plans(costs, Training(17), Search(microbatches=(1, 2)))
    assert plans == {
        "even batch split": ["a0[0:8] 9/1 | b0[0:8] 8/1"],
        "batch split by peak FLOP/s": ["a0[0:8] 13/1 | b0[0:8] 4/1"],
        "a alone": ["a0[0:8] 17/1"],
        "b alone": ["b0[0:8] 17/1"],
        "even layer split, model parallel": ["a0[0:4] > b0[4:8] 17/1; gpipe"],
        "layer split by peak FLOP/s, model parallel": ["a0[0:6] > b0[6:8] 17/1; gpipe"],
    }
    pipelines = named_plans(costs, Training(16), Search(("pipeline",), microbatches=(2, 3, 4)))
    assert pipelines["even layer split, pipeline"] == [
        f"a0[0:4] > b0[4:8] 16/{m}; {schedule}" for schedule in ("gpipe", "1f1b") for m in (2, 4)
    ]


def test_speed_is_measured_where_a_peak_is_unknown():
    costs = with_peaks(simple_costs({"a": [0.001], "b": [0.004]}, ["a", "b"]), {"a": 3e12, "b": None})
    speeds = device_speeds(costs, ["a0", "b0"], 8)
    assert speeds.source == "speed at microbatch 1"
    assert speeds.by_device["a0"] == pytest.approx(4 * speeds.by_device["b0"])
    assert named_plans(costs, Training(10))["batch split by speed at microbatch 1"] == ["a0[0:1] 8/1 | b0[0:1] 2/1"]


def test_share_is_cut_into_as_few_microbatches_as_memory_allows():
    costs = simple_costs({"a": [0.001], "b": [0.001]}, ["a", "b"], memory={"a": 900}, saved_bytes_per_sample=100)
    plans = named_plans(costs, Training(64), Search(microbatches=(1, 2, 4, 8)))
    assert plans["even batch split"] == ["a0[0:1] 32/4 | b0[0:1] 32/1"]


def test_devices_without_all_costs_take_no_part():
    costs = simple_costs({"a": [0.001] * 2, "b": [0.001] * 2}, ["a", "b"])
    rows = tuple(row for row in costs.table.layers if (row.device_type, row.layer) != ("b", "l1"))
    assert list(
        named_plans(CostModel(costs.chain, costs.cluster, type(costs.table)("net", rows)), Training(4)).values()
    ) == [
        ["a0[0:2] 4/1"],
        ["a0[0:2] 4/1"],
    ]


@given(st.integers(0, 500), st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
def test_proportional_shares_add_up_and_are_within_one_of_the_proportion(total, weights):
    shares = proportional_shares(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - total * weight / sum(weights)) < 1 + 1e-6


@given(st.lists(st.floats(0, 10), min_size=1, max_size=9), st.data())
def test_proportional_cuts_give_every_stage_a_layer(flops, data):
    weights = data.draw(st.lists(st.floats(0.1, 10), min_size=1, max_size=len(flops)))
    chain = Chain("net", tuple(Layer(f"l{i}", forward_flops_per_sample=f) for i, f in enumerate(flops)))
    cuts = proportional_cuts(chain, weights)
    assert (cuts[0], cuts[-1], len(cuts)) == (0, len(flops), len(weights) + 1)
    assert all(a < b for a, b in pairwise(cuts))


def test_cuts_follow_flops():
    chain = Chain("net", tuple(Layer(f"l{i}", forward_flops_per_sample=f) for i, f in enumerate((6, 1, 1, 1, 3))))
    assert proportional_cuts(chain, [1, 1]) == [0, 1, 5]
    assert proportional_cuts(chain, [3, 1]) == [0, 4, 5]
    assert even_cuts(7, 3) == [0, 3, 5, 7]
