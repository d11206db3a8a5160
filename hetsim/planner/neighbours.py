"""Drafts near a good one: what the search over shapes leaves to improve, because its bounds do not see the whole step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from hetsim.planner.hybrid_problem import HybridProblem
from hetsim.planner.known import KnownCut
from hetsim.planner.shortest_cut import Cut
from hetsim.planner.teams import Draft, Team

MOVES = (-1, 1, -2, 2)
"""By how many layers a stage's end is moved."""


def neighbours(problem: HybridProblem, draft: Draft) -> Iterator[Draft]:
    """Drafts that differ from `draft` in one team: where it is cut, in which order, into which microbatches, how many there are."""
    for place, team in enumerate(draft):
        before, after = draft[:place], draft[place + 1 :]
        if team.known is None:
            others = replace(team, number=team.number - 1)
            if sum(other.number for other in draft) > 2:
                yield (*before, *((others,) if others.number else ()), *after)
            continue
        for changed in _changes(problem, team.known):
            yield (*before, replace(team, known=changed), *after)
            if team.number > 1:
                yield (*before, replace(team, number=team.number - 1), Team(changed, -1, 1), *after)


def _changes(problem: HybridProblem, known: KnownCut) -> Iterator[KnownCut]:
    kinds, cuts = known.cut.kinds, known.cut.cuts
    for place in range(1, len(cuts) - 1):
        for move in MOVES:
            if cuts[place - 1] < (end := cuts[place] + move) < cuts[place + 1]:
                yield replace(known, cut=Cut(kinds, (*cuts[:place], end, *cuts[place + 1 :])))
    for place, (a, b) in enumerate(pairwise(kinds)):
        if a != b:
            yield replace(known, cut=Cut((*kinds[:place], b, a, *kinds[place + 2 :]), cuts))
    grids = [table.grid for table in problem.tables]
    size = [grid.microbatch for grid in grids].index(known.grid.microbatch)
    for grid in grids[max(0, size - 1) : size] + grids[size + 1 : size + 2]:
        yield KnownCut(known.row, grid, known.cut, problem.training.global_batch // grid.microbatch)
