"""What devices are worth, and what answers hinge on, where both are known beforehand."""

from dataclasses import replace

import pytest
from study_world import NEW, OLD, cluster, estimator

from hetsim.economics import Economics, Power, Price
from hetsim.errors import InputError
from hetsim.hardware import Link
from hetsim.study.edits import Variant
from hetsim.study.hinges import hinges
from hetsim.study.worth import retirements, worths

FREE = Link("free", 0.0, 1e15)
USELESS = Link("useless", 0.5, 1e3)


def whole(estimates):
    return estimates.estimate(Variant("as it is", estimates.scenario.cluster))


def test_where_talking_is_free_an_old_device_is_worth_its_part_of_the_speed():
    """Two old ones at 4 ms and a new one at 1 ms a layer and sample: 12 samples are cut 2 : 2 : 8, without one of them 2 : 10."""
    estimates = estimator(cluster(network=FREE), economics=Economics())
    old, new = worths(estimates, whole(estimates))
    assert (old.type, old.count, new.type, new.count) == ("old", 2, "new", 1)
    assert old.gain == pytest.approx(10 / 8 - 1, rel=0.01)
    assert new.gain > 1
    assert (old.verdict, new.verdict) == ("keep", "keep")


def test_a_device_that_no_plan_uses_is_to_be_retired():
    estimates = estimator(cluster(network=USELESS), economics=Economics())
    old, new = worths(estimates, whole(estimates))
    assert (old.gain, old.low, old.high, old.verdict) == (0.0, 0.0, 0.0, "retire")
    assert new.verdict == "keep"
    first, *_ = retirements(estimates, whole(estimates), steps=2)
    assert first.type == "old"
    assert first.samples_per_s == pytest.approx(whole(estimates).samples_per_s)


def test_an_old_device_that_costs_more_than_it_brings_is_to_be_retired():
    """It brings a quarter of the speed, and takes ten times the power of the new one."""
    hungry = replace(OLD, power=Power(2000.0, 2000.0))
    estimates = estimator(cluster(network=FREE, old_type=hungry))
    old, new = worths(estimates, whole(estimates))
    assert old.gain > 0.2
    assert (old.verdict, new.verdict) == ("retire", "keep")


def test_the_last_device_is_worth_everything():
    estimates = estimator(cluster(old=0, new=1))
    (only,) = worths(estimates, whole(estimates))
    assert (only.gain, only.verdict) == (float("inf"), "keep")


def test_the_answer_flips_at_the_price_at_which_both_clusters_cost_the_same():
    """Without the old devices the new one trains alone: 48 ms a step; with them 32 ms. An hour costs 1 for the new one, so
    the old ones may cost 0.5 together before they are not worth it."""
    rented = replace(OLD, price=Price(per_h=0.15), power=Power(0.0, 0.0))
    free = replace(NEW, price=Price(per_h=1.0), power=Power(0.0, 0.0))
    here = cluster(network=FREE, old_type=rented, new_type=free)
    estimates = estimator(here, economics=Economics("EUR", 0.0))
    with_s, without_s = (estimates.estimate(v).seconds_per_sample for v in _both(here))
    flips_at = (without_s / with_s - 1) / 0.3
    advantage, rows = hinges(estimates, ["retire node a"])
    assert advantage == pytest.approx(with_s * 1.3 / without_s - 1)
    row = next(row for row in rows if row.name == "price of old")
    assert row.flips_at == pytest.approx(flips_at, rel=0.01)
    assert (row.at_down > 0) == (advantage > 0)
    assert (row.at_up > 0) != (advantage > 0)
    assert [row.swing for row in rows] == sorted((row.swing for row in rows), reverse=True)


def _both(here):
    from hetsim.study.edits import edited

    return Variant("with", here), edited(here, ["retire node a"])


GIVEN = {kind: replace(kind_of, price=Price(0.0, 3600.0)) for kind, kind_of in (("old_type", OLD), ("new_type", NEW))}


def test_where_nothing_costs_anything_the_throughput_decides():
    """Devices that are written off, with power for nothing: 0 for 0 says nothing of which to keep."""
    free = estimator(cluster(network=FREE, **GIVEN), economics=Economics("EUR", 0.0, 1.0))
    unpriced = estimator(cluster(network=FREE), economics=Economics())
    assert whole(free).per_million == 0
    assert [row.verdict for row in worths(free, whole(free))] == [row.verdict for row in worths(unpriced, whole(unpriced))]
    assert retirements(free, whole(free), steps=2) == ()
    now, _ = hinges(free, ["retire old1"])
    assert now == pytest.approx(hinges(unpriced, ["retire old1"])[0])
    assert now < 0


def test_where_the_variant_alone_costs_nothing_no_size_is_made_up():
    dear_new = {**GIVEN, "new_type": NEW}
    estimates = estimator(cluster(network=FREE, **dear_new), economics=Economics("EUR", 0.0, 1.0))
    with pytest.raises(InputError, match="costs nothing any more"):
        hinges(estimates, ["retire new0"])
