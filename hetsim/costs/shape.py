"""The shape of cost against size: a fixed part and a part for each unit, and how far real curves stray from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Doubt:
    """How far curves stray from their shape; of half 95 % intervals, relative to the value."""

    roughness: float
    """Of an interpolated value, before anything is known of the curve itself."""

    points: float
    """The prior weighs as much as so many inner points of the curve."""

    neighbours: float
    """What the square of an inner point's distance from its neighbours' curve counts towards the square of the roughness."""

    untested: float
    """How much wider the prior is with two points: no third one tests the shape."""

    slope: float
    """What each factor e beyond the ends adds: so unsure is the slope of log cost by log size."""

    proportion: float
    """The same where a single point says nothing of the slope."""


PUBLISHED = Doubt(roughness=0.08, points=2, neighbours=4, untested=3.6, slope=0.37, proportion=0.75)
"""From the published batch curves of GPUs: `python -m benchmarks.curves_public` fits it anew."""


@dataclass(frozen=True, slots=True)
class Affine:
    """`fixed + per_unit × size`, neither negative."""

    fixed: float
    per_unit: float

    def at(self, size: float) -> float:
        """The value at `size`."""
        return self.fixed + self.per_unit * size

    def through(self, size: float, value: float) -> Affine:
        """This shape made taller or lower until it passes through one point."""
        own = self.at(size)
        scale = value / own if own > 0 else 0.0
        return Affine(self.fixed * scale, self.per_unit * scale)

    @classmethod
    def fit(cls, sizes: Sequence[float], values: Sequence[float]) -> Affine:
        """The shape nearest to the points by least squares of relative errors; absolute ones where a value is next to nothing.

        A part that would be negative is left out: a fixed part for a curve that rises faster than in proportion, the other one
        for a curve that falls.
        """
        relative = spans_few_decades(values)
        largest = max(values)
        weights = [(largest / value) ** 2 if relative else 1.0 for value in values]
        total = sum(weights)
        middle = sum(w * x for w, x in zip(weights, sizes, strict=True)) / total
        mean = sum(w * y for w, y in zip(weights, values, strict=True)) / total
        rows = list(zip(weights, sizes, values, strict=True))
        spread = sum(w * (x - middle) ** 2 for w, x, _ in rows)
        per_unit = sum(w * (x - middle) * (y - mean) for w, x, y in rows) / spread if spread > 0 else 0.0
        if per_unit <= 0:
            return cls(mean, 0.0)
        fixed = mean - per_unit * middle
        if fixed >= 0:
            return cls(fixed, per_unit)
        return cls(0.0, sum(w * x * y for w, x, y in rows) / sum(w * x * x for w, x, _ in rows))


def spans_few_decades(values: Sequence[float]) -> bool:
    """Whether the smallest value is positive and not next to nothing beside the largest."""
    return min(values) > 1e-6 * max(values)


def have_ratios(sizes: Sequence[float], values: Sequence[float]) -> bool:
    """Whether ratios of values and logarithms of sizes mean something."""
    return sizes[0] > 0 and spans_few_decades(values)


def grid(low: float, high: float) -> Iterator[int]:
    """The whole sizes nearest to the powers of √2, above `low` and below `high`: curves bend there and at their points only."""
    exponent = math.floor(2 * math.log2(max(low, 1)))
    while (size := round(2 ** (exponent / 2))) < high:
        if size > low:
            yield size
        exponent += 1


def strayed(sizes: Sequence[float], values: Sequence[float], shape: Affine) -> list[float]:
    """Logarithm of value over `shape` at each point."""
    return [math.log(y / shape.at(x)) for x, y in zip(sizes, values, strict=True)]


def bent(sizes: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Sizes and values of the corners of the curve through the points.

    The curve is the fitted shape, times a ratio that runs straight over the logarithm of the size from point to point; it
    stays between neighbouring points, and so rises or falls all the way from one to the other. It is made of straight pieces
    between the points and the sizes of the grid. Where ratios mean nothing there are the points alone.
    """
    if not have_ratios(sizes, values):
        return list(sizes), list(values)
    shape = Affine.fit(sizes, values)
    ratios = strayed(sizes, values, shape)
    corners, heights = [sizes[0]], [values[0]]
    for i, (x0, x1) in enumerate(pairwise(sizes)):
        low, high = sorted(values[i : i + 2])
        for x in grid(x0, x1):
            part = math.log(x / x0) / math.log(x1 / x0)
            ratio = ratios[i] + part * (ratios[i + 1] - ratios[i])
            corners.append(x)
            heights.append(min(max(shape.at(x) * math.exp(ratio), low), high))
        corners.append(x1)
        heights.append(values[i + 1])
    return corners, heights


def misses(sizes: Sequence[float], values: Sequence[float]) -> list[float]:
    """How far each inner point lies off the curve between its two neighbours, as a logarithm; none where ratios mean nothing."""
    if not have_ratios(sizes, values):
        return []
    ratios = strayed(sizes, values, Affine.fit(sizes, values))
    logs = [math.log(size) for size in sizes]
    return [
        ratios[i] - ratios[i - 1] - (logs[i] - logs[i - 1]) / (logs[i + 1] - logs[i - 1]) * (ratios[i + 1] - ratios[i - 1])
        for i in range(1, len(sizes) - 1)
    ]


def roughness(sizes: Sequence[float], values: Sequence[float], doubt: Doubt = PUBLISHED) -> float:
    """Half the 95 % interval of an interpolated value, relative to it, beyond what the points' own spreads say.

    Real curves have steps (another kernel is chosen, a tile more is needed) that no interpolation sees. What published curves
    have is the prior; the curve's own inner points, each held against its neighbours, add to it, and many outweigh it: the
    mean of a variance under a scaled inverse chi-squared prior, after Gelman et al., Bayesian Data Analysis, 2013, section 2.6.
    """
    own = misses(sizes, values)
    if not own:
        return doubt.roughness * doubt.untested
    squares = doubt.points * doubt.roughness**2 + doubt.neighbours * sum(miss**2 for miss in own)
    return math.sqrt(squares / (doubt.points + len(own)))


def distance(size: float, end: float) -> float:
    """Between two sizes, in factors of e; sizes below 1 count as 1."""
    return abs(math.log(max(size, 1) / max(end, 1)))
