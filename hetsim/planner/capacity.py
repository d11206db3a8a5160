"""How many samples a replica of any shape takes in a given time, at most: what packing replicas rests on.

For every shape (how many places of each kind) and microbatch size a table holds the least step for some numbers of microbatches: a
bound that costs nothing, for a first look (`holdings` looks closer).

With weights w(k) = 1 / (the whole chain on kind k), no cut lets the sum of w t over the stages fall under `work` = sum over layers
of the least w times the layer's time; and a stage with l others behind it has a bracket (see `replica_split`) of at least
(M - 1 - phi l) t, phi being the largest share that a forward has of a layer. So the largest bracket is at least
work / sum of w / (M - 1 - phi l), most where the fastest places have most stages behind them; and where weights are not too unlike
(`fills_evenly`), at least (M - 1) work / sum of w. With more microbatches than stages, either grows by at least work / sum of w
with each further one: the derivative of 1 / sum of w / x is sum of w / x^2 / (sum of w / x)^2, which is no less than 1 / sum of
w (Cauchy and Schwarz). A microbatch's way through all stages takes no less than each layer on its fastest kind, and the best links.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hetsim.planner.cut_value import fills_evenly
from hetsim.planner.holdings import Holdings
from hetsim.planner.shortest_cut import Shape
from hetsim.planner.stage_costs import Bools, Floats, Ints
from hetsim.planner.stage_grid import StageGrid

DENSE = 16
"""Numbers of microbatches that have a column of their own at least."""


def microbatch_grid(most: int, deepest: int, fewest: int = 2) -> Ints:
    """Numbers of microbatches at which the least step is kept, `fewest` to `most`: all up to one more than the `deepest` shape has
    stages, from where on it is known how the step grows, and then by steps of a twelfth."""
    rows = list(range(fewest, min(most, max(deepest + 1, DENSE)) + 1))
    while rows and rows[-1] < most:
        rows.append(min(most, max(rows[-1] + 1, rows[-1] * 13 // 12)))
    return np.array(rows, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class SizeTable:
    """The least steps of all shapes at one microbatch size."""

    grid: StageGrid
    counts: Ints
    """The numbers of microbatches, the columns of the next."""

    least_s: Floats
    """[shape, count]; infinite where no cut is possible."""

    slope_s: Floats
    """[shape]: by how much the least step grows at least with each further microbatch, where these are more than the stages."""

    forwards_s: Floats
    """[shape]: what a microbatch takes to pass all stages forward, at least."""

    forward_slope_s: Floats
    """[shape]: by how much the forwards of a stage grow at least with each further microbatch."""

    holdings: Holdings
    """A sharper look at single numbers of microbatches."""

    def most_microbatches(self, step_s: float) -> Ints:
        """[shape]: how many microbatches may be done within `step_s`; 0 where not even two, or one by a group of devices alone."""
        spare = step_s - self.least_s
        # Infinite where a layer is not priced: then no step is finite either.
        slope_s = np.where(np.isfinite(self.slope_s), self.slope_s, 1.0)
        extra = np.floor((spare / slope_s[:, None]).clip(0, 1e9))
        room = np.append(np.diff(self.counts), 1) - 1
        many = np.where(spare >= 0, self.counts + np.minimum(extra, room), 0)
        return np.asarray(many.max(axis=1, initial=0), dtype=np.int64)

    def most_passed(self, step_s: float) -> Ints:
        """[shape]: how many microbatches may have passed all stages forward within `step_s`; 0 where not even one."""
        further = np.full(len(self.forwards_s), -1.0)
        spare_s = step_s * (1 + 1e-12) - self.forwards_s
        np.divide(spare_s, self.forward_slope_s, out=further, where=np.isfinite(self.forwards_s))
        return np.asarray(np.floor(further.clip(-1, 1e9)) + 1, dtype=np.int64)


def shapes_of(limits: Sequence[int], widths: Sequence[int], deepest: int, most: int) -> list[Shape]:
    """All shapes of two stages and more within `limits` by kind, and of one stage where that is a group of devices.

    They have up to `deepest` stages, fewer where there would be more than `most` shapes.
    """
    depth = next((d for d in range(deepest, 2, -1) if _number_of_shapes(limits, d) <= most), min(deepest, 2))

    def counts(shape: Shape) -> bool:
        alone = sum(shape) == 1 and any(width > 1 for width, used in zip(widths, shape, strict=True) if used)
        return sum(shape) >= 2 or alone

    return [shape for shape in _up_to(limits, depth) if counts(shape)]


def _up_to(limits: Sequence[int], depth: int) -> Iterator[Shape]:
    """All ways to take up to `depth` places in all."""
    if not limits:
        yield ()
        return
    for first in range(min(limits[0], depth) + 1):
        yield from ((first, *rest) for rest in _up_to(limits[1:], depth - first))


def _number_of_shapes(limits: Sequence[int], depth: int) -> int:
    ways = [1] + [0] * depth
    for limit in limits:
        ways = [sum(ways[max(0, total - limit) : total + 1]) for total in range(depth + 1)]
    return sum(ways)


def size_table(grid: StageGrid, shapes: Sequence[Shape], counts: Ints, *, pipelined: bool = False) -> SizeTable:
    """The table of `grid` by the cheap bound, for `counts` microbatches; `pipelined`: of which several stages have two at least."""
    kinds = len(grid.kinds)
    layer_s = np.array([grid.layer_s(kind) for kind in range(kinds)])
    first_s = np.array([grid.layer_first_s(kind) for kind in range(kinds)])
    whole_s = layer_s.sum(axis=1)
    # A kind that cannot hold every layer counts by those that it can; its weight is free to choose.
    fallback = np.nanmin(np.where(np.isfinite(whole_s), whole_s, np.nan)) if np.isfinite(whole_s).any() else 1.0
    weight = 1 / np.maximum(np.where(np.isfinite(whole_s), whole_s, fallback), 1e-12)
    forward_s = np.array([np.diagonal(grid.forward_s[kind][:, 1:]) for kind in range(kinds)])
    shares = np.divide(forward_s, layer_s, out=np.zeros_like(layer_s), where=np.isfinite(layer_s) & (layer_s > 0))
    phi = float(shares.max(initial=0.0))
    used = np.array(shapes, dtype=np.int64).reshape(len(shapes), kinds)
    present = used > 0
    work, first_work, pass_s, beside_s, forward_work, forwards_s = np.zeros((6, len(shapes)))
    layer_forward_s = np.where(np.isfinite(layer_s), forward_s, np.inf)
    for subset in np.unique(present, axis=0):
        mine = (present == subset).all(axis=1)
        work[mine] = (weight[subset, None] * layer_s[subset]).min(axis=0).sum()
        first_work[mine] = (weight[subset, None] * first_s[subset]).min(axis=0).sum()
        pass_s[mine] = first_s[subset].min(axis=0).sum()
        forward_work[mine] = (weight[subset, None] * layer_forward_s[subset]).min(axis=0).sum()
        forwards_s[mine] = layer_forward_s[subset].min(axis=0).sum()
        beside_s[mine] = (used[mine].sum(axis=1) - 1) * _least_link_s(grid, subset)
    beside_s += np.where(present, grid.overhead_s, np.inf).min(axis=1)
    pass_s += beside_s
    spread = np.zeros((len(shapes), len(counts)))
    behind = used.sum(axis=1) - 1
    for kind in np.argsort(-weight, kind="stable"):
        for place in range(int(used[:, kind].max(initial=0))):
            here = used[:, kind] > place
            rest = (counts - 1)[None, :] - phi * np.minimum((counts - 1)[None, :], behind[:, None])
            spread += np.where(here[:, None], weight[kind] / np.maximum(rest, 1e-9), 0.0)
            behind = behind - here
    bracket_s = np.divide(work[:, None], spread)
    least_weight = np.where(present, weight, np.inf).min(axis=1)
    most_weight = np.where(present, weight, 0.0).max(axis=1)
    evenly = fills_evenly(used.sum(axis=1)[:, None], counts[None, :], least_weight[:, None], most_weight[:, None])
    # What is not priced makes the other bracket infinite.
    shared_s = np.where(np.isfinite(first_work), first_work, 0.0) / np.maximum(used @ weight, 1e-300)
    even_s = (counts - 1)[None, :] * shared_s[:, None]
    least_s = pass_s[:, None] + np.where(evenly, np.maximum(bracket_s, even_s), bracket_s)
    slope_s = np.maximum(work / np.maximum(used @ weight, 1e-300), 1e-12)
    least_s[~_may_fit(grid, used), :] = np.inf
    if pipelined:
        least_s[np.ix_(used.sum(axis=1) > 1, counts < 2)] = np.inf
    forward_slope_s = np.maximum(forward_work / np.maximum(used @ weight, 1e-300), 1e-12)
    holdings = Holdings(grid, shapes, pass_s, beside_s)
    return SizeTable(grid, counts, least_s, slope_s, forwards_s, forward_slope_s, holdings)


def _least_link_s(grid: StageGrid, kinds: Bools) -> float:
    """What lies between two stages on any of `kinds`, at least."""
    inner = grid.link_s[np.ix_(kinds, kinds)][:, :, 1:-1]
    finite = inner[np.isfinite(inner)]
    return float(finite.min()) if finite.size else 0.0


def _may_fit(grid: StageGrid, used: Ints) -> Bools:
    """Whether the memory of all places together holds parameters, gradients, optimizer state and one microbatch."""
    layers = grid.layers
    held = grid.held_bytes
    need = held[:, np.arange(layers), np.arange(1, layers + 1)]
    present = used > 0
    rows = np.ones(len(used), dtype=bool)
    for subset in np.unique(present, axis=0):
        mine = (present == subset).all(axis=1)
        rows[mine] = need[subset].min(axis=0).sum() <= used[mine] @ grid.room_bytes
    return rows
