"""What to make of repeated timings: the median, how sure it is, and whether more would help."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

OUTLIER = 5.0
"""A timing above so many medians is a stall of the machine: kept in the raw samples, left out of the cost."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Of repeated timings in seconds."""

    median_s: float
    spread: float
    """Half the 95 % interval of the median, relative to it; infinite below three timings."""

    count: int
    outliers: int


def summarise(samples_s: Sequence[float]) -> Summary:
    """The median of `samples_s` without outliers, with its distribution-free 95 % interval.

    The interval lies between order statistics around the middle, n/2 ± 0.98 √n (Le Boudec, Performance Evaluation of
    Computer and Communication Systems, 2010, section 2.2.2); below six samples it is their whole range.
    Raises ValueError where there is no sample, or a negative one.
    """
    if not samples_s or min(samples_s) < 0:
        raise ValueError("expected durations, none of them negative")
    rows = np.sort(np.asarray(samples_s, dtype=float))
    kept = rows[rows <= OUTLIER * np.median(rows)]
    n, median = len(kept), float(np.median(kept))
    if n < 3 or median == 0:
        return Summary(median, math.inf if n < 3 else 0.0, n, len(rows) - n)
    half = 0.98 * math.sqrt(n)
    low, high = max(0, math.floor(n / 2 - half)), min(n - 1, math.ceil(n / 2 + half))
    return Summary(median, float(kept[high] - kept[low]) / 2 / median, n, len(rows) - n)
