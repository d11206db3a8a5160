"""Published batch curves with points held out, and the doubt that makes the intervals of such points right."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np

from benchmarks.public_data import Curve as PublishedCurve
from hetsim.costs.curve import Curve
from hetsim.costs.shape import Doubt, distance, misses, roughness

CONFIDENCE = 0.90
TO_90 = 1.645 / 1.96
"""Of half a 95 % interval, that of 90 %, as predictions take it."""

FEWEST = 7
"""Points of a curve, so that with four measured three are left."""

FARTHEST = math.log(4)
"""Nothing is extrapolated by more than this."""

_FAMILIES = {
    "bert": ("bert",),
    "image": ("resnet", "imagenet", "cifar", "shufflenet", "inception", "vgg", "alexnet"),
    "ncf": ("ncf", "recommendation"),
    "speech": ("deepspeech",),
    "t5": ("t5",),
    "opt": ("opt",),
}


@dataclass(frozen=True)
class Case:
    """Some points of a published curve that stand for measured ones, and others that are held out."""

    source: str
    network: str
    gpu: str
    sizes: tuple[float, ...]
    seconds: tuple[float, ...]
    held_sizes: tuple[float, ...]
    held_seconds: tuple[float, ...]

    @property
    def family(self) -> str:
        """See `family_of`."""
        return family_of(self.network)

    @cached_property
    def predicted_s(self) -> list[float]:
        """What hetsim's curve through the measured points says of the held-out sizes."""
        points = [(int(x), y, 0.0) for x, y in zip(self.sizes, self.seconds, strict=True)]
        return [Curve.through(points).at(x).seconds for x in self.held_sizes]

    @cached_property
    def errors(self) -> list[float]:
        """Predicted over true, minus 1."""
        return [p / y - 1 for p, y in zip(self.predicted_s, self.held_seconds, strict=True)]

    @cached_property
    def strays(self) -> list[float]:
        """How far the true values lie from the predicted ones, relative to the latter, as spreads are."""
        return [abs(y / p - 1) for p, y in zip(self.predicted_s, self.held_seconds, strict=True)]

    @cached_property
    def distances(self) -> list[float]:
        """Of the held-out sizes beyond the measured ones, in factors of e; 0 between them."""
        low, high = self.sizes[0], self.sizes[-1]
        return [distance(x, min(max(x, low), high)) for x in self.held_sizes]

    @cached_property
    def own_misses(self) -> list[float]:
        """What the measured points themselves say of the roughness."""
        return misses(self.sizes, self.seconds)

    def inside(self, doubt: Doubt) -> list[bool]:
        """Whether each held-out point is within its 90 % interval."""
        own = roughness(self.sizes, self.seconds, doubt)
        slope = doubt.slope if len(self.sizes) > 1 else doubt.proportion
        spreads = [math.hypot(own, slope * d) for d in self.distances]
        return [stray <= TO_90 * spread for stray, spread in zip(self.strays, spreads, strict=True)]


def family_of(network: str) -> str:
    """Networks that are alike; what judges one of them has seen none."""
    name = network.lower()
    return next((family for family, words in _FAMILIES.items() if any(word in name for word in words)), name)


Curves = Mapping[tuple[str, str, str], PublishedCurve]


def between(curves: Curves, points: int) -> list[Case]:
    """Of each curve so many points by log scale, both ends among them; the others are held out."""
    cases = []
    for key, curve in curves.items():
        sizes = list(curve)
        kept = by_log_scale(sizes, points)
        if len(sizes) >= max(FEWEST, points + 2):
            cases.append(_case(key, curve, kept, [x for x in sizes if x not in kept]))
    return cases


def beyond(curves: Curves, points: int, *, above: bool) -> Iterator[Case]:
    """Of each curve the points at one end held out, one, two and so on, and so many of the rest by log scale."""
    for key, curve in curves.items():
        sizes = list(curve)
        if len(sizes) < FEWEST:
            continue
        for cut in range(1, len(sizes) - points):
            rest, held = (sizes[:-cut], sizes[-cut:]) if above else (sizes[cut:], sizes[:cut])
            held = [x for x in held if distance(x, rest[-1] if above else rest[0]) <= FARTHEST]
            if held:
                yield _case(key, curve, by_log_scale(rest, points), held)


def from_one(curves: Curves) -> Iterator[Case]:
    """Of each curve one end; what lies near enough is held out."""
    for key, curve in curves.items():
        sizes = list(curve)
        for end in (sizes[0], sizes[-1]) if len(sizes) >= FEWEST else ():
            yield _case(key, curve, [end], [x for x in sizes if 0 < distance(x, end) <= FARTHEST])


def by_log_scale(sizes: Sequence[float], points: int) -> list[float]:
    """The sizes nearest to a geometric series from the first to the last."""
    ratio = (sizes[-1] / sizes[0]) ** (1 / (points - 1))
    return sorted({min(sizes, key=lambda x: distance(x, sizes[0] * ratio**i)) for i in range(points)})


def _case(key: tuple[str, str, str], curve: PublishedCurve, kept: Sequence[float], held: Sequence[float]) -> Case:
    return Case(*key, tuple(kept), tuple(curve[x] for x in kept), tuple(held), tuple(curve[x] for x in held))


# --- fitting ------------------------------------------------------------------------------------------------------------


def fitted(curves: Curves) -> Doubt:
    """The doubt whose 90 % intervals hold 90 % of held-out points; every case counts once, whatever the number of its points.

    How much the prior weighs and what neighbours count is chosen for the best interval score (Gneiting & Raftery, Strictly
    Proper Scoring Rules, 2007, section 6.2) with 4, 6 and 8 points measured.
    """
    inside = [case for points in (4, 6, 8) for case in between(curves, points)]
    start = Doubt(roughness=0, points=1, neighbours=0, untested=0, slope=0, proportion=0)
    options = (
        _with_roughness(replace(start, points=points, neighbours=neighbours), inside)
        for points, neighbours in product((1.0, 2.0, 4.0), (1.0, 2.0, 3.0, 4.0))
    )
    best = min(options, key=lambda doubt: _score(doubt, inside))
    ends = [*beyond(curves, 4, above=True), *beyond(curves, 4, above=False)]
    best = replace(best, untested=_covering(lambda v: replace(best, untested=v), between(curves, 2)))
    best = replace(best, slope=_covering(lambda v: replace(best, slope=v), ends))
    return replace(best, proportion=_covering(lambda v: replace(best, proportion=v), list(from_one(curves))))


def coverage(cases: Iterable[Case], doubt: Doubt) -> float:
    """The mean over the cases of the share of held-out points inside their 90 % intervals."""
    return float(np.mean([np.mean(case.inside(doubt)) for case in cases]))


def _with_roughness(doubt: Doubt, cases: Sequence[Case]) -> Doubt:
    return replace(doubt, roughness=_covering(lambda value: replace(doubt, roughness=value), cases))


def _covering(doubt_of: Callable[[float], Doubt], cases: Sequence[Case]) -> float:
    """The smallest value, to a thousandth, with which the 90 % intervals hold 90 %."""
    low, high = 0, 4000
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if coverage(cases, doubt_of(middle / 1000)) >= CONFIDENCE else (middle + 1, high)
    return low / 1000


def _score(doubt: Doubt, cases: Iterable[Case]) -> float:
    """Width of the intervals, and 2 / 10 % times how far points lie outside: less is better."""
    scores = []
    for case in cases:
        half = TO_90 * roughness(case.sizes, case.seconds, doubt)
        scores.append(2 * half + 20 * np.mean([max(stray - half, 0.0) for stray in case.strays]))
    return float(np.mean(scores))
