"""Curves: exact at points, marked elsewhere, sane beyond the ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsim.costs import Curve

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
