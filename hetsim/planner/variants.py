"""Variants of good plans: stages that go round their devices several times, and exchanges other than rings.

The searches know one stage a device and rings. What the best of their plans become with another schedule or exchange is tried out:
each pipeline is cut into so many rounds of stages, as evenly as layers allow, and then a layer is moved from stage to stage as long
as that makes it faster; where there are few cuts, all are tried.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise

import numpy as np

from hetsim.costs import CostModel
from hetsim.plan import Exchange, Plan, Replica
from hetsim.planner.evaluation import Evaluations
from hetsim.planner.result import Candidate
from hetsim.planner.stage_costs import Floats, stage_costs
from hetsim.planner.watch import Watch
from hetsim.scenario.types import Search

SEEDS = 8
"""Plans that are varied."""

MOST_ROUNDS = 4
"""Stages of a device."""

MOST_CUTS = 200
"""Cuts of one pipeline that are tried: all of them, where there are no more."""

MOST_SERVERS = 4
"""Nodes that are tried as the only parameter server."""

Cuts = tuple[int, ...]


@dataclass
class Variants:
    """The variants of one problem."""

    costs: CostModel
    search: Search
    evaluations: Evaluations
    watch: Watch
    _cuts: dict[Hashable, Cuts | None] = field(default_factory=dict)

    def run(self) -> int:
        """Let the variants of the best plans be evaluated; returns how many there are. Ctrl-C ends it."""
        tried: set[Plan] = set()
        try:
            # Those that go round their devices come first, and are then exchanged in all ways, too.
            for wanted, variants_of in ((_is_pipeline, self._interleaved), (_is_exchanged, self._exchanged)):
                seeds = [row.plan for row in self.evaluations.ranked(0) if wanted(row)][:SEEDS]
                for plan in (plan for seed in seeds for plan in variants_of(seed)):
                    if self.watch.over:
                        break
                    best = self.evaluations.best_known
                    self.watch.report("variants", best.step_s if best else float("inf"), 0.0)
                    self.evaluations.candidate(plan)
                    tried.add(plan)
        except KeyboardInterrupt:
            self.watch.stopped = True
        return len(tried)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _exchanged(self, plan: Plan) -> Iterator[Plan]:
        for kind in self.search.exchanges:
            if kind == "ps":
                homes = dict.fromkeys(self.costs.cluster.device(name).node for name in plan.devices)
                groups = [tuple(homes), *((home,) for home in list(homes)[:MOST_SERVERS])]
                yield from (replace(plan, exchange=Exchange("ps", servers)) for servers in dict.fromkeys(groups))
            elif kind != "ring":
                yield replace(plan, exchange=Exchange(kind))

    def _interleaved(self, plan: Plan) -> Iterator[Plan]:
        if "interleaved" not in self.search.schedules:
            return
        layers = len(self.costs.chain)
        shortest = min(layers // len(replica.stages) for replica in plan.replicas if replica.is_pipelined)
        for rounds in range(2, min(MOST_ROUNDS, shortest) + 1):
            rows = [self._round(replica, rounds) if replica.is_pipelined else replica for replica in plan.replicas]
            made = [row for row in rows if row is not None]
            if len(made) == len(rows):
                yield Plan(tuple(made), "interleaved")

    def _round(self, replica: Replica, rounds: int) -> Replica | None:
        """`replica` with so many stages a device; None where no cut can be scheduled."""
        kinds = tuple((self.costs.cluster.device(s.device).type, len(s.group)) for s in replica.stages)
        key = (kinds, replica.samples, replica.microbatches, rounds)
        if key not in self._cuts:
            self._cuts[key] = self._best_cuts(replica, rounds)
        cuts = self._cuts[key]
        return None if cuts is None else _cut(replica, cuts)

    def _best_cuts(self, replica: Replica, rounds: int) -> Cuts | None:
        """The cuts of the shortest step of `replica` alone, of those that are tried."""
        layers, stages = len(self.costs.chain), rounds * len(replica.stages)
        tries: dict[Cuts, float] = {}

        def step_s(cuts: Cuts) -> float:
            if cuts not in tries:
                tries[cuts] = self.evaluations.alone_s(_cut(replica, cuts), "interleaved")
            return tries[cuts]

        if math.comb(layers - 1, stages - 1) <= MOST_CUTS:
            every = [(0, *inner, layers) for inner in combinations(range(1, layers), stages - 1)]
            best = min(every, key=step_s)
        else:
            best = self._even_cuts(replica, stages)
            while len(tries) < MOST_CUTS and (better := min(_moved(best), key=step_s, default=best)) != best:
                if step_s(better) >= step_s(best):
                    break
                best = better
        return best if step_s(best) < float("inf") else None

    def _even_cuts(self, replica: Replica, stages: int) -> Cuts:
        """The cuts whose longest stage is shortest, by forward and backward of a microbatch."""
        seconds = self._stage_s(replica)
        layers, devices = len(self.costs.chain), len(replica.stages)
        longest = np.full((stages + 1, layers + 1), np.inf)
        chosen = np.zeros((stages + 1, layers + 1), dtype=np.int64)
        longest[0, 0] = 0.0
        for stage in range(stages):
            own = seconds[stage % devices]
            for stop in range(stage + 1, layers - (stages - stage - 1) + 1):
                options = np.maximum(longest[stage, :stop], own[stop] - own[:stop])
                chosen[stage + 1, stop] = int(options.argmin())
                longest[stage + 1, stop] = options.min()
        cuts = [layers]
        for stage in range(stages, 0, -1):
            cuts.append(int(chosen[stage, cuts[-1]]))
        return tuple(reversed(cuts))

    def _stage_s(self, replica: Replica) -> list[Floats]:
        """For each device of the pipeline, forward and backward of the first n layers; n from 0."""
        rows = []
        for stage in replica.stages:
            kind = self.costs.cluster.device(stage.device).type
            size, width = replica.microbatch_samples, len(stage.group)
            own = stage_costs(self.costs, [kind], size, pipelined=True, width=width)
            rows.append(own.mean_s(replica.microbatches)[0])
        return rows


def _is_pipeline(row: Candidate) -> bool:
    plain = row.plan.schedule != "interleaved"
    return plain and any(replica.is_pipelined for replica in row.plan.replicas)


def _is_exchanged(row: Candidate) -> bool:
    return row.plan.exchange == Exchange() and len(row.plan.replicas) > 1


def _cut(replica: Replica, cuts: Sequence[int]) -> Replica:
    """The devices of `replica`, again and again, with stages between these cuts."""
    devices = len(replica.stages)
    stages = (
        replace(replica.stages[number % devices], start=start, stop=stop)
        for number, (start, stop) in enumerate(pairwise(cuts))
    )
    return replace(replica, stages=tuple(stages))


def _moved(cuts: Cuts) -> Iterator[Cuts]:
    """The same with one cut a layer earlier or later, every stage keeping one."""
    for place in range(1, len(cuts) - 1):
        for cut in (cuts[place] - 1, cuts[place] + 1):
            if cuts[place - 1] < cut < cuts[place + 1]:
                yield (*cuts[:place], cut, *cuts[place + 1 :])
