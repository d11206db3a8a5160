"""What the timings of a communication operation say of its links: latency, the bandwidth of each regime, and the plateau.

Libraries send short messages otherwise than long ones, so time against size is a chain of straight lines rather than one:
`latency + bytes / bandwidth` with a bandwidth for each regime. The cost model goes on using the measured curve itself, which misses
less between the sizes; this is for people, to hold against datasheets and other hosts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

MOST_REGIMES = 3

LEAST_ERROR = 0.01
"""What medians of timings scatter by at best: a fit that comes closer only follows the noise."""


@dataclass(frozen=True, slots=True)
class Regime:
    """A range of sizes in which each further byte takes as long as the one before."""

    from_bytes: int
    bytes_per_s: float
    """Infinite where further bytes take no time that could be seen."""


@dataclass(frozen=True, slots=True)
class LinkFit:
    """Seconds of an operation by its bytes: the latency, and what the bytes of each regime take; continuous, never falling."""

    latency_s: float
    regimes: tuple[Regime, ...]
    error: float
    """Median distance of the timings from the fit, relative."""

    @property
    def plateau_bytes_per_s(self) -> float:
        """The bandwidth of the largest messages."""
        return self.regimes[-1].bytes_per_s

    def at(self, size_bytes: float) -> float:
        """Seconds for `size_bytes`."""
        ends = [*(regime.from_bytes for regime in self.regimes[1:]), math.inf]
        parts = (
            max(0.0, min(size_bytes, end) - regime.from_bytes) / regime.bytes_per_s
            for regime, end in zip(self.regimes, ends, strict=True)
        )
        return self.latency_s + sum(parts)


def fit_link(points: Sequence[tuple[int, float]]) -> LinkFit:
    """The fit through (bytes, seconds), with as many regimes as the points bear out.

    Of all ways to break at measured sizes the one of least squared relative error (non-negative least squares: Lawson & Hanson
    1974); the number of regimes by the corrected information criterion (Hurvich & Tsai 1989). Raises ValueError where there
    are fewer than two sizes, or one takes no time.
    """
    sizes = sorted({size for size, _ in points})
    if len(sizes) < 2 or min(seconds for _, seconds in points) <= 0:
        raise ValueError("a fit needs two sizes or more, and times above 0")
    best: tuple[float, LinkFit] | None = None
    for count in range(1, MOST_REGIMES + 1):
        candidates = [_fit(points, breaks) for breaks in combinations(sizes[1:-1], count - 1)]
        parameters = 2 * count
        if not candidates or len(points) <= parameters + 1:
            break
        squared, fit = min(candidates, key=lambda row: row[0])
        score = _criterion(max(squared, LEAST_ERROR**2), len(points), parameters)
        if best is None or score < best[0]:
            best = (score, fit)
    return best[1] if best else _fit(points, ())[1]


def _criterion(squared: float, points: int, parameters: int) -> float:
    penalty = 2 * parameters + 2 * parameters * (parameters + 1) / (points - parameters - 1)
    return points * math.log(squared) + penalty


def _fit(points: Sequence[tuple[int, float]], breaks: Sequence[int]) -> tuple[float, LinkFit]:
    """Mean squared relative error, and the fit with regimes from 0 and from each of `breaks`."""
    import numpy as np
    from scipy.optimize import nnls

    starts = [0, *breaks]
    ends = [*breaks, math.inf]
    sizes = np.array([size for size, _ in points], dtype=float)
    seconds = np.array([second for _, second in points])
    bytes_in = [np.clip(sizes, start, end) - start for start, end in zip(starts, ends, strict=True)]
    # Weighted by 1 / seconds, all errors are relative; scaled columns keep the solver well conditioned.
    columns = np.column_stack([np.ones_like(sizes), *bytes_in]) / seconds[:, None]
    scale = np.maximum(np.abs(columns).max(axis=0), 1e-300)
    values = nnls(columns / scale, np.ones_like(seconds))[0] / scale
    regimes = tuple(
        Regime(start, 1 / slope if slope > 0 else math.inf) for start, slope in zip(starts, values[1:], strict=True)
    )
    errors = columns @ values - 1
    fit = LinkFit(float(values[0]), regimes, float(statistics.median(abs(errors))))
    return float(np.mean(errors**2)), fit
