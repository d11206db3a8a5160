"""The family of hybrids: drafts of the joint search are made into plans, and drafts near the best of them are tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from hetsim.costs import CostModel
from hetsim.plan import Plan, Replica
from hetsim.planner.drafting import proposals
from hetsim.planner.families import WORTH_A_LOOK, BestStep, Effort, Family, Take, check_length, deeper_than
from hetsim.planner.hybrid_problem import HybridProblem
from hetsim.planner.joint import JointSearch
from hetsim.planner.known import KnownCut
from hetsim.planner.neighbours import neighbours
from hetsim.planner.teams import Draft
from hetsim.planner.watch import Watch
from hetsim.scenario.types import Search
from hetsim.workload import Training

FAR = 1.1
"""A plan whose step is more than so many times the best one is not tried under another schedule."""

WORTH_OF_MANY = ((2_000, 1.0), (10_000, 0.97))
"""(forwards and backwards, what a look is worth from so many on): large plans take long to evaluate, and are expected to take less
than they do."""

LEARNT = 4
"""Large plans whose replicas are cut in several ways wait for each other's gradients, which no estimate sees. After so many of them
the least by which they took longer is expected of all."""

IMPROVING_ACTIONS = 20_000
"""So many forwards and backwards are evaluated of plans near the best: of large plans fewer."""


def hybrids(
    costs: CostModel, training: Training, search: Search, take: Take, best_s: BestStep, watch: Watch, effort: Effort
) -> Family:
    """Several replicas, one of them of several stages. Raises InputError where the chain is too long to price all of its stages."""
    check_length(costs)
    counts = tuple(sorted({1, *search.microbatches}))
    problem = HybridProblem(costs, training, search.sizes(training.global_batch), counts)
    if not problem.tables or not problem.shapes or len(costs.cluster.devices) < 3:
        return Family("hybrids", float("inf"))
    found, drafts = JointSearch(problem), _Drafts(problem, search, take, best_s)
    for draft in found.run(best_s, effort.gap, effort.replicas, watch):
        watch.report("hybrids", best_s(), found.bound_s)
        drafts.evaluate(draft)
    if found.bound_s < best_s() / (1 + effort.gap):
        drafts.improve(found.cuts(best_s()), effort.neighbours, watch)
    # A replica that is cut exactly, for one number of microbatches, settles no case: all are ruled out together, or none is.
    unsearched = deeper_than("hybrids with replicas", problem.shapes, problem.deepest)
    return Family("hybrids", found.bound_s, found.considered, unsearched=unsearched)


@dataclass
class _Drafts:
    """Drafts that are evaluated, each as all plans that it can become."""

    problem: HybridProblem
    search: Search
    take: Take
    best_s: BestStep
    steps_s: dict[Draft, float] = field(default_factory=dict)
    """What was evaluated -> its step; of large plans only those that were the best at their time."""

    actions: int = 0
    """Forwards and backwards of the plans that were evaluated."""

    _seen: set[Plan] = field(default_factory=set)
    _longer: list[float] = field(default_factory=list)
    """How many times their estimates the steps of large plans were, with replicas that are cut in several ways."""

    def evaluate(self, draft: Draft) -> None:
        """Take the plans of `draft` that may be as good as the best."""
        hopeless: set[tuple[Replica, ...]] = set()
        for proposal in proposals(self.problem, draft, self.search.plain_schedules):
            plan = proposal.plan
            actions = sum(2 * replica.microbatches * len(replica.stages) for replica in plan.replicas)
            worth = min([WORTH_A_LOOK, *(worth for many, worth in WORTH_OF_MANY if actions >= many)])
            if proposal.objective_s > worth * self.best_s() or plan in self._seen or plan.replicas in hopeless:
                continue
            is_guess = actions >= WORTH_OF_MANY[0][0] and sum(team.known is not None for team in draft) > 1
            if is_guess and len(self._longer) >= LEARNT and proposal.objective_s * min(self._longer) > self.best_s():
                continue
            self._seen.add(plan)
            self.actions += actions
            step_s = self.take(proposal)
            if is_guess and step_s < float("inf"):
                self._longer.append(step_s / proposal.objective_s)
            if actions < WORTH_OF_MANY[0][0] or step_s < min(self.steps_s.values(), default=float("inf")):
                self.steps_s[draft] = min(step_s, self.steps_s.get(draft, step_s))
            if FAR * self.best_s() < step_s < float("inf"):
                hopeless.add(plan.replicas)  # another schedule will not make up for that

    def improve(self, known: Sequence[KnownCut], most: int, watch: Watch) -> None:
        """Look at drafts near the best one, from a better one on as soon as there is one; where there is none, near the next best.

        `known`: replicas that may be added to one. That ends when `most` were tried, or `IMPROVING_ACTIONS` evaluated.
        """
        left, enough, seen = most, self.actions + IMPROVING_ACTIONS, set[Draft]()
        while fresh := {draft: step_s for draft, step_s in self.steps_s.items() if draft not in seen}:
            best = min(fresh, key=lambda draft: fresh[draft])
            seen.add(best)
            for draft in islice(neighbours(self.problem, best, known), left):
                left -= 1
                self.evaluate(draft)
                if watch.over or self.actions > enough or not left:
                    return
                if self.steps_s.get(draft, float("inf")) < fresh[best]:
                    break
