"""The best way to lay a chain on places of several kinds, whose order and cuts are free: by sum, or by the largest part.

Dynamic programming from the end of the chain over how many places of each kind are used (at most C(n + kinds, kinds) such
vectors, however many devices there are), the kind that comes first and the layer it starts at. With the number of places used, the
number of stages behind a new one is known, on which its cost may depend. With sums it is a shortest path, with maxima the least
bottleneck, exact in one pass. All vectors of one total are worked out at once, and only over stages as long as limits allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import as_strided

from hetsim.planner.stage_costs import Floats, Ints

Shape = tuple[int, ...]
"""How many places of each kind there are, all of which are used."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Stages on kinds, in order."""

    kinds: tuple[int, ...]
    cuts: tuple[int, ...]
    """Start of each stage, and the end of the last: 0, …, layers."""


@dataclass(frozen=True, slots=True)
class Found:
    """The best cut, and what it comes to."""

    value: float
    cut: Cut


def best_cut(
    shape: Shape,
    stages: Sequence[Floats],
    links: Floats,
    total: Literal["sum", "largest"] = "sum",
    room: Sequence[Floats] | None = None,
) -> Found | None:
    """The cut over all places of `shape` whose stages and links come to the least; None where none is possible.

    `stages[l][kind, start, stop]`: a stage with `l` others behind it; `links[before, behind, cut]`: what lies between two of them;
    infinite where not possible. There is an entry of `stages` for each place. With `room`, which has its form, no stage may come to
    more than its room, together with all behind it.
    """
    join = np.add if total == "sum" else np.maximum
    tables: list[Floats] = []
    longest = np.array([_longest(table) for table in stages])
    reach = longest.max(axis=1)
    for behind, table in enumerate(stages):
        if not tables:
            tables.append(_last(shape, _kept(table, room[0] if room else None)))
            continue
        before = tables[-1]
        rows = _levels(shape)[behind]
        found = np.full((len(rows.used), *before.shape[1:]), np.inf)
        # Where the stage may start, so that those behind it reach the end of the chain, and those before it its start.
        ahead, layers = len(stages) - 1 - behind, table.shape[1]
        starts = range(
            max(ahead, layers - int(reach[: behind + 1].sum())), min(layers - behind, 1 + int(reach[behind + 1 :].sum()))
        )
        for kind, (here, there) in enumerate(rows.steps):
            if len(here):
                onward = join(before[there], links[kind][None]).min(axis=1)
                width = int(longest[behind, kind])
                if width and starts:
                    found[here, kind, starts.start : starts.stop] = _prolonged(
                        table[kind], onward, join, room[behind][kind] if room else None, starts, width
                    )
        tables.append(found)
    kind = int(tables[-1][0, :, 0].argmin())
    value = float(tables[-1][0, kind, 0])
    return Found(value, _read(shape, tables, stages, links, join, room, kind)) if np.isfinite(value) else None


# --- inside ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """The ways to use so many places."""

    used: tuple[Shape, ...]
    steps: tuple[tuple[Ints, Ints], ...]
    """By kind of the place that is added: rows of this level, and those of the level before that they come from."""


@lru_cache(maxsize=4096)
def _levels(shape: Shape) -> tuple[_Level, ...]:
    by_total: list[list[Shape]] = [[] for _ in range(sum(shape) + 1)]
    for used in product(*(range(count + 1) for count in shape)):
        by_total[sum(used)].append(used)
    levels = []
    for total in range(1, len(by_total)):
        before = {used: row for row, used in enumerate(by_total[total - 1])}
        steps = []
        for kind in range(len(shape)):
            pairs = [(row, before[_less(used, kind)]) for row, used in enumerate(by_total[total]) if used[kind]]
            here, there = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
            steps.append((here, there))
        levels.append(_Level(tuple(by_total[total]), tuple(steps)))
    return tuple(levels)


def _less(shape: Shape, kind: int) -> Shape:
    return (*shape[:kind], shape[kind] - 1, *shape[kind + 1 :])


def _last(shape: Shape, table: Floats) -> Floats:
    """[way to use one place, kind, start]: what the last stage comes to."""
    kinds, layers = table.shape[:2]
    level = _levels(shape)[0]
    found = np.full((len(level.used), kinds, layers + 1), np.inf)
    for kind, (here, _) in enumerate(level.steps):
        found[here, kind, :layers] = table[kind, :, layers]
    return found


def _prolonged(table: Floats, onward: Floats, join: np.ufunc, room: Floats | None, starts: range, width: int) -> Floats:
    """[row, start]: the best stage of up to `width` layers from each of `starts` on, with what follows it; `onward[row, stop]`.

    Both together come to no more than `room[start, stop]`.
    """
    layers = len(table)
    # A band of the table, beside windows of what follows.
    start = np.arange(starts.start, starts.stop)[:, None]
    stop = start + np.arange(1, width + 1)
    last = np.minimum(stop, layers)
    band = np.where(stop <= layers, table[start, last], np.inf)
    behind = onward[:, starts.start + 1 : starts.stop + width]
    missing = len(starts) + width - 1 - behind.shape[1]
    padded = np.concatenate((behind, np.full((len(onward), missing), np.inf)), axis=1) if missing else behind
    row_step, step = padded.strides
    windows = as_strided(padded, (len(padded), len(starts), width), (row_step, step, step), writeable=False)
    values = join(windows, band[None])
    if room is not None:
        np.putmask(values, values > room[start, last], np.inf)
    best: Floats = values.min(axis=2)
    return best


def _kept(values: Floats, room: Floats | None) -> Floats:
    """Those of `values` that are within `room`, the others infinite."""
    return values if room is None else np.where(values <= room, values, np.inf)


def _longest(table: Floats) -> Ints:
    """[kind]: layers of the longest stage that is possible."""
    return np.asarray(np.where(np.isfinite(table), _lengths(table.shape[1]), 0).max(axis=(1, 2)))


@lru_cache(maxsize=64)
def _lengths(layers: int) -> Ints:
    """[start, stop]: layers of a stage; less than 1 where it is none."""
    return np.arange(layers + 1)[None, :] - np.arange(layers)[:, None]


def _read(
    shape: Shape,
    tables: Sequence[Floats],
    stages: Sequence[Floats],
    links: Floats,
    join: np.ufunc,
    room: Sequence[Floats] | None,
    kind: int,
) -> Cut:
    """The cut behind the best value, whose first stage is on `kind`."""
    layers = stages[0].shape[1]
    used, start, kinds, cuts = shape, 0, [kind], [0]
    for behind in range(len(stages) - 1, 0, -1):
        used = _less(used, kind)
        onward = join(tables[behind - 1][_levels(shape)[behind - 1].used.index(used)], links[kind])
        values = join(onward, stages[behind][kind, start])
        values = _kept(values, room[behind][kind, start] if room else None)
        after, stop = np.unravel_index(values.argmin(), onward.shape)
        kind, start = int(after), int(stop)
        kinds.append(kind)
        cuts.append(start)
    return Cut(tuple(kinds), (*cuts, layers))
