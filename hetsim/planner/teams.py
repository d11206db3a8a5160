"""Teams: which replicas a plan may be made of, before they have devices and exact shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hetsim.planner.hybrid_problem import HybridProblem
from hetsim.planner.known import Known, KnownCut, Others
from hetsim.planner.packing import pack
from hetsim.planner.stage_costs import Floats, Ints

NEAR = 2e-3
"""Relative. How exactly the least step in which replicas can be packed is found."""

SURE = 1 - 1e-6
"""Of the batch: what linear programs are exact to, with a margin."""


@dataclass(frozen=True, slots=True)
class Team:
    """A replica before it has devices: alike ones are one team with a number."""

    known: KnownCut | None
    """None: one device, that holds the whole chain."""

    kind: int
    """Of that device; -1 where there is a cut."""

    number: int


Draft = tuple[Team, ...]
"""What the search hands out to be made into a plan."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Replicas that are possible within some time: first those that are cut, then single devices."""

    capacities: Floats
    usage: Ints
    cuts: list[KnownCut]
    alone: list[int]
    """Kinds."""


def packed(problem: HybridProblem, known: Known, others: Others, most_replicas: int, low_s: float, below_s: float) -> Draft:
    """The teams that take the batch soonest, of up to `most_replicas` replicas that are known, beside `others`; none where none do
    below `below_s`."""
    alone = problem.alone_expected_s(others.holders)

    def columns(step_s: float) -> Columns:
        return columns_of(problem, known, others, alone, step_s)

    def most(step_s: float) -> float:
        there = columns(step_s)
        return pack(there.capacities, there.usage, problem.available, most_replicas, len(there.cuts), rounded=False).most

    longest_s = below_s if np.isfinite(below_s) else problem.some_step_s
    edge_s = _least(most, problem.training.global_batch * SURE, min(low_s, longest_s) / 2, longest_s)
    if edge_s is None:
        return ()
    there = columns(edge_s)
    found = pack(there.capacities, there.usage, problem.available, most_replicas, len(there.cuts))
    teams = []
    for column, number in sorted(Counter(found.chosen).items()):
        is_cut = column < len(there.cuts)
        cut, kind = (there.cuts[column], -1) if is_cut else (None, there.alone[column - len(there.cuts)])
        teams.append(Team(cut, kind, number))
    return tuple(teams)


def columns_of(problem: HybridProblem, known: Known, others: Others, alone: dict[int, Floats], step_s: float) -> Columns:
    """What is known to be possible within `step_s`; `alone`: by kind of a single device, what each share costs."""
    found = list(known.best(step_s, others))
    capacities = [float(count * cut.grid.microbatch) for cut, count in found]
    capacities += [float(np.flatnonzero(cost <= step_s).max(initial=0)) for cost in alone.values()]
    rows = [cut.row for cut, _ in found] + [len(problem.shapes) + kind for kind in alone]
    return Columns(np.array(capacities), problem.usage[rows], [cut for cut, _ in found], list(alone))


@dataclass(frozen=True, slots=True, order=True)
class Alike:
    """A way to make the batch of alike replicas."""

    low_s: float
    """The step takes no less: by the exchange of its gradients, wherever that lies, too."""

    computing_s: float
    """The step takes no less, without any exchange."""

    row: int
    """Of the shape."""

    size: int
    """Number of the microbatch size."""

    microbatches: int
    replicas: int


def alike(problem: HybridProblem) -> list[Alike]:
    """All ways to make the batch of alike replicas, as many as there are devices for; the most promising first."""
    usage = problem.usage[: len(problem.shapes)]
    room = np.array(problem.available) // np.maximum(usage, 1)
    number = np.where(usage > 0, room, sum(problem.available)).min(axis=1)
    exchange_s = {
        int(holders): problem.longest_exchange_s(Others(int(holders))) for holders in np.unique(number) if holders > 1
    }
    ways = []
    for size, table in enumerate(problem.tables):
        counts = -(-problem.training.global_batch // (np.maximum(number, 1) * table.grid.microbatch))
        at = np.minimum(np.searchsorted(table.counts, counts), len(table.counts) - 1)
        low_s = table.least_s[np.arange(len(usage)), at]
        there = np.flatnonzero((number > 1) & (counts > 1) & np.isfinite(low_s))
        for row in there:
            computing_s = float(low_s[row])
            least_s = max(computing_s, exchange_s[int(number[row])])
            ways.append(Alike(least_s, computing_s, int(row), size, int(counts[row]), int(number[row])))
    return sorted(ways)


def _least(most: Callable[[float], float], wanted: float, low_s: float, high_s: float) -> float | None:
    """The least step of which `most` is as much as `wanted`, to `NEAR`; None where it is above `high_s`.

    `most(step)` is about linear, so that interpolation soon leads there.
    """
    if (of_high := most(high_s)) < wanted:
        return None
    if (of_low := most(low_s)) >= wanted:
        return low_s
    while high_s - low_s > NEAR * high_s:
        guess_s = low_s + (high_s - low_s) * (wanted - of_low) / (of_high - of_low)
        margin_s = max(0.4 * NEAR * high_s, 0.02 * (high_s - low_s))
        for step_s in (guess_s - margin_s, guess_s + margin_s):
            if not low_s < step_s < high_s:
                continue
            taken = most(step_s)
            if taken >= wanted:
                high_s, of_high = step_s, taken
                break
            low_s, of_low = step_s, taken
    return high_s
