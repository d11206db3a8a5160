"""The joint search against every hybrid there is, and its parts against listing all that they choose from."""

from dataclasses import replace
from itertools import product
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_cases import arrangements, problems, shared, simple_costs

from hetsim.hardware import Link
from hetsim.memory import memory_use
from hetsim.plan import Plan, Replica
from hetsim.planner.cut_value import value_s
from hetsim.planner.drafting import proposals
from hetsim.planner.hopes import Hopes
from hetsim.planner.hybrid_problem import HybridProblem
from hetsim.planner.joint import JointSearch
from hetsim.planner.known import Known, Others
from hetsim.planner.market import Market
from hetsim.planner.packing import pack
from hetsim.planner.questions import Questions
from hetsim.planner.replica_split import ReplicaSplit
from hetsim.planner.shortest_cut import Cut
from hetsim.planner.teams import SURE
from hetsim.planner.watch import Watch
from hetsim.workload import Training

COUNTS, SIZES = (1, 2), (1, 2)


def run(costs, training, gap=0.0, most=2000):
    """The search, with the best plan that fits and its step; None where there is none."""
    problem = HybridProblem(costs, training, [m for m in SIZES if 2 * m <= training.global_batch], COUNTS)
    search, evaluate = JointSearch(problem), shared(costs)
    best = [(float("inf"), None)]
    if problem.tables and problem.shapes:
        for draft in search.run(lambda: best[0][0], gap, most, Watch()):
            for proposal in proposals(problem, draft, ("1f1b",)):
                if all(use.fits for use in memory_use(proposal.plan, costs, training)):
                    best.append((evaluate(proposal.plan), proposal.plan))
                    best.sort(key=lambda row: row[0])
    return search, best[0]


def all_hybrids(costs, training):
    """Every plan of the searched kind that fits the memory."""
    names = [device.name for device in costs.cluster.devices]
    for rows in arrangements(names, len(costs.chain)):
        if len(rows) < 2 or max(map(len, rows)) < 2:
            continue
        for shares in product(range(1, training.global_batch + 1), repeat=len(rows)):
            if sum(shares) != training.global_batch:
                continue
            counts = [
                [m for m in range(2, share + 1) if share % m == 0 and share // m in SIZES]
                if len(stages) > 1
                else [m for m in COUNTS if share % m == 0]
                for stages, share in zip(rows, shares, strict=True)
            ]
            for chosen in product(*counts):
                replicas = (Replica(*row) for row in zip(rows, shares, chosen, strict=True))
                made = tuple(replicas)
                for plan in (Plan(made, "1f1b"), Plan(made, "gpipe")):
                    if all(use.fits for use in memory_use(plan, costs, training)):
                        yield plan


@given(problems(most_devices=4, most_layers=3, most_batch=6))
@settings(max_examples=40, deadline=None)
def test_bound_is_under_every_hybrid(case):
    costs, training = case
    search, (best_s, plan) = run(costs, training)
    evaluate = shared(costs)
    every = [evaluate(hybrid) for hybrid in all_hybrids(costs, training)]
    if every:
        assert search.bound_s <= min(every) * (1 + 1e-6) + 1e-7
    if plan is not None:
        plan.check(costs.chain, costs.cluster, training.global_batch)
        assert best_s >= min(every) - 1e-7
        assert len(plan.replicas) > 1
        assert plan.is_cut


@given(problems(most_devices=4, most_layers=3, most_batch=6), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_no_part_of_the_bound_rules_out_a_plan(case, chooser):
    """Each part has to allow what a plan does, in the time that its step takes, under all that may be assumed of its replicas."""
    costs, training = case
    problem, evaluate = HybridProblem(costs, training, SIZES, COUNTS), shared(costs)
    every = list(all_hybrids(costs, training)) if problem.shapes else []
    every += [replace(plan, schedule="gpipe") for plan in every]
    for plan in chooser.sample(every, min(12, len(every))):
        if not all(use.fits for use in memory_use(plan, costs, training)):
            continue
        step_s = evaluate(plan) * (1 + 1e-9) + 1e-7
        single = frozenset(costs.cluster.device(r.devices[0]).type for r in plan.replicas if len(r.stages) == 1)
        for others in (Others(2), Others(len(plan.replicas), single)):
            assert problem.longest_exchange_s(others) <= step_s
            for replica in plan.replicas:
                check_allowed(problem, others, replica, step_s)
            check_hoped(problem, others, plan, step_s)


def check_allowed(problem, others, replica, step_s):
    types = [problem.costs.cluster.device(stage.device).type for stage in replica.stages]
    kinds = [[kind.device_type for kind in problem.kinds].index(name) for name in types]
    if len(kinds) == 1:
        assert problem.alone_at_least_s(others)[kinds[0]][replica.samples] <= step_s
        return
    table = next(table for table in problem.tables if table.grid.microbatch == replica.microbatch_samples)
    count, shape = replica.microbatches, tuple(kinds.count(kind) for kind in range(len(problem.kinds)))
    row, cut = problem.shapes.index(shape), Cut(tuple(kinds), (0, *(stage.stop for stage in replica.stages)))
    assert value_s(table.grid, cut, np.array([count]), others.holders, others.single_types)[0] <= step_s
    found = ReplicaSplit(table.grid, count, others.holders, others.single_types).within(shape, step_s)
    assert found.cut is not None or found.low_s < step_s
    spare_s = step_s - problem.last_tensor_s(others)
    assert table.most_microbatches(spare_s)[row] >= count
    assert not table.holdings.too_many(np.array([row]), np.array([count]), spare_s)[0]
    assert table.most_passed(step_s - problem.longest_exchange_s(others))[row] >= count
    assert problem.crossings.most_sent(replica.microbatch_samples, step_s)[row] >= count


def check_hoped(problem, others, plan, step_s):
    """If no more is hoped of shapes than the plan's replicas do, together with single devices they take the batch."""
    most = np.zeros((len(problem.shapes), len(problem.tables)), dtype=np.int64)
    for replica in plan.replicas:
        if len(replica.stages) > 1:
            types = [problem.costs.cluster.device(stage.device).type for stage in replica.stages]
            row = problem.shapes.index(tuple(types.count(kind.device_type) for kind in problem.kinds))
            size = [table.grid.microbatch for table in problem.tables].index(replica.microbatch_samples)
            most[row, size] = max(most[row, size], replica.microbatches)
    market = Market(problem, Known(), others, frozenset(), len(plan.replicas), step_s)
    assert market.hoped(most)[0].most >= problem.training.global_batch * SURE
    ruled_out_s, _ = Hopes(Questions(problem), others, frozenset(), len(plan.replicas), step_s).rule_out(200)
    assert ruled_out_s is None or ruled_out_s < step_s


def test_two_halves_of_a_cluster_that_no_device_of_holds_the_network():
    """Neither device holds the network, a fast and a slow one do together: two such pairs, cut by speed."""
    costs = simple_costs(
        {"fast": [0.001] * 6, "slow": [0.002] * 6},
        ["fast", "slow", "fast", "slow"],
        memory={"fast": 60_000, "slow": 40_000},
        parameters=(1000,),
    )
    _, (best_s, plan) = run(costs, Training(32), gap=0.01)
    assert len(plan.replicas) == 2
    assert [replica.samples for replica in plan.replicas] == [16, 16]
    assert {len(stage.layers) for replica in plan.replicas for stage in replica.stages if "fast" in stage.device} == {4}
    assert best_s == pytest.approx(16 * 0.004, rel=0.1)


def test_exchange_over_a_slow_network_keeps_replicas_few():
    """The more replicas, the more bytes a ring sends; with a slow link two replicas of two stages are worth more than four."""
    slow, quick = (
        simple_costs(
            {"a": [0.01] * 4}, ["a"] * 4, link=Link("bus", 0.0, speed), parameters=(100_000,), output_bytes_per_sample=4
        )
        for speed in (2e6, 1e12)
    )
    _, (_, plan) = run(slow, Training(8), gap=0.01)
    assert len(plan.replicas) == 2
    _, (best_s, _) = run(quick, Training(8), gap=0.01)
    assert best_s == pytest.approx((4 + 1) * 0.02, rel=0.01)  # of four samples through two stages, as beside any others here


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=6),
    st.tuples(st.integers(0, 4), st.integers(0, 5)),
    st.integers(1, 6),
)
@settings(max_examples=200, deadline=None)
@pytest.mark.parametrize("most_states", [1_000, 0])
def test_packing_is_never_under_any_choice(most_states, columns, available, required):
    rows = [(float(c), (a, b)) for c, a, b in columns if a + b]
    if not rows:
        return
    required = min(required, len(rows))
    capacities, usage = np.array([c for c, _ in rows]), np.array([u for _, u in rows], dtype=np.int64)

    def best(column, left, satisfied):
        """The most that columns from `column` on take of what is left, by trying each number of times."""
        if column == len(rows):
            return 0.0 if satisfied else -np.inf
        value, uses = rows[column]
        choices = []
        for times in range(20):
            after = tuple(have - times * need for have, need in zip(left, uses, strict=True))
            if min(after) < 0:
                break
            now = satisfied or (times > 0 and value > 0 and column < required)
            choices.append(times * value + best(column + 1, after, now))
        return max(choices)

    with patch("hetsim.planner.packing.MOST_STATES", most_states):
        found = pack(capacities, usage, available, 100, required)
    most = max(0.0, best(0, available, False))
    assert found.most >= most - 1e-6
    if most_states:
        assert found.most == pytest.approx(most)
    if found.chosen:
        assert (usage[list(found.chosen)].sum(axis=0) <= available).all()
        assert found.chosen[0] < required or any(c < required for c in found.chosen)
        assert capacities[list(found.chosen)].sum() <= found.most + 1e-6


def test_packing_keeps_to_the_number_of_replicas():
    found = pack(np.array([2.0, 1.0]), np.array([[3], [1]]), [9], 2, 2)
    assert found.most <= 4.0 + 1e-9
    assert len(found.chosen) <= 2
