"""A curve through measured points: cost against size, with the provenance of every value."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass

from hetsim.costs.table import Provenance


@dataclass(frozen=True, slots=True)
class Estimate:
    """A time, how sure it is, and where it comes from."""

    seconds: float
    spread: float
    """Half the 95 % interval, relative to `seconds`."""

    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Curve:
    """Seconds against size (samples or bytes), through points in rising order of size.

    Between two points the curve is the straight line (from four points on the kind of interpolation no longer matters on
    published GPU curves). Beyond the ends it follows the line through the two nearest points, but never falls below
    proportionality from above (a smaller batch is at most as efficient) nor below zero. One point alone: proportional to size.
    """

    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    spreads: tuple[float, ...]
    provenance: Provenance = "measured"

    @classmethod
    def through(cls, points: Iterable[tuple[int, float, float]], provenance: Provenance = "measured") -> Curve:
        """The curve through (size, seconds, spread) points in any order. Raises ValueError where there is none."""
        rows = sorted(points)
        if not rows:
            raise ValueError("a curve needs at least one point")
        sizes, seconds, spreads = zip(*rows, strict=True)
        return cls(sizes, seconds, spreads, provenance)

    def at(self, size: float) -> Estimate:
        """The estimate at `size`."""
        place = bisect.bisect_left(self.sizes, size)
        if place < len(self.sizes) and self.sizes[place] == size:
            return Estimate(self.seconds[place], self.spreads[place], self.provenance)
        if len(self.sizes) == 1:
            return self._beyond(self.seconds[0] * size / self.sizes[0] if self.sizes[0] else self.seconds[0])
        low = min(max(place - 1, 0), len(self.sizes) - 2)
        line = self._line(low, size)
        if 0 < place < len(self.sizes):
            known = self.provenance if self.provenance in ("specified", "transferred") else "interpolated"
            return Estimate(line, max(self.spreads[low : low + 2]), known)
        if place == 0:
            proportional = self.seconds[0] * size / self.sizes[0]
            return self._beyond(min(max(line, proportional), self.seconds[0]))
        return self._beyond(max(line, self.seconds[-1]))

    def _line(self, low: int, size: float) -> float:
        x0, x1 = self.sizes[low], self.sizes[low + 1]
        y0, y1 = self.seconds[low], self.seconds[low + 1]
        return y0 + (y1 - y0) * (size - x0) / (x1 - x0)

    def _beyond(self, seconds: float) -> Estimate:
        known: Provenance = self.provenance if self.provenance in ("specified", "transferred") else "extrapolated"
        return Estimate(seconds, 2 * max(self.spreads), known)
