"""What a replica comes to that is cut in a given way: the value that `replica_split` minimises, which tells where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from hetsim.planner.shortest_cut import Cut
from hetsim.planner.stage_costs import Bools, Floats, Ints
from hetsim.planner.stage_grid import StageGrid


def value_s(grid: StageGrid, cut: Cut, counts: Ints, holders: int, beside: frozenset[str] = frozenset()) -> Floats:
    """What is minimised, for one cut and so many microbatches; infinite where the memory does not hold them, and for none.

    No less than what any of its stages takes alone, or has left after the last microbatch has passed.
    """
    extra = counts - 1
    stages = list(zip(cut.kinds, cut.cuts, cut.cuts[1:], strict=False))
    if not all(np.isfinite(grid.first_s[stage]) for stage in stages):
        return np.full(len(counts), np.inf)
    left_s = grid.left_s(holders, beside)
    forward_s = [float(grid.forward_s[stage]) for stage in stages]
    forth_s = [float(grid.one_way_s[a, b, stop]) for (a, _, stop), (b, _, _) in pairwise(stages)]
    back_s = [float(grid.one_way_s[b, a, stop]) for (a, _, stop), (b, _, _) in pairwise(stages)]
    start_s = float(grid.overhead_s[cut.kinds[0]])
    every_s = start_s + sum(float(grid.first_s[stage]) for stage in stages) + extra * max(forward_s)
    seconds, bracket_s, come_s, behind_s = np.zeros(len(counts)), np.zeros(len(counts)), 0.0, 0.0
    for place in reversed(range(len(stages))):
        stage, behind, first_s = stages[place], len(stages) - 1 - place, float(grid.first_s[stages[place]])
        if behind:
            bracket_s = np.maximum(bracket_s, extra * max(forth_s[place], back_s[place]))
            come_s += forth_s[place] + back_s[place]
        bracket_s = np.maximum(bracket_s, extra * grid.period_s[stage] - np.minimum(extra, behind) * forward_s[place])
        between_s = (extra - behind) * grid.period_s[stage] + behind_s
        bracket_s = np.maximum(bracket_s, np.where(extra > behind, between_s, 0.0))
        bracket_s[~grid.fits_counts(*stage, np.minimum(counts, behind + 1), counts)] = np.inf
        come_s, behind_s = come_s + first_s, behind_s + first_s
        alone_s = float(grid.overhead_s[stage[0]]) + first_s + extra * grid.period_s[stage]
        if place == 0 or holders > 1:
            before_s = start_s + sum(forward_s[:place]) + sum(forth_s[:place])
            passed_s = every_s - sum(float(grid.backward_s[other]) for other in stages[:place])
            alone_s = np.maximum(alone_s, np.maximum(before_s + come_s + bracket_s, passed_s if holders > 1 else 0.0))
        seconds = np.maximum(seconds, alone_s + left_s[stage])
    seconds[(counts < 1) | np.isinf(bracket_s)] = np.inf
    return seconds


def longest_link_s(grid: StageGrid, kinds: Sequence[int]) -> float:
    """The longest link between two stages on any of `kinds`; 0 where there is none."""
    there = grid.link_s[np.ix_(kinds, kinds)][:, :, 1:-1]
    return float(there[np.isfinite(there)].max(initial=0.0))


def fills_evenly(stages: Ints, microbatches: Ints, least_weight: Floats, most_weight: Floats) -> Bools:
    """Whether the brackets of a cut are no less than M - 1 times the work of a microbatch, shared perfectly by these weights.

    Take the bracket of each stage, (M - 1 - w) t and the t of all behind it, y times, such that in the sum each t counts by its
    weight: from the first stage on, y is what its weight is above all y before, over M - 1 - w. Whatever the order of the stages,
    all y add up to the sum of weights over M - 1, if none is negative; which is so if no weight is less than the largest one,
    P - 1 times, over M - 2.
    """
    return (microbatches > stages) & ((stages - 1) * most_weight <= (microbatches - 2) * least_weight)
