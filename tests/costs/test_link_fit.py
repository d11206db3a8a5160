"""Fits of links: they find what made the timings, and keep to what every link does."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsim.costs.link_fit import LinkFit, Regime, fit_link

SIZES = [1 << n for n in range(10, 27, 2)]


def timings(made, noise=0.0, seed=0):
    random = np.random.default_rng(seed)
    return [(size, made.at(size) * float(random.lognormal(0, noise))) for size in SIZES]


def test_a_plain_link_has_one_regime():
    made = LinkFit(50e-6, (Regime(0, 2e9),), 0.0)
    fit = fit_link(timings(made))
    assert len(fit.regimes) == 1
    assert fit.latency_s == pytest.approx(50e-6)
    assert fit.plateau_bytes_per_s == pytest.approx(2e9)
    assert fit.error < 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_finds_the_regimes_of_a_noisy_link(seed):
    made = LinkFit(20e-6, (Regime(0, 200e6), Regime(1 << 16, 4e9)), 0.0)
    fit = fit_link(timings(made, noise=0.02, seed=seed))
    assert len(fit.regimes) == 2
    assert fit.latency_s == pytest.approx(20e-6, rel=0.1)
    assert fit.regimes[0].bytes_per_s == pytest.approx(200e6, rel=0.1)
    assert fit.regimes[1].from_bytes == 1 << 16
    assert fit.plateau_bytes_per_s == pytest.approx(4e9, rel=0.1)
    assert fit.error < 0.04


@given(st.dictionaries(st.integers(1, 10**9), st.floats(1e-6, 10.0), min_size=2, max_size=9))
def test_a_fit_never_falls_and_has_no_jumps(points):
    fit = fit_link(sorted(points.items()))
    sizes = sorted({0, *points, *(regime.from_bytes for regime in fit.regimes), 2 * 10**9})
    seconds = [fit.at(size) for size in sizes]
    assert all(math.isfinite(value) and value >= 0 for value in seconds)
    assert all(low <= high * (1 + 1e-12) for low, high in pairwise(seconds))
    for regime in fit.regimes[1:]:
        before, there = fit.at(regime.from_bytes - 1), fit.at(regime.from_bytes)
        slowest = 1 / min(r.bytes_per_s for r in fit.regimes)
        assert there - before <= slowest * (1 + 1e-6) + 1e-12


@pytest.mark.parametrize("points", [[], [(1024, 1e-3)], [(1024, 1e-3), (1024, 2e-3)], [(1024, 0.0), (2048, 1e-3)]])
def test_too_little_is_no_fit(points):
    with pytest.raises(ValueError, match=r"two sizes|above 0|empty|arg"):
        fit_link(points)
