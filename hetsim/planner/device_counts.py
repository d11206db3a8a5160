"""How many devices of each pool a partial placement uses: the states of the dynamic programmes over stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hetsim.planner.stage_costs import Ints


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """All ways to choose a given number of devices by pool."""

    rows: Ints
    """[way, pool]: how many of each."""

    one_less: tuple[tuple[Ints, Ints], ...]
    """By pool: the ways that use a device of it, and for each of them the way of the level below without that device."""


def levels_of(sizes: Sequence[int], depth: int) -> tuple[Level, ...]:
    """The levels of 1, 2, …, `depth` devices out of pools of `sizes`."""
    every = np.indices([size + 1 for size in sizes]).reshape(len(sizes), -1).T
    levels = []
    below = {(0,) * len(sizes): 0}
    for count in range(1, depth + 1):
        rows = every[every.sum(axis=1) == count]
        pairs = []
        for pool, unit in enumerate(np.eye(len(sizes), dtype=np.int64)):
            with_it = np.flatnonzero(rows[:, pool])
            without = [below[tuple(row)] for row in (rows[with_it] - unit).tolist()]
            pairs.append((with_it, np.array(without, dtype=np.int64)))
        levels.append(Level(rows, tuple(pairs)))
        below = {tuple(row): index for index, row in enumerate(rows.tolist())}
    return tuple(levels)
