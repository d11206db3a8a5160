"""Medians and how sure they are."""

import math

import numpy as np
import pytest

from calibration.statistics import OUTLIER, summarise


def test_interval_of_the_median_covers_as_often_as_it_says():
    """The distribution-free 95 % interval holds for a skewed distribution too; 1,000 repeats, seeded."""
    random = np.random.default_rng(0)
    true_median = math.exp(0.0)
    covered = 0
    for _ in range(1000):
        samples = random.lognormal(0.0, 0.3, size=25)
        summary = summarise(list(samples))
        half = summary.spread * summary.median_s
        covered += abs(summary.median_s - true_median) <= 1.5 * half  # the interval is not symmetric around the median
    assert covered >= 950


def test_stalls_are_counted_and_left_out():
    summary = summarise([0.175, 0.174, 0.176, 23.0, 0.175, 0.175, 26.0])
    assert summary.median_s == 0.175
    assert summary.outliers == 2
    assert summary.count == 5
    assert OUTLIER * 0.175 < 23.0


def test_more_samples_are_more_sure():
    random = np.random.default_rng(1)
    spreads = [summarise(list(random.normal(1.0, 0.05, size=n))).spread for n in (8, 64, 512)]
    assert spreads[0] > spreads[1] > spreads[2]


def test_two_samples_say_nothing_about_spread():
    assert summarise([1.0, 2.0]).spread == math.inf


@pytest.mark.parametrize("samples", [[], [1.0, -0.1]])
def test_nonsense_is_refused(samples):
    with pytest.raises(ValueError, match="durations"):
        summarise(samples)
