"""A curve through measured points: cost against size, with the provenance of every value."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from hetsim.costs.shape import PUBLISHED, Affine, bent, distance, roughness
from hetsim.costs.table import Provenance

_DOUBT: tuple[Provenance, ...] = ("specified", "measured", "interpolated", "extrapolated", "transferred")
"""From the least to the most doubtful. What somebody wrote down is taken at its word, so it makes nothing beside it worse."""

_NEAREST = 3
"""Beyond an end the shape is that of so many points: farther ones are of another regime, fewer are too rough."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A time, how sure it is, and where it comes from."""

    seconds: float
    spread: float
    """Half the 95 % interval, relative to `seconds`."""

    provenance: Provenance


class CurvePoint(NamedTuple):
    """One point that a curve goes through."""

    size: int
    seconds: float
    spread: float = 0.0
    provenance: Provenance = "measured"


@dataclass(frozen=True, slots=True)
class Curve:
    """Seconds against size (samples or bytes), through points in rising order of size.

    Between two points the cost has the shape `fixed + per_unit × size` that fits all points, bent so that it meets them (see
    `hetsim.costs.shape`); it stays between the two. Beyond the ends it follows the shape of the three nearest points, through
    the last one: a smaller batch is at most as efficient as a larger one and never dearer. One point alone: proportional to size.

    A measured point keeps its own spread. Between points the roughness of the curve is added, beyond the ends also the doubt
    about the slope. A curve that somebody wrote down has neither: it is taken at its word.
    """

    points: tuple[CurvePoint, ...]
    corners: tuple[float, ...]
    heights: tuple[float, ...]
    """Sizes and seconds of the corners: straight lines run between them."""

    below: Affine
    above: Affine
    roughness: float
    """Half the 95 % interval that interpolation adds, relative."""

    @classmethod
    def through(
        cls,
        points: Iterable[tuple[int, float, float] | CurvePoint],
        provenance: Provenance = "measured",
        *,
        counted: bool = False,
    ) -> Curve:
        """The curve through (size, seconds, spread) points in any order; `provenance` is of those that do not bring their own.

        `counted`, not timed: bytes, say, which have no roughness; straight lines run from point to point. Several points of one
        size become one: their mean, with the widest spread and the most doubtful provenance.
        Raises ValueError where there is no point.
        """
        given = (p if isinstance(p, CurvePoint) else CurvePoint(*p, provenance) for p in points)
        rows = tuple(_one([*same]) for _, same in groupby(sorted(given), key=lambda point: point.size))
        if not rows:
            raise ValueError("a curve needs at least one point")
        sizes, seconds = [row.size for row in rows], [row.seconds for row in rows]
        corners, heights = (sizes, seconds) if counted else bent(sizes, seconds)
        exact = counted or all(row.provenance == "specified" for row in rows)
        return cls(
            points=rows,
            corners=tuple(corners),
            heights=tuple(heights),
            below=_shape(sizes[:_NEAREST], seconds[:_NEAREST]).through(sizes[0], seconds[0]),
            above=_shape(sizes[-_NEAREST:], seconds[-_NEAREST:]).through(sizes[-1], seconds[-1]),
            roughness=0.0 if exact else roughness(sizes, seconds),
        )

    def at(self, size: float) -> Estimate:
        """The estimate at `size`."""
        place = bisect.bisect_left(self.points, (size,))
        if place < len(self.points) and self.points[place].size == size:
            point = self.points[place]
            return Estimate(point.seconds, point.spread, point.provenance)
        if place == 0:
            return self._beyond(self.below.at(size), size, self.points[0])
        if place == len(self.points):
            return self._beyond(self.above.at(size), size, self.points[-1])
        low, high = self.points[place - 1], self.points[place]
        spread = math.hypot(max(low.spread, high.spread), self.roughness)
        return Estimate(self._between(size), spread, self._worst(low.provenance, high.provenance, "interpolated"))

    def _between(self, size: float) -> float:
        place = bisect.bisect_right(self.corners, size)
        x0, x1 = self.corners[place - 1], self.corners[place]
        y0, y1 = self.heights[place - 1], self.heights[place]
        return y0 + (y1 - y0) * (size - x0) / (x1 - x0)

    def _beyond(self, seconds: float, size: float, end: CurvePoint) -> Estimate:
        if self._is_specified:
            return Estimate(seconds, 2 * max(point.spread for point in self.points), "specified")
        doubt = PUBLISHED.slope if len(self.points) > 1 else PUBLISHED.proportion
        spread = math.hypot(end.spread, self.roughness, doubt * distance(size, end.size))
        return Estimate(seconds, spread, self._worst(end.provenance, "extrapolated"))

    @property
    def _is_specified(self) -> bool:
        return all(point.provenance == "specified" for point in self.points)

    def _worst(self, *provenances: Provenance) -> Provenance:
        return "specified" if self._is_specified else max(provenances, key=_DOUBT.index)


def _one(points: list[CurvePoint]) -> CurvePoint:
    seconds = math.fsum(point.seconds for point in points) / len(points)
    worst = max((point.provenance for point in points), key=_DOUBT.index)
    return CurvePoint(points[0].size, seconds, max(point.spread for point in points), worst)


def _shape(sizes: list[int], seconds: list[float]) -> Affine:
    """Of one point alone: proportional to size."""
    if len(sizes) > 1:
        return Affine.fit(sizes, seconds)
    return Affine(0.0, 1.0) if sizes[0] else Affine(1.0, 0.0)
