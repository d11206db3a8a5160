"""The batch split against every possible split, the recurrence, and the textbook."""

from functools import cache
from itertools import product

import pytest
from hypothesis import given, settings
from planner_cases import problems, recurrence, simple_costs

from hetsim.costs import CostModel, CostTable, TransferCost
from hetsim.exchange import buckets
from hetsim.hardware import Link
from hetsim.memory import memory_use
from hetsim.plan import Plan, Replica, Stage
from hetsim.planner.batch_split import BatchSplit
from hetsim.planner.pools import pools_of
from hetsim.workload import Training


def split(costs, training, counts=(1,)):
    return BatchSplit(costs, training, pools_of(costs.cluster, costs.cluster.device_types), counts)


def compositions(total, parts):
    return (shares for shares in product(range(total + 1), repeat=parts) if sum(shares) == total)


def plan_of(names, shares, counts, layers):
    rows = zip(names, shares, counts, strict=True)
    return Plan(tuple(Replica((Stage(name, 0, layers),), b, c) for name, b, c in rows if b))


def step_of_shares(costs, training):
    """Seconds of a step that gives each device its share, in plain loops over one device at a time."""
    chain = costs.chain
    layers = range(len(chain))
    whole = plan_of(("a", "b"), (1, 1), (1, 1), len(chain))
    rows = buckets(whole, chain)

    @cache
    def device_times(name, share):
        """(ready of each bucket, end of backward, update), or None where the memory does not hold the share."""
        alone = plan_of((name,), (share,), (1,), len(chain))
        if not memory_use(alone, costs, training)[0].fits:
            return None
        now = (
            costs.step_overhead_s(name) + costs.loss_forward(name, share).seconds + costs.loss_backward(name, share).seconds
        )
        now += sum(costs.forward(name, layer, share).seconds for layer in layers)
        ready = {}
        for layer in reversed(layers):
            now += costs.backward(name, layer, share).seconds
            ready |= {row.index: now for row in rows if row.first_layer == layer}
        return [ready[i] for i in range(len(rows))], now, costs.update_s(name, layers)

    @cache
    def reduce_s(names, size_bytes):
        return costs.reduce_s(names, size_bytes)

    def step_s(names, shares):
        used = tuple(name for name, share in zip(names, shares, strict=True) if share)
        times = [device_times(name, share) for name, share in zip(names, shares, strict=True) if share]
        if None in times:
            return float("inf")
        done = 0.0
        if len(used) > 1:
            for row in rows:
                done = max(done, *(ready[row.index] for ready, _, _ in times)) + reduce_s(used, row.size_bytes)
        return max(max(end, done) + update for _, end, update in times)

    return step_s


@given(problems(most_devices=4, most_layers=3, most_batch=12))
@settings(max_examples=80, deadline=None)
def test_equals_brute_force_over_all_splits(case):
    costs, training = case
    names = [device.name for device in costs.cluster.devices]
    step_s = step_of_shares(costs, training)
    expected = min(step_s(names, shares) for shares in compositions(training.global_batch, len(names)))
    best = split(costs, training).best()
    if expected == float("inf"):
        assert best == []
        return
    assert best[0].objective_s == pytest.approx(expected, rel=1e-9)
    best[0].plan.check(costs.chain, costs.cluster, training.global_batch)
    assert all(use.fits for use in memory_use(best[0].plan, costs, training))
    assert split(costs, training).smallest_compute_s() <= expected * (1 + 1e-9)


@given(problems(most_devices=3, most_layers=3, most_batch=4))
@settings(max_examples=40, deadline=None)
def test_equals_the_recurrence_over_all_plans_with_microbatches(case):
    costs, training = case
    names = [device.name for device in costs.cluster.devices]
    evaluate = recurrence(costs)
    steps = []
    for shares in compositions(training.global_batch, len(names)):
        for counts in product((1, 2), repeat=len(names)):
            if any(share % count for share, count in zip(shares, counts, strict=True)):
                continue
            plan = plan_of(names, shares, counts, len(costs.chain))
            if all(use.fits for use in memory_use(plan, costs, training)):
                steps.append(evaluate(plan))
    best = split(costs, training, (1, 2)).best()
    assert bool(best) == bool(steps)
    if best:
        assert best[0].objective_s == pytest.approx(min(steps), abs=1e-7)
        assert evaluate(best[0].plan) == pytest.approx(best[0].objective_s, abs=1e-7)


def test_packing_and_what_the_exchange_takes_from_the_backward_beside_it_count_as_in_the_recurrence():
    costs = simple_costs({"a": [0.03, 0.01, 0.02], "b": [0.05, 0.07, 0.01]}, ["a", "b"], parameters=(300_000,))
    taken = tuple(
        TransferCost(operation, (kind,), 1_200_000, seconds)
        for kind, factor in (("a", 1), ("b", 3))
        for operation, seconds in (("bucket", 0.004 * factor), ("beside_reduce", 0.02 * factor))
    )
    costs = CostModel(costs.chain, costs.cluster, CostTable("net", costs.table.layers, taken))
    evaluate = recurrence(costs)
    plans = [plan_of(("a0", "b0"), (8 - share, share), (1, 1), 3) for share in range(9)]
    (best,) = split(costs, Training(8)).best()
    assert best.objective_s == pytest.approx(min(map(evaluate, plans)), abs=1e-7)
    without = CostModel(costs.chain, costs.cluster, CostTable("net", costs.table.layers))
    assert evaluate(best.plan) > recurrence(without)(best.plan) + 0.02


@given(problems(most_devices=4, most_layers=2, most_batch=6))
@settings(max_examples=60, deadline=None)
def test_best_sets_come_in_order_and_are_distinct(case):
    costs, training = case
    found = split(costs, training).best(keep=5)
    assert [row.objective_s for row in found] == sorted(row.objective_s for row in found)
    assert len({row.plan.devices for row in found}) == len(found)
    assert [row.plan for row in found[:1]] == [row.plan for row in split(costs, training).best()]


@pytest.mark.parametrize(
    ("fast", "slow", "batch", "expected"), [(1, 1, 96, (64, 32)), (1, 2, 96, (48, 24, 24)), (2, 1, 100, (40, 40, 20))]
)
def test_twice_as_fast_takes_twice_the_share(fast, slow, batch, expected):
    costs = simple_costs({"a": [0.001, 0.002], "b": [0.002, 0.004]}, ["a"] * fast + ["b"] * slow)
    (best,) = split(costs, Training(batch)).best()
    assert tuple(replica.samples for replica in best.plan.replicas) == expected


def test_device_is_left_out_when_the_exchange_costs_more_than_it_helps():
    costs = simple_costs({"a": [0.001], "b": [0.1]}, ["a", "b"], link=Link("slow", 0.5, 1e6), parameters=(1000,))
    (best,) = split(costs, Training(64)).best()
    assert str(best.plan) == "a0[0:1] 64/1"
    (forced,) = split(costs, Training(64)).best(least=[0, 1])
    assert "b0" in forced.plan.devices
    assert forced.objective_s > best.objective_s


def test_memory_binds_the_share_and_microbatches_lift_the_limit():
    costs = simple_costs({"a": [0.001], "b": [0.004]}, ["a", "b"], memory={"a": 1600}, saved_bytes_per_sample=100)
    (best,) = split(costs, Training(64)).best()
    assert [replica.samples for replica in best.plan.replicas] == [16, 48]
    (best,) = split(costs, Training(64), counts=(1, 2, 4)).best()
    assert str(best.plan) == "a0[0:1] 52/4 | b0[0:1] 12/1"
    assert all(use.fits for use in memory_use(best.plan, costs, Training(64)))


def test_rejections_name_what_binds():
    costs = simple_costs({"a": [0.001], "b": [0.004]}, ["a", "b"], memory={"a": 1600, "b": 800}, saved_bytes_per_sample=100)
    (row,) = split(costs, Training(64)).rejections()
    assert (row.reason, row.count) == ("memory", 3)
    assert row.detail == (
        "a holds at most 16 of 64 samples (more would need 1.66 KiB, it has 1.56 KiB); "
        "b holds at most 8 of 64 samples (more would need 900 B, it has 800 B)"
    )
    assert split(costs, Training(64)).best() == []
