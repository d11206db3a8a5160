"""What the next improvement would be."""

import pytest
from planner_cases import simple_costs

from hetsim.hardware import Link
from hetsim.plan import Plan
from hetsim.planner.sensitivity import sensitivities
from hetsim.simulator import step_s


def gains(costs, text):
    return {row.what: row.gain for row in sensitivities(Plan.parse(text), costs, step_s)}


def test_where_one_device_is_waited_for_it_alone_helps():
    costs = simple_costs({"fast": [0.001], "slow": [0.01]}, ["fast", "slow"])
    found = gains(costs, "fast0[0:1] 8/1 | slow0[0:1] 8/1")
    assert found == pytest.approx({"slow 10 % faster": 0.1, "layer l0 10 % faster": 0.1})


def test_a_link_that_is_waited_for_helps():
    """A tenth of a second of computation, then 100 kB of gradients: with two devices each byte crosses once, at 1 MB/s."""
    costs = simple_costs({"a": [0.1]}, ["a", "a"], link=Link("bus", 0.0, 1e6), parameters=(25_000,))
    found = gains(costs, "a0[0:1] 1/1 | a1[0:1] 1/1")
    assert found["links within nodes twice as fast"] == pytest.approx(0.05 / 0.2)
    assert found["a 10 % faster"] == pytest.approx(0.01 / 0.2)


def test_layers_share_what_all_of_them_gain():
    costs = simple_costs({"a": [0.1, 0.3]}, ["a"])
    found = gains(costs, "a0[0:2] 1/1")
    assert found["layer l0 10 % faster"] + found["layer l1 10 % faster"] == pytest.approx(found["a 10 % faster"])


def test_no_layer_is_left_out_that_helps():
    """Of layers that take long enough to matter every one is asked for, of others none."""
    costs = simple_costs({"a": [0.1] * 3 + [0.0001] * 9, "b": [0.2] * 12}, ["a", "b"])
    plan = Plan.parse("a0[0:11] > b0[11:12] 4/2; 1f1b")
    found = gains(costs, str(plan))
    asked = {name for name in found if name.startswith("layer")}
    assert asked == {f"layer l{number} 10 % faster" for number in (0, 1, 2, 11)}
