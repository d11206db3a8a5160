"""Drafts near a good one: what the search over shapes leaves to improve, because its bounds do not see the whole step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, pairwise, product

import numpy as np

from hetsim.planner.hybrid_problem import HybridProblem
from hetsim.planner.known import KnownCut
from hetsim.planner.shortest_cut import Cut
from hetsim.planner.stage_costs import Ints
from hetsim.planner.teams import Draft, Team

MOVES = (-1, 1, -2, 2)
"""By how many layers a stage's end is moved."""

MOST_ADDED = 3
"""Replicas that are tried, of all that are known, on devices that a draft leaves idle."""


def neighbours(problem: HybridProblem, draft: Draft, known: Sequence[KnownCut]) -> Iterator[Draft]:
    """Drafts that differ from `draft` in one replica more, of `known`, the most promising first, on devices that are idle or that
    one replica gives up; then those that differ in one team: where it is cut, in which order, into which microbatches, how many
    there are."""
    yield from _with_one_more(problem, draft, known)
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


def _with_one_more(problem: HybridProblem, draft: Draft, known: Sequence[KnownCut]) -> Iterator[Draft]:
    idle = np.array(problem.available) - np.sum([team.number * _usage(problem, team) for team in draft], axis=0)
    more = [*_copies(problem, draft), *known]
    for place in (None, *range(len(draft))):
        kept, free, given_up = draft, idle, None
        if place is not None:
            team = draft[place]
            given_up = team.known
            fewer = replace(team, number=team.number - 1)
            kept = (*draft[:place], *((fewer,) if fewer.number else ()), *draft[place + 1 :])
            free = idle + _usage(problem, team)
        fitting = (cut for cut in more if cut is not given_up and (problem.usage[cut.row] <= free).all())
        for cut in islice(fitting, MOST_ADDED):
            if any(team.known is cut for team in kept):
                yield tuple(replace(team, number=team.number + (team.known is cut)) for team in kept)
            else:
                yield (*kept, Team(cut, -1, 1))


def _copies(problem: HybridProblem, draft: Draft) -> Iterator[KnownCut]:
    """The replicas of `draft` that are cut, as they are and with all places of one kind on another: cut at the same layers, they
    exchange the same buckets."""
    for team in draft:
        if team.known is None:
            continue
        yield team.known
        kinds = team.known.cut.kinds
        for old, new in product(dict.fromkeys(kinds), range(len(problem.kinds))):
            other = tuple(new if kind == old else kind for kind in kinds)
            shape = tuple(other.count(kind) for kind in range(len(problem.kinds)))
            if old != new and shape in problem.shapes:
                cut = Cut(other, team.known.cut.cuts)
                yield replace(team.known, row=problem.shapes.index(shape), cut=cut)


def _usage(problem: HybridProblem, team: Team) -> Ints:
    """Devices by type of one of the team's replicas."""
    row = len(problem.shapes) + team.kind if team.known is None else team.known.row
    return np.asarray(problem.usage[row])


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
