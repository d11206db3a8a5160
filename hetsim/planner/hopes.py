"""Whether the batch can be taken within a step by replicas that share the links of their nodes: the same question from above.

Every shape is hoped to take what bounds that cost next to nothing allow (`capacity`, `crossings`). Where these hopes do not make
the batch (`market`), no plan does. Otherwise the shapes on which that rests are looked at, at the prices at which they would just
make it: the exact cut takes more than the price of its shape, or less is hoped of it from then on. The step is possible, for all
that is known, when cuts that were found make the batch. Few cuts are asked for, as only those matter that the best use of devices
and links rests on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hetsim.planner.known import Others
from hetsim.planner.market import Market
from hetsim.planner.packing import Prices
from hetsim.planner.questions import Questions
from hetsim.planner.stage_costs import Ints
from hetsim.planner.teams import SURE

MOST_OF_ONE = 150
"""Cuts that are looked for to answer one question."""


@dataclass
class Hopes:
    """One question: plans beside `others`, of up to `replicas` replicas, within `step_s`."""

    questions: Questions
    others: Others
    banned: frozenset[int]
    """Kinds of which no replica is a single device."""

    replicas: int
    step_s: float

    def rule_out(self, most_solved: int) -> tuple[float | None, tuple[int, ...]]:
        """The step below which there is no plan; None where `step_s` cannot be ruled out, with the kinds of single devices on which
        that rests.

        No more cuts are looked for once there were `most_solved` in all.
        """
        if self.step_s <= self.questions.problem.longest_exchange_s(self.others):
            return self.step_s, ()
        most, low_s, found = self._most(), self.step_s, True
        batch, enough = self._batch * SURE, min(most_solved, self.questions.solved + MOST_OF_ONE)
        while True:
            hoped, shapes = self._market.hoped(most)
            if hoped.most < batch:
                return low_s, ()
            if found:
                taken, alone = self._market.possible()
                if taken >= batch:
                    return None, alone
            low_s, found, fewer = self._look_at(shapes, most, hoped.scaled(batch), low_s, enough)
            if self.questions.solved >= enough or not (found or fewer):
                return None, ()  # for all that is known

    # --- inside ------------------------------------------------------------------------------------------------------

    def _look_at(self, shapes: Ints, most: Ints, prices: Prices, low_s: float, enough: int) -> tuple[float, bool, bool]:
        """See whether replicas of `shapes` take more than their price: the step below which others do not, whether any does, and
        whether `most` was lowered.

        Those come first that take most beyond their price for each device.
        """
        questions, others, step_s = self.questions, self.others, self.step_s
        needed, excess = self._market.offers(most, prices)
        before, found = most.copy(), False
        questions.sift(most, np.where(excess > 0, needed, 0), others, step_s, self._passed)
        for row in map(int, shapes):
            for size in map(int, np.argsort(-excess[row], kind="stable")):
                count, known = int(needed[row, size]), questions.known.most(row, size, step_s, others)
                if excess[row, size] <= 0 or questions.solved >= enough:
                    break
                if known >= count:
                    count = max(known + 1, (count + int(most[row, size]) + 1) // 2)
                if count <= most[row, size]:
                    cut, low_s = questions.cut(row, size, count, most, others, step_s, low_s)
                    found = found or cut is not None
        return low_s, found, bool((most < before).any())

    def _most(self) -> Ints:
        """[shape, size]: more microbatches than these are known not to be possible."""
        problem = self.questions.problem
        spare_s = self.step_s - problem.last_tensor_s(self.others)
        # The longest exchange begins when every replica has all microbatches forward through all stages.
        before_s = self.step_s - problem.longest_exchange_s(self.others)
        limits = [
            (table.most_microbatches(spare_s), table.most_passed(before_s), problem.crossings.most_sent(size, self.step_s))
            for table, size in zip(problem.tables, problem.own.tolist(), strict=True)
        ]
        return self.questions.known.limit(np.array([np.min(row, axis=0) for row in limits]).T, self.step_s, self.others)

    @cached_property
    def _market(self) -> Market:
        questions = self.questions
        return Market(questions.problem, questions.known, self.others, self.banned, self.replicas, self.step_s)

    @cached_property
    def _passed(self) -> Ints:
        """[shape, size]: microbatches of which it is known that a quick look does not rule them out."""
        problem = self.questions.problem
        return np.zeros((len(problem.shapes), len(problem.tables)), dtype=np.int64)

    @property
    def _batch(self) -> int:
        return self.questions.problem.training.global_batch
