"""The event model by one replica of each class, against the event model of all replicas."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator_cases import repeated, uniform

from hetsim.conditions import Disturbance
from hetsim.exchange import buckets
from hetsim.plan import Plan
from hetsim.schedule import Kind, make_schedule
from hetsim.simulator import price, shared_step_s, simulate
from hetsim.simulator.symmetry import contended, play, quotient


@given(repeated(), st.data())
@settings(max_examples=150, deadline=None)
def test_the_timeline_by_one_of_each_class_is_that_of_all(case, data):
    plan, costs = case
    prices = price(plan, costs)
    slow = data.draw(st.lists(st.sampled_from(plan.devices), max_size=2, unique=True))
    disturbances = [Disturbance(device, 1.5, 0.003 * number, 0.02) for number, device in enumerate(slow)]
    whole = simulate(make_schedule(plan, costs.chain), prices, disturbances)
    assert play(plan, costs.chain, prices, disturbances) == whole
    if not slow and "ps@" not in str(plan):  # which the recurrence lets wait for all
        assert shared_step_s(plan, costs) == whole.step_s


def left(replicas, bandwidth):
    """What is left of a plan on the uniform cluster."""
    costs, _ = uniform(bandwidth)
    plan = Plan.parse(" | ".join(replicas) + "; 1f1b")
    prices = price(plan, costs)
    return quotient(plan, prices, contended(plan, buckets(plan, costs.chain), prices))


@pytest.mark.parametrize("bandwidth", [1e3, 1e15])
def test_equal_replicas_that_share_alike_leave_one(bandwidth):
    one = left(uniform()[1], bandwidth)
    assert len(one.plan.replicas) == 1
    assert [len(devices) for devices in one.twins.values()] == [32, 32]


def test_who_shares_with_fewer_is_of_another_class_where_something_contends():
    """One node has three replicas and the others four: over slow links their messages go faster."""
    replicas = uniform()[1][:-1]
    assert [len(left(replicas, bandwidth).plan.replicas) for bandwidth in (1e15, 1e3)] == [1, 2]


def test_flows_that_press_harder_are_of_another_class():
    """All take the same time alone and the same part of a wire, but one weighs more where they share: it gets more of the wire."""
    costs, replicas = uniform(1e3)
    plan = Plan.parse(" | ".join(replicas) + "; 1f1b")
    prices = price(plan, costs)
    key = ("n0.2", 0, Kind.SEND_F)
    heavier = replace(prices.send[key], bytes_per_s=3 * prices.send[key].bytes_per_s)
    changed = replace(prices, send={**prices.send, key: heavier})
    whole = simulate(make_schedule(plan, costs.chain), changed)
    assert play(plan, costs.chain, changed) == whole
    assert whole != play(plan, costs.chain, prices)
