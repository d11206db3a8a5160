"""Purchases: equal to planning every set, never missing the best, resumed where they were interrupted."""

from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_world import NEW, OLD, cluster, estimator

from hetsim.economics import Power, Price
from hetsim.errors import InputError
from hetsim.hardware import Link, Wire
from hetsim.study.bound import ClusterBound
from hetsim.study.desk import SAME
from hetsim.study.edits import Variant, edited
from hetsim.study.purchases import purchases
from hetsim.study.sets import Limits, all_variants

LIMITS = Limits(3000.0)
KINDS = ("new", "old")
PRICED_OLD = replace(OLD, price=Price(200.0, 3600.0 * 1000))


class Here(Executor):
    """Does at once, in this process, what it is given; after `most` tasks somebody presses Ctrl-C."""

    def __init__(self, most=10**9):
        self.left = most
        self.done = 0

    def submit(self, function, /, *arguments, **keywords):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.done += 1
        future = Future()
        future.set_result(function(*arguments, **keywords))
        return future


def world(**options):
    return estimator(cluster(slots=3, old_type=PRICED_OLD, **options))


def by_brute_force(found):
    rows = [found.estimate(v, interval=False) for v in all_variants(found.scenario.cluster, KINDS, LIMITS)]
    return {row.variant.edits: (row.variant.spent, row.samples_per_s, row.kwh_per_million) for row in rows}


def front_of(rows):
    """Of (price, rate) pairs those that are faster than all that cost no more."""
    front = []
    for spent, rate in sorted(rows, key=lambda row: (row[0], -row[1])):
        if not front or rate > front[-1][1] * (1 + SAME):
            front.append((spent, rate))
    return front


def assert_front(found, every):
    """Both fronts are those of all sets planned; rates that differ by less than SAME are one."""
    for mine, rows in (
        ([(row.spent, row.samples_per_s) for row in found.front], [(spent, rate) for spent, rate, _ in every]),
        (
            [(row.kwh_per_million, row.samples_per_s) for row in found.energy_front],
            [(kwh, rate) for _, rate, kwh in every if kwh is not None],
        ),
    ):
        assert set(mine) <= set(rows), "what is on the front was planned as any other"
        assert mine == front_of(mine)
        for price, rate in rows:
            assert any(p <= price and r >= rate * (1 - SAME) for p, r in mine), (price, rate)


@pytest.mark.parametrize(
    "network", [Link("slow", 1e-3, 1e6), Link("fast", 1e-6, 1e11)], ids=["slow network", "fast network"]
)
def test_the_best_purchase_and_the_front_are_those_of_all_sets_planned(network):
    estimates = world(network=network)
    found, every = purchases(estimates, KINDS, LIMITS, Here()), by_brute_force(estimates)
    assert_front(found, list(every.values()))
    best = max(rate for _, rate, _ in every.values())
    assert found.best.samples_per_s >= best * (1 - SAME)
    assert found.best.spent == min(spent for spent, rate, _ in every.values() if rate >= best * (1 - SAME))
    assert found.considered == len(every) == found.ruled_out + len(found.purchases)


@settings(max_examples=8, deadline=None)
@given(
    st.floats(3e-4, 1e-2),
    st.floats(3e-4, 1e-2),
    st.sampled_from([1e6, 1e8, 1e9, 1e12]),
    st.sampled_from([(100.0, 20.0), (300.0, 10.0), (50.0, 50.0), (20.0, 60.0), None]),
    st.sampled_from([("data_parallel",), ("data_parallel", "pipeline")]),
)
def test_both_fronts_are_those_of_all_sets_planned_whatever_devices_and_links(old_s, new_s, bytes_per_s, power, strategies):
    old = replace(OLD, price=Price(200.0, 3600.0 * 1000), power=power and Power(*power))
    here = cluster(old=1, slots=3, old_type=old, network=Link("network", 5e-5, bytes_per_s))
    estimates = estimator(here, strategies=strategies, parameters=20_000, old_s=old_s, new_s=new_s)
    found = purchases(estimates, KINDS, LIMITS, Here())
    assert_front(found, list(by_brute_force(estimates).values()))


def test_bounds_rule_sets_out():
    """Where talking costs nothing, the bound is near the truth: an old one at nearly the price of a new one is not even planned."""
    dear = replace(OLD, price=Price(900.0, 3600.0 * 1000))
    estimates = estimator(cluster(slots=3, old_type=dear, network=Link("fast", 0.0, 1e15)))
    found = purchases(estimates, KINDS, LIMITS, Here())
    assert found.ruled_out > 0


def test_an_interrupted_search_goes_on_where_it_was(tmp_path):
    estimates, journal = world(), tmp_path / "journal.jsonl"
    first = purchases(estimates, KINDS, LIMITS, Here(most=5), journal=journal)
    assert first.ended_early
    assert len(journal.read_text().splitlines()) == len(first.purchases) == 5
    rest = Here()
    second = purchases(estimates, KINDS, LIMITS, rest, journal=journal)
    whole = purchases(estimates, KINDS, LIMITS, Here())
    assert (second.best, second.front) == (whole.best, whole.front)
    assert rest.done == len(second.purchases) - 5


@pytest.mark.parametrize("narrow", [Limits(1000.0), Limits(3000.0, 600.0)], ids=["less money", "less power"])
def test_what_was_planned_within_wider_limits_is_neither_bought_nor_counted_within_narrower_ones(tmp_path, narrow):
    estimates, journal = world(), tmp_path / "journal.jsonl"
    wide = purchases(estimates, KINDS, LIMITS, Here(), journal=journal)
    again = Here()
    found = purchases(estimates, KINDS, narrow, again, journal=journal)
    fresh = purchases(estimates, KINDS, narrow, Here())
    assert wide.best.spent > narrow.budget or narrow.power_w is not None
    assert len(found.purchases) + found.ruled_out + found.infeasible == found.considered == fresh.considered
    assert max(row.spent for row in found.purchases) <= narrow.budget
    assert (found.best, found.front) == (fresh.best, fresh.front)
    assert again.done <= len(fresh.purchases), "what both allow is taken from the file"


def test_a_line_that_was_cut_off_is_planned_again(tmp_path):
    estimates, journal = world(), tmp_path / "journal.jsonl"
    whole = purchases(estimates, KINDS, LIMITS, Here(), journal=journal, at_once=1)
    text = journal.read_text()
    journal.write_text(text[:-40])
    rest = Here()
    assert purchases(estimates, KINDS, LIMITS, rest, journal=journal, at_once=1) == whole
    assert rest.done == 1
    after = Here()
    assert purchases(estimates, KINDS, LIMITS, after, journal=journal) == whole
    assert after.done == 0, "the new line does not hang on the one that was cut off"


def test_a_cluster_of_wires_can_be_bought_for():
    here = cluster(slots=3, old_type=PRICED_OLD)
    wired = replace(here, wires=(Wire(("a", "b"), here.network),))
    found = purchases(estimator(wired), KINDS, Limits(1000.0), Here())
    assert found.best.spent <= 1000
    assert found.considered > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "pool", [ThreadPoolExecutor(2), ProcessPoolExecutor(2, get_context("spawn"))], ids=["threads", "processes"]
)
def test_any_executor_finds_the_same(pool):
    with pool:
        found = purchases(world(), KINDS, LIMITS, pool)
    here = purchases(world(), KINDS, LIMITS, Here())
    assert (found.best, found.front) == (here.best, here.front)


def test_a_limit_of_power_keeps_what_is_below_it():
    every = list(all_variants(cluster(slots=3, old_type=PRICED_OLD), KINDS, LIMITS))
    frugal = list(all_variants(cluster(slots=3, old_type=PRICED_OLD), KINDS, Limits(3000.0, 600.0)))
    assert 0 < len(frugal) < len(every)
    for variant in frugal:
        assert sum(variant.cluster.device_types[d.type].power.busy_w for d in variant.cluster.devices) <= 600


def test_equal_nodes_are_filled_once():
    """Two equal nodes with two free slots each: {0,0} {1,0} {2,0} {1,1} {2,1} {2,2} of one kind."""
    base = edited(cluster(old=1, new=0, slots=3), ["buy 1 old into new twin"]).cluster
    twins = replace(base, nodes=tuple(replace(node, slots=3) for node in base.nodes))
    assert len(list(all_variants(twins, ("new",), Limits(1e9)))) == 6


@pytest.mark.parametrize(
    ("limits", "kinds", "here", "what"),
    [
        (
            Limits(100.0),
            ("new",),
            cluster(),
            "device type new: costs 1,000 and is the cheapest to be had: a budget of 100 buys nothing",
        ),
        (LIMITS, ("new",), cluster(new_type=replace(NEW, price=None)), "has no purchase price"),
        (LIMITS, ("new",), cluster(slots=None), "has no free slot in any node"),
        (Limits(3000.0, 900.0), ("new",), cluster(new_type=replace(NEW, power=Power())), "the power of new is unknown"),
    ],
)
def test_what_cannot_be_searched_is_told(limits, kinds, here, what):
    with pytest.raises(InputError, match=what):
        list(all_variants(here, kinds, limits))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.floats(1e-4, 1e-2),
    st.floats(1e-4, 1e-2),
    st.sampled_from([("data_parallel",), ("pipeline",), ("hybrid", "pipeline", "data_parallel")]),
)
def test_no_plan_is_under_the_bound(old, new, old_s, new_s, strategies):
    here = cluster(old, new)
    estimates = estimator(here, strategies=strategies, old_s=old_s, new_s=new_s)
    variant = Variant("here", here)
    costs, _ = estimates.costs(variant, estimates.scenario.networks[0])
    bound = ClusterBound(costs, estimates.scenario.networks[0].training, estimates.scenario.search)
    (answer,) = estimates.estimate(variant, interval=False).answers
    assert 0 < bound.step_s(here) <= answer.prediction.step_s
    assert 0 < bound.energy_j(here, bound.step_s(here)) <= answer.bill.energy_j / estimates.scenario.economics.pue


def test_where_talking_decides_the_bound_knows_it():
    """A network that takes longer than any work: the best split lies within a node, and the bound is within a hundredth of it."""
    here = cluster(4, 3, network=Link("slow", 1e-3, 1e7))
    estimates = estimator(here, parameters=1_000_000)
    variant = Variant("here", here)
    costs, _ = estimates.costs(variant, estimates.scenario.networks[0])
    step_s = estimates.estimate(variant, interval=False).answers[0].prediction.step_s
    bound_s = ClusterBound(costs, estimates.scenario.networks[0].training, estimates.scenario.search).step_s(here)
    assert step_s * 0.99 < bound_s <= step_s
