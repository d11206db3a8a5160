"""Curves: exact at points, marked elsewhere, sane beyond the ends, and as sure as rough curves allow."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsim.costs import Curve
from hetsim.costs.curve import CurvePoint
from hetsim.costs.shape import PUBLISHED, Affine, grid, roughness

TO_90 = 1.645 / 1.96
points = st.dictionaries(st.integers(1, 1000), st.floats(1e-6, 10), min_size=1, max_size=8).map(
    lambda rows: [(size, seconds, 0.01) for size, seconds in rows.items()]
)


@given(points)
def test_exact_at_its_points(rows):
    curve = Curve.through(rows)
    for size, seconds, spread in rows:
        estimate = curve.at(size)
        assert (estimate.seconds, estimate.spread, estimate.provenance) == (seconds, spread, "measured")


@given(points, st.integers(1, 2000))
def test_between_neighbours_and_never_negative(rows, size):
    curve = Curve.through(rows)
    estimate = curve.at(size)
    assert estimate.seconds > 0
    below = [s for n, s, _ in rows if n <= size]
    above = [s for n, s, _ in rows if n >= size]
    if below and above:
        low, high = (
            max(rows, key=lambda r: (r[0] <= size) * r[0])[1],
            min(rows, key=lambda r: (r[0] < size) * 10**6 + r[0])[1],
        )
        assert min(low, high) * (1 - 1e-9) <= estimate.seconds <= max(low, high) * (1 + 1e-9)
    else:
        assert estimate.provenance == "extrapolated"
        assert estimate.spread > 0.01


@given(points, st.integers(1, 2000), st.integers(1, 2000))
def test_from_one_point_to_the_next_it_does_not_turn_back(rows, one, other):
    curve = Curve.through(rows)
    sizes = sorted(n for n, _, _ in rows)
    for low, high in pairwise(sizes):
        a, b = sorted((min(max(one, low), high), min(max(other, low), high)))
        rise = curve.at(high).seconds - curve.at(low).seconds
        assert (curve.at(b).seconds - curve.at(a).seconds) * rise >= -1e-12 * rise**2 - 1e-300


@given(points, st.floats(1, 3000), st.floats(1, 3000))
def test_beyond_the_ends_more_costs_no_less_and_a_sample_no_more(rows, one, other):
    curve = Curve.through(rows)
    first, last = min(rows)[0], max(rows)[0]
    small, large = sorted((one, other))
    for a, b in ((min(small, first), min(large, first)), (max(small, last), max(large, last))):
        assert curve.at(a).seconds <= curve.at(b).seconds * (1 + 1e-9)
        assert curve.at(b).seconds / b <= curve.at(a).seconds / a * (1 + 1e-9)


@given(st.floats(0, 1), st.floats(1e-6, 1), st.sets(st.integers(1, 1000), min_size=2, max_size=6), st.integers(1, 4000))
def test_a_fixed_part_and_a_part_for_each_sample_are_found_again(fixed, per_sample, sizes, size):
    curve = Curve.through((n, fixed + per_sample * n, 0.0) for n in sizes)
    assert curve.at(size).seconds == pytest.approx(fixed + per_sample * size, rel=1e-6)


@given(points)
def test_straight_from_one_size_of_the_grid_to_the_next(rows):
    """What the planner stands on, which asks for costs at these sizes alone."""
    curve = Curve.through(rows)
    knots = sorted({1, 3000, *grid(1, 3000), *(n for n, _, _ in rows)})
    sizes = range(1, 3001)
    straight = np.interp(sizes, knots, [curve.at(n).seconds for n in knots])
    assert straight == pytest.approx([curve.at(n).seconds for n in sizes], rel=1e-9)


def test_the_grid_holds_powers_of_the_root_of_two():
    assert list(grid(1, 64)) == [2, 3, 4, 6, 8, 11, 16, 23, 32, 45]
    assert list(grid(5, 5)) == list(grid(46, 64)) == []


def test_one_point_is_proportional():
    curve = Curve.through([(8, 2.0, 0.0)], "specified")
    assert curve.at(24).seconds == pytest.approx(6.0)
    assert curve.at(24).provenance == "specified"


def test_a_smaller_batch_is_at_most_as_efficient():
    """Extrapolated down, a steep curve must not fall below proportionality, and must not exceed its first point."""
    steep = Curve.through([(8, 1.0, 0.0), (16, 4.0, 0.0)])
    assert steep.at(4).seconds == pytest.approx(0.5)
    falling = Curve.through([(8, 2.0, 0.0), (16, 1.0, 0.0)])
    assert falling.at(4).seconds == pytest.approx(2.0)
    assert falling.at(32).seconds == pytest.approx(1.0)


def test_a_curve_needs_a_point():
    with pytest.raises(ValueError, match="at least one"):
        Curve.through([])


@pytest.mark.parametrize("seconds", [(0.0, 0.0, 0.0), (0.0, 1.0, 3.0), (5e-324, 1.0, 1e6), (1e6, 1.0, 0.0)])
def test_work_that_takes_no_time_is_no_trouble(seconds):
    curve = Curve.through(zip((4, 8, 16), seconds, (0.0, 0.0, 0.0), strict=True))
    for size in (1, 5, 6, 12, 64):
        assert math.isfinite(curve.at(size).seconds)
        assert curve.at(size).seconds >= 0
    assert curve.at(12).seconds == pytest.approx((seconds[1] + seconds[2]) / 2), "straight: ratios mean nothing"


def test_several_points_of_one_size_become_one():
    curve = Curve.through([CurvePoint(8, 1.0, 0.01), CurvePoint(8, 2.0, 0.03, "transferred"), CurvePoint(16, 3.0)])
    assert curve.at(8).seconds == 1.5
    assert (curve.at(8).spread, curve.at(8).provenance) == (0.03, "transferred")


# --- where a value comes from -------------------------------------------------------------------------------------------


def test_each_point_keeps_its_own_provenance_and_between_two_the_worst_counts():
    given = [(4, "measured"), (8, "measured"), (16, "transferred"), (32, "specified"), (64, "specified")]
    curve = Curve.through(CurvePoint(n, float(n), 0.02, known) for n, known in given)
    assert [curve.at(n).provenance for n, _ in given] == [known for _, known in given]
    assert curve.at(6).provenance == "interpolated"
    assert curve.at(12).provenance == curve.at(24).provenance == "transferred"
    assert curve.at(48).provenance == "interpolated", "specified alone would hide that nobody timed it"
    assert curve.at(2).provenance == curve.at(128).provenance == "extrapolated"


def test_what_somebody_wrote_down_is_taken_at_its_word():
    curve = Curve.through([(4, 1.0, 0.02), (8, 1.5, 0.01), (16, 2.0, 0.02)], "specified")
    assert (curve.at(6).spread, curve.at(6).provenance) == (0.02, "specified")
    assert (curve.at(32).spread, curve.at(32).provenance) == (0.04, "specified")


def test_what_is_counted_has_no_roughness_and_no_bends():
    curve = Curve.through([(4, 100.0, 0.0), (8, 260.0, 0.0), (64, 1000.0, 0.0)], counted=True)
    assert (curve.at(36).seconds, curve.at(36).spread) == (630.0, 0.0)


# --- how sure it is -----------------------------------------------------------------------------------------------------


def test_measured_points_keep_their_spread_others_get_the_roughness():
    curve = Curve.through([(4, 1.0, 0.02), (8, 1.7, 0.01), (16, 2.9, 0.03), (32, 5.6, 0.01)])
    assert curve.at(8).spread == 0.01
    assert curve.at(12).spread == pytest.approx(math.hypot(0.03, curve.roughness))
    assert curve.at(64).spread == pytest.approx(math.hypot(0.01, curve.roughness, PUBLISHED.slope * math.log(2)))
    assert curve.at(2).spread < curve.at(1).spread


def test_roughness_by_hand():
    """A power of the size with its third of five points a tenth too high, where the prior's part is told apart from the points'."""
    sizes, values = (1, 2, 4, 8, 16), [1.0] * 5
    assert roughness(sizes, values) == pytest.approx(PUBLISHED.roughness * math.sqrt(2 / 5))
    values[2] = math.exp(0.1)
    squares = 2 * PUBLISHED.roughness**2 + 4 * (0.05**2 + 0.1**2 + 0.05**2)
    assert roughness(sizes, values) == pytest.approx(math.sqrt(squares / 5))
    assert roughness(sizes[:2], values[:2]) == pytest.approx(PUBLISHED.untested * PUBLISHED.roughness)


def rough_curve(dice, rough, measured):
    """(curve, what it should say by size): a fixed and a proportional part, and at each size a faster or a slower kernel."""
    shape = Affine(1.0, dice.lognormal(-4, 1))
    seconds = {n: shape.at(n) * math.exp(rough * dice.standard_normal()) for n in range(4, 513)}
    sizes = sorted({round(n) for n in np.geomspace(4, 512, measured)})
    others = {int(n): seconds[int(n)] for n in dice.integers(5, 512, 10) if n not in sizes}
    return Curve.through((n, seconds[n], 0.0) for n in sizes), others


@pytest.mark.parametrize("measured", [3, 4, 6, 8])
def test_intervals_cover_on_curves_of_any_roughness(measured):
    """1,000 curves, seeded, whose roughness varies from one to the next about as that of published ones (median 3 %)."""
    dice = np.random.default_rng(7)
    covered = []
    for _ in range(1000):
        curve, others = rough_curve(dice, dice.lognormal(math.log(0.03), 0.7), measured)
        inside = (abs(true_s / curve.at(n).seconds - 1) <= TO_90 * curve.at(n).spread for n, true_s in others.items())
        covered.append(np.mean([*inside]))
    assert np.mean(covered) == pytest.approx(0.90, abs=0.07)


@pytest.mark.parametrize("rough", [0.005, 0.02, 0.08])
def test_many_points_tell_how_rough_a_curve_is(rough):
    """Theory: between two neighbours the error is that of the size itself and the mean of theirs, whose variances add up to 5/3."""
    dice = np.random.default_rng(3)
    found = np.median([rough_curve(dice, rough, 40)[0].roughness for _ in range(50)])
    assert found == pytest.approx(1.96 * math.sqrt(5 / 3) * rough, rel=0.25 if rough > 0.01 else 1.0)
