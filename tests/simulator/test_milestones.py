"""The recurrence replica by replica, against that of the whole plan."""

from hypothesis import given, settings
from simulator_cases import repeated, uniform

from hetsim.plan import Plan
from hetsim.schedule import Kind, make_schedule
from hetsim.simulator import price, solve
from hetsim.simulator.milestones import milestones


@given(repeated())
@settings(max_examples=200, deadline=None)
def test_the_step_and_what_begins_when_are_those_of_the_whole_plan(case):
    plan, costs = case
    prices = price(plan, costs)
    found, whole = milestones(plan, costs.chain, prices), solve(make_schedule(plan, costs.chain), prices)
    begins_ns = {n.action.item: at for n, at in whole.start_ns.items() if n.action.kind is Kind.REDUCE}
    assert found.step_ns == whole.step_ns
    assert found.begins_ns == tuple(begins_ns[bucket] for bucket in sorted(begins_ns))


def test_a_replica_of_another_length_is_solved_anew():
    """What is kept for one depth and number of microbatches is not taken for another."""
    costs, _ = uniform()
    for text in ("n0.0[0:2] > n1.0[2:4] 8/4", "n0.0[0:2] > n1.0[2:4] 8/8", "n0.0[0:1] > n1.0[1:4] 8/4", "n0.0[0:4] 8/4"):
        plan = Plan.parse(f"{text} | n2.0[0:4] 8/4; 1f1b")
        prices = price(plan, costs)
        assert milestones(plan, costs.chain, prices).step_ns == solve(make_schedule(plan, costs.chain), prices).step_ns
