"""Plans from the teams that the joint search finds: exact shares of the batch, and devices."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hetsim.plan import PlainScheduleName, Plan, Replica, Stage
from hetsim.planner.cut_value import value_s
from hetsim.planner.hybrid_problem import HybridProblem
from hetsim.planner.placing import Places, place_by_replica, place_by_stage, place_heavy_together
from hetsim.planner.result import Proposal
from hetsim.planner.share_sum import Group, Pieces, smallest_maximum
from hetsim.planner.shortest_cut import Cut
from hetsim.planner.teams import Draft, Team

MOST_PIECES = 4096
"""Numbers of microbatches for which a replica's costs are worked out."""


def proposals(problem: HybridProblem, draft: Draft, schedules: Sequence[PlainScheduleName]) -> Iterator[Proposal]:
    """The plans that the teams of `draft` can make, each with what it is expected to take; none where no shares add up."""
    batch = problem.training.global_batch
    holders = sum(team.number for team in draft)
    if holders < 2:
        return  # one pipeline, which is a family of its own
    options = [_options(problem, team, holders) for team in draft]
    groups = [Group(team.number, tuple(o.pieces for o in mine)) for team, mine in zip(draft, options, strict=True)]
    best = smallest_maximum(groups, batch)
    if best is None:
        return
    replicas: list[tuple[Team, _Option, int]] = []
    for team, mine, shares in zip(draft, options, best.shares, strict=True):
        for share in shares:
            usable = [o for o in mine if share % o.pieces.count == 0 and share // o.pieces.count < len(o.pieces.cost)]
            replicas.append((team, min(usable, key=lambda o: float(o.pieces.cost[share // o.pieces.count])), share))
    rows = [[problem.kinds[kind] for kind in option.cut.kinds] for _, option, _ in replicas]
    heavy = _holding(problem.heaviest_layer, [option.cut for _, option, _ in replicas])
    cluster, done = problem.costs.cluster, set[str]()
    for places in (
        place_by_replica(cluster, rows),
        place_by_stage(cluster, rows),
        place_heavy_together(cluster, rows, heavy),
    ):
        if places is None:
            continue
        made = tuple(_replica(option, share, p) for (_, option, share), p in zip(replicas, places, strict=True))
        pipelined = any(replica.is_pipelined for replica in made)
        for schedule in schedules if pipelined else schedules[:1]:
            plan = Plan(made, schedule)
            if str(plan) not in done:
                done.add(str(plan))
                yield Proposal(plan, best.largest)


def _holding(layer: int, cuts: Iterable[Cut]) -> list[int]:
    """The number of the stage that holds `layer`, of each cut."""
    return [bisect_right(cut.cuts, layer) - 1 for cut in cuts]


@dataclass(frozen=True, slots=True)
class _Option:
    """A way for a team's replicas to take their shares."""

    pieces: Pieces
    cut: Cut
    samples: int
    """In a microbatch; 0: a device alone, for which the pieces tell the number of microbatches."""


def _options(problem: HybridProblem, team: Team, holders: int) -> list[_Option]:
    if team.known is None:
        cut = Cut((team.kind,), (0, len(problem.costs.chain)))
        return [_Option(pieces, cut, 0) for pieces in problem.alone_pieces(team.kind, holders)]
    cut, own = team.known.cut, team.known.grid.microbatch
    found = []
    for table in problem.tables:
        size = table.grid.microbatch
        if size == own or (size == 1 and own > 1):
            most = min(problem.training.global_batch // size, MOST_PIECES)
            cost = value_s(table.grid, cut, np.arange(most + 1), holders)
            if len(cut.kinds) > 1:
                cost[1] = np.inf  # a single microbatch is not in flight with others, and costs differ
            found.append(_Option(Pieces(size, cost), cut, size))
    return found


def _replica(option: _Option, share: int, places: Places) -> Replica:
    stages = tuple(
        Stage(devices[0], start, stop, devices[1:])
        for devices, start, stop in zip(places, option.cut.cuts, option.cut.cuts[1:], strict=False)
    )
    return Replica(stages, share, share // option.samples if option.samples else option.pieces.count)
