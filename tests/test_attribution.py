"""The causes of an error: reality that differs in one kind of duration alone is told so, and the parts always add up."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetsim.attribution import LEFT, causes
from hetsim.costs import CostModel, CostTable, LayerCost
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.plan import Plan
from hetsim.schedule import Kind, make_schedule
from hetsim.simulator import price, simulate
from hetsim.workload import Chain, Layer

LAYERS = 6
LINK = Link("wire", 1e-4, 1e8)
KINDS = {"fast": DeviceType("fast"), "slow": DeviceType("slow")}
CLUSTER = Cluster((Node("n", (Device("f0", "fast", "n"), Device("s0", "slow", "n")), LINK),), KINDS, LINK)
CHAIN = Chain("net", tuple(Layer(f"l{i}", (50_000,), 20_000, 40_000, 1e6) for i in range(LAYERS)), 10_000, 4)
PLANS = (
    "f0[0:6] 12/1 | s0[0:6] 4/1",
    "f0[0:4] > s0[4:6] 16/4; 1f1b",
    "f0[0:4] > s0[4:6] 16/4; gpipe",
    "f0[0:3] > s0[3:6] 16/1",
)


def table():
    rows = [
        LayerCost(kind, f"l{i}", size, forward_s=0.001 * pace * size, backward_s=0.002 * pace * size, update_s=0.0003)
        for kind, pace in (("fast", 1.0), ("slow", 3.0))
        for i in range(LAYERS)
        for size in (1, 4, 16)
    ]
    return CostTable("net", tuple(rows))


COSTS = CostModel(CHAIN, CLUSTER, table())


def reality(plan, change):
    """The timeline of a world in which the prices are as `change` makes them."""
    return simulate(make_schedule(plan, CHAIN), change(price(plan, COSTS)))


def slower(kind, factor):
    def change(prices):
        compute = {key: round(ns * factor) if key[2] is kind else ns for key, ns in prices.compute_ns.items()}
        changed = replace(prices, compute_ns=compute)
        if kind is not Kind.BACKWARD:
            return changed
        return replace(
            changed,
            first_backward_ns={key: round(ns * factor) for key, ns in prices.first_backward_ns.items()},
            last_backward={
                key: tuple(replace(part, duration_ns=round(part.duration_ns * factor)) for part in parts)
                for key, parts in prices.last_backward.items()
            },
        )

    return change


@pytest.mark.parametrize("text", PLANS)
@pytest.mark.parametrize(("kind", "word"), [(Kind.FORWARD, "forward"), (Kind.BACKWARD, "backward"), (Kind.UPDATE, "update")])
def test_the_one_kind_of_work_that_took_longer_is_the_cause(text, kind, word):
    plan = Plan.parse(text)
    predicted_s = simulate(make_schedule(plan, CHAIN), price(plan, COSTS)).step_s
    measured = reality(plan, slower(kind, 1.3))
    parts = {cause.what: cause.seconds for cause in causes(plan, COSTS, measured)}
    assert parts[word] > 0
    assert parts[word] == pytest.approx(measured.step_s - predicted_s, rel=0.02)
    assert sum(parts.values()) == pytest.approx(measured.step_s - predicted_s)


def test_a_slower_exchange_is_the_cause():
    plan = Plan.parse(PLANS[0])
    predicted_s = simulate(make_schedule(plan, CHAIN), price(plan, COSTS)).step_s

    def change(prices):
        longer = tuple(
            tuple(tuple(replace(flow, transfer_ns=flow.transfer_ns * 3) for flow in phase) for phase in row)
            for row in prices.exchange
        )
        return replace(prices, exchange=longer)

    measured = reality(plan, change)
    parts = {cause.what: cause.seconds for cause in causes(plan, COSTS, measured)}
    assert measured.step_s > predicted_s
    assert parts["gradient exchange"] == pytest.approx(measured.step_s - predicted_s, rel=0.02)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PLANS), st.floats(0.5, 2.0), st.floats(0.5, 2.0), st.floats(0.5, 2.0))
def test_the_parts_always_add_up(text, forward, backward, update):
    plan = Plan.parse(text)

    def change(prices):
        for kind, factor in ((Kind.FORWARD, forward), (Kind.BACKWARD, backward), (Kind.UPDATE, update)):
            prices = slower(kind, factor)(prices)
        return prices

    measured = reality(plan, change)
    predicted_s = simulate(make_schedule(plan, CHAIN), price(plan, COSTS)).step_s
    parts = {cause.what: cause.seconds for cause in causes(plan, COSTS, measured)}
    assert sum(parts.values()) == pytest.approx(measured.step_s - predicted_s, abs=1e-9)
    # Work that is the same for all microbatches leaves nothing unexplained but rounding to nanoseconds.
    assert abs(parts[LEFT]) <= 0.02 * measured.step_s
