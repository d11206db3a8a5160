"""What to make of repeated timings: the median, how sure it is, which of them are stalls of the machine.

The one home of both for calibration, runs and reports. It needs nothing but the standard library, and is cheap: a calibration
asks after every step, on the very core that it times.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

OUTLIER = 5.0
"""A timing above so many medians is a stall of the machine: kept in the raw samples, left out of the cost."""

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Summary:
    """Of repeated timings in seconds."""

    median_s: float
    spread: float
    """Half the 95 % interval of the median, relative to it; infinite below three timings."""

    count: int
    outliers: int


def summarise(samples_s: Sequence[float]) -> Summary:
    """The median of `samples_s` without outliers, and how sure it is.

    Raises ValueError where there is no sample, or a negative one.
    """
    if not samples_s or min(samples_s) < 0:
        raise ValueError("expected durations, none of them negative")
    limit = OUTLIER * statistics.median(samples_s)
    kept = [float(sample) for sample in samples_s if sample <= limit]
    n, median = len(kept), statistics.median(kept)
    if n < 3 or median == 0:
        return Summary(median, math.inf if n < 3 else 0.0, n, len(samples_s) - n)
    low, high = median_interval(kept)
    return Summary(median, (high - low) / 2 / median, n, len(samples_s) - n)


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """The bootstrap's 95 % interval of the median, from one sample to another; no draws, so the same bytes every time.

    A resample's median lies at or below the i-th smallest sample when half of its n draws or more do, which has probability
    P(Binomial(n, i/n) ≥ n/2): the limit of infinitely many resamples in closed form (Efron 1979, section 3). Of an even number,
    the lower end is that of the lower one of the middle two, the upper end that of the upper one. The percentiles are those
    of Hesterberg 2015, section 5.3, which make up for what the bootstrap is too narrow with few samples. Whatever the
    distribution, the interval from the k-th smallest to the k-th largest misses the median with probability
    2 P(Binomial(n, 1/2) < k). Below six samples it is their whole range.
    Raises ValueError where there is no sample.
    """
    if not samples:
        raise ValueError("expected samples")
    rows = sorted(samples)
    k = _rank(len(rows))
    return rows[k - 1], rows[-k]


@lru_cache
def _rank(n: int) -> int:
    """The k for which the interval runs from the k-th smallest to the k-th largest of n: the largest that the percentile allows."""
    if n < 3:
        return 1
    tail = statistics.NormalDist().cdf(-math.sqrt(n / (n - 1)) * _student(n - 1))
    low, high = 1, (n + 1) // 2
    while low < high:
        k = (low + high + 1) // 2
        low, high = (k, high) if _at_least(n, (k - 1) / n, (n + 1) // 2) <= tail else (low, k - 1)
    return low


def _at_least(n: int, probability: float, k: int) -> float:
    """P(Binomial(n, probability) ≥ k)."""
    if probability == 0:
        return 0.0
    hit, miss = math.log(probability), math.log1p(-probability)
    ways = math.lgamma(n + 1)
    return math.fsum(
        math.exp(ways - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * hit + (n - i) * miss) for i in range(k, n + 1)
    )


def _student(freedom: int) -> float:
    """The upper end of Student's central 95 %: the expansion of Abramowitz and Stegun 1964, 26.7.5, good to 3 % from two on."""
    z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / float(freedom) ** power for power, term in enumerate(terms))
