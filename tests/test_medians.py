"""Medians and how sure they are: against Monte Carlo, scipy's bootstrap and the theory of order statistics."""

import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, bootstrap
from scipy.stats import t as student

from hetsim.medians import OUTLIER, median_interval, summarise


def rank(n):
    """With the samples 1..n the interval's ends are their own ranks."""
    low, high = median_interval(range(1, n + 1))
    assert low + high == n + 1
    return low


def percentile(n):
    """The lower percentile of the bootstrap, widened for few samples as Hesterberg does."""
    return statistics.NormalDist().cdf(math.sqrt(n / (n - 1)) * student.ppf(0.025, n - 1))


@given(st.integers(6, 400))
def test_the_ends_are_those_percentiles_of_the_resampled_medians(n):
    """scipy's binomial in place of our own: fewer than the percentile below the end, and not fewer below the next sample."""
    k, half = rank(n), (n + 1) // 2
    assert binom.sf(half - 1, n, (k - 1) / n) <= percentile(n) * 1.001 + 1e-9
    assert binom.sf(half - 1, n, k / n) >= percentile(n) * 0.999


@pytest.mark.parametrize("n", [9, 15, 25, 61])
def test_it_is_what_scipys_bootstrap_comes_to(n):
    samples = np.random.default_rng(n).lognormal(0, 0.3, n)
    drawn = bootstrap(
        (samples,), np.median, confidence_level=1 - 2 * percentile(n), n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    ranked = sorted(samples)
    low, high = (ranked.index(end) for end in median_interval(samples.tolist()))
    assert ranked[max(low - 1, 0)] <= drawn.low <= ranked[low + 1]
    assert ranked[high - 1] <= drawn.high <= ranked[min(high + 1, n - 1)]
    if n == 25:  # the percentile is far from the border between two samples there
        assert (drawn.low, drawn.high) == pytest.approx(median_interval(samples.tolist()))


@given(st.integers(1, 400))
def test_the_interval_covers_as_theory_wants_from_six_samples_on(n):
    """The narrowest interval between order statistics that covers 95 %, whatever the distribution: at most one rank away."""
    narrowest = next(k for k in range(n) if 2 * binom.cdf(k, n, 0.5) > 0.05)
    assert abs(rank(n) - max(narrowest, 1)) <= 1
    if n >= 6:
        assert 1 - 2 * binom.cdf(rank(n) - 1, n, 0.5) >= 0.93


def test_the_interval_covers_the_median_of_a_skewed_distribution_as_often_as_theory_says():
    draw = random.Random(5)
    covered = sum(
        low <= 1.0 <= high
        for low, high in (median_interval([draw.lognormvariate(0, 1) for _ in range(25)]) for _ in range(2000))
    )
    theory = 1 - 2 * binom.cdf(7, 25, 0.5)  # the 8th of 25 on either side
    assert covered / 2000 == pytest.approx(theory, abs=4 * (theory * (1 - theory) / 2000) ** 0.5)


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60))
def test_the_interval_holds_the_median_and_depends_on_no_order_and_no_chance(samples):
    low, high = median_interval(samples)
    assert low <= statistics.median(samples) <= high
    assert median_interval(samples[::-1]) == (low, high)


def test_stalls_are_counted_and_left_out():
    summary = summarise([0.175, 0.174, 0.176, 23.0, 0.175, 0.175, 26.0])
    assert summary.median_s == 0.175
    assert summary.outliers == 2
    assert summary.count == 5
    assert OUTLIER * 0.175 < 23.0


def test_more_samples_are_more_sure():
    draw = np.random.default_rng(1)
    spreads = [summarise(draw.normal(1.0, 0.05, size=n).tolist()).spread for n in (8, 64, 512)]
    assert spreads[0] > spreads[1] > spreads[2]
    # Of a normal sample the median's standard deviation is √(π/2n) of theirs (David & Nagaraja, Order Statistics, section 2.5).
    assert spreads[2] == pytest.approx(1.96 * math.sqrt(math.pi / 2 / 512) * 0.05, rel=0.25)


def test_two_samples_say_nothing_about_spread():
    assert summarise([1.0, 2.0]).spread == math.inf


def test_a_median_of_nothing_has_no_spread():
    assert summarise([0.0, 0.0, 0.0]).spread == 0.0


@pytest.mark.parametrize("samples", [[], [1.0, -0.1]])
def test_nonsense_is_refused(samples):
    with pytest.raises(ValueError, match="durations"):
        summarise(samples)


def test_no_samples_have_no_interval():
    with pytest.raises(ValueError, match="samples"):
        median_interval([])
