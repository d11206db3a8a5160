"""The joint search: which devices form which replica, where each is cut, how many microbatches of which size it takes.

Whether a step of T seconds is possible is asked for one T after another, first just below the best plan, then for shorter ones.
Within T a replica of a shape takes some number of samples at most, and the replicas together have to take the whole batch: a
knapsack, whose linear relaxation gives each device a price in samples. T is ruled out when no replica of any shape takes more
within T than its devices' prices, slack included (column generation; Gilmore & Gomory 1961). Bounds that cost next to nothing
(`capacity`, `holdings`) settle that for most shapes; for the others the exact cut (`replica_split`) either rules it out or is a
replica worth having, with which the prices are worked out anew. Replicas that are known are packed into plans (`teams`).

How long an exchange of gradients takes at least depends on the number of replicas and on the single devices among them: both are
assumed in ranges, which are divided where T cannot be ruled out. Where a gap is left, the same is asked once more with what
replicas put on the links that they share (`hopes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from hetsim.planner.families import WORTH_A_LOOK
from hetsim.planner.hopes import Hopes
from hetsim.planner.hybrid_problem import HybridProblem
from hetsim.planner.known import Known, KnownCut, Others
from hetsim.planner.packing import relaxed
from hetsim.planner.questions import Questions
from hetsim.planner.replica_split import ReplicaSplit
from hetsim.planner.stage_costs import Floats, Ints
from hetsim.planner.teams import NEAR, SURE, Alike, Draft, Team, alike, columns_of, packed
from hetsim.planner.watch import Watch

WORTH_DIVIDING = 1.1
"""Ranges are divided once a step is ruled out that takes more than work alone; or one is possible that is so near to that."""

NEXT_GAP = 0.5
"""How far below a T that is possible the next one is, as long as none is ruled out."""

SHORTEST_S = 1e-9
"""Of a step, unless it takes no time: steps are whole nanoseconds."""

PATIENCE = 40
"""Questions after which a search that came no nearer ends."""

PATIENCE_WITH_LINKS = 25
"""The same where links are counted."""

MOST_WITH_LINKS = 600
"""Cuts that are looked for there."""

LEAST_PROGRESS = 0.005
"""By how much, relative, it has to have come nearer."""

ALIKE = 60
"""Ways to make all replicas alike that are looked at."""

DISAPPOINTING = 12
"""So many in a row that were no better than what was known are enough."""

ASSUMED = 3
"""Times that replicas are packed on what was assumed of the last ones."""

WORTH_HAVING = 6
"""Replicas that are found before the prices are worked out anew, where they are not."""


@dataclass(slots=True)
class _Range:
    """Plans of `fewest` to `most` replicas."""

    fewest: int
    most: int
    banned: frozenset[int] = frozenset()
    """Kinds of which no replica is a single device."""

    used: frozenset[int] = frozenset()
    """Kinds of which one is."""

    low_s: float = 0.0
    """No shorter step is possible."""

    high_s: float = np.inf
    """The shortest that could not be ruled out."""

    alone: tuple[int, ...] = ()
    """Kinds of single devices on which that rests."""

    is_new: bool = False
    """Whether nothing was asked about these plans yet."""

    def next_s(self, best_s: float, gap: float) -> float:
        """The step to ask about: first as near to the best plan as is wanted; where that is possible, one that may be ruled out."""
        goal_s = best_s / (1 + gap)
        if self.high_s > goal_s * (1 + NEAR) and (self.is_new or goal_s < self.low_s * (1 + 4 * gap)):
            return goal_s
        possible_s = min(self.high_s, goal_s)
        return float(np.sqrt(self.low_s * possible_s)) if self.low_s > 0 else possible_s / (1 + NEXT_GAP)

    @property
    def is_settled(self) -> bool:
        """Whether asking further would tell nothing."""
        return self.high_s < max(self.low_s * (1 + 2 * NEAR), SHORTEST_S)


@dataclass
class JointSearch:
    """The search over hybrids of one problem."""

    problem: HybridProblem
    bound_s: float = 0.0
    """No plan has a shorter step, as far as the search has come."""

    _most_solved: int = 0
    _with_links: bool = False
    _parts: list[_Range] = field(default_factory=list)
    _handed_out: set[Draft] = field(default_factory=set)
    _packed: dict[tuple[Others, int], int] = field(default_factory=dict)
    """What was assumed of the replicas, and how many there could be -> the cuts that were known when they were last packed."""

    def run(self, best_s: Callable[[], float], gap: float, most_solved: int, watch: Watch) -> Iterator[Draft]:
        """Drafts, until no step can be shorter than `best_s()` by more than `gap`, relative, or `most_solved` cuts were looked for.

        `bound_s` rises meanwhile.
        """
        self._most_solved = most_solved
        yield from self._alike_drafts(best_s, watch)
        yield from self._search(best_s, gap, PATIENCE, watch)
        if self.bound_s < best_s() / (1 + gap) and self.problem.crossings.matter:
            self._most_solved, self._with_links = self.solved + MOST_WITH_LINKS, True
            for part in self._parts:
                part.high_s = np.inf
                self._above(part, part.low_s)
            yield from self._search(best_s, gap, PATIENCE_WITH_LINKS, watch)

    @cached_property
    def _places(self) -> Ints:
        """[shape]: places in all."""
        return np.array([sum(shape) for shape in self.problem.shapes], dtype=np.int64)

    @property
    def solved(self) -> int:
        """Questions about single replicas that were answered exactly."""
        return self._questions.solved

    def cuts(self, step_s: float) -> list[KnownCut]:
        """Of each shape the cut that is known to take most within `step_s`, those first that take most for each device."""
        found = [
            (count * cut.grid.microbatch / self.problem.usage[cut.row].sum(), cut)
            for cut, count in self._known.best(step_s, Others(2))
        ]
        return [cut for _, cut in sorted(found, key=lambda row: -row[0])]

    @property
    def considered(self) -> int:
        """Shapes, at each size of a microbatch."""
        return len(self.problem.shapes) * len(self.problem.tables)

    # --- inside ------------------------------------------------------------------------------------------------------

    @cached_property
    def _questions(self) -> Questions:
        return Questions(self.problem)

    @property
    def _known(self) -> Known:
        return self._questions.known

    def _search(self, best_s: Callable[[], float], gap: float, patience: int, watch: Watch) -> Iterator[Draft]:
        """Drafts that come of raising the bound."""
        self._parts, progress = self._parts or self._first_ranges(), _Progress(patience)
        while self._parts:
            part = min(self._parts, key=lambda part: part.low_s)
            shortest_s = min(best_s(), self.problem.some_step_s)
            self.bound_s = min(part.low_s, best_s())
            enough = part.low_s >= shortest_s / (1 + gap) or part.is_settled
            if enough or self.solved >= self._most_solved or watch.over or progress.stalls(self.bound_s, shortest_s):
                return
            step_s, cuts = part.next_s(shortest_s, gap), len(self._known.cuts)
            self._ask(part, step_s)
            part.is_new = False
            if len(self._known.cuts) > cuts or part.low_s < step_s:
                yield from self._drafts(part, step_s, best_s)
            if part.low_s < step_s < best_s() and (
                part.low_s > self.problem.least_s or part.high_s < WORTH_DIVIDING * part.low_s
            ):
                halves = self._halves(part, step_s)
                self._parts = [other for other in self._parts if other is not part or not halves] + halves

    def _first_ranges(self) -> list[_Range]:
        most = min(sum(self.problem.available) - 1, self.problem.training.global_batch)  # one of them has two devices
        firsts = [2**power for power in range(1, most.bit_length())]
        rows = [_Range(first, min(most, 2 * first - 1), is_new=True) for first in firsts if first <= most]
        return [self._above(row, self.problem.least_s) for row in rows]

    def _above(self, part: _Range, low_s: float) -> _Range:
        """`part`, in which no step is shorter than `low_s`, nor than the longest exchange."""
        part.low_s = max(low_s, self.problem.longest_exchange_s(self._others(part)))
        return part

    def _halves(self, part: _Range, step_s: float) -> list[_Range]:
        """Smaller problems that together are `part`; none where it is as small as it gets, or where even the most that could be
        assumed would not rule out `step_s`."""
        strictest = replace(part, fewest=part.most, used=part.used | set(part.alone), low_s=0.0, high_s=np.inf)
        if strictest.used == part.used and strictest.fewest == part.fewest:
            return []
        self._ask(strictest, step_s)
        if strictest.low_s < step_s:
            return []
        if open_kinds := [kind for kind in part.alone if kind not in part.used]:
            kind = max(open_kinds, key=lambda kind: self.problem.curves[self.problem.kinds[kind].device_type].update_s)
            ways = [(part.banned | {kind}, part.used), (part.banned, part.used | {kind})]
            return [self._above(_Range(part.fewest, part.most, *way), part.low_s) for way in ways]
        middle = (part.fewest + part.most) // 2
        ends = [(part.fewest, middle), (middle + 1, part.most)] if part.fewest < part.most else []
        return [self._above(_Range(*end, part.banned, part.used), part.low_s) for end in ends]

    def _ask(self, part: _Range, step_s: float) -> None:
        """Whether the batch can be taken within `step_s`: the part's bounds are moved accordingly."""
        if self._with_links:
            self._ask_with_links(part, step_s)
            return
        others = self._others(part)
        spare_s = step_s - self.problem.last_tensor_s(others)
        if step_s <= self.problem.longest_exchange_s(others):
            part.low_s = max(part.low_s, step_s)
            return
        cheap = np.array([table.most_microbatches(spare_s) for table in self.problem.tables]).T
        most = self._known.limit(cheap, step_s, others)
        batch, low_s = self.problem.training.global_batch * SURE, step_s
        while True:
            alone = {kind: cost for kind, cost in self.problem.alone_at_least_s(others).items() if kind not in part.banned}
            columns = columns_of(self.problem, self._known, others, alone, step_s)
            prices, amounts = relaxed(
                columns.capacities, columns.usage, self.problem.available, part.most, len(columns.cuts)
            )
            if prices.most >= batch:
                used = np.flatnonzero(amounts[len(columns.cuts) :] > 0)
                part.high_s, part.alone = step_s, tuple(columns.alone[column] for column in used)
                return
            limits = prices.raised(batch).of(self.problem.usage[: len(self.problem.shapes)], required=True)
            low_s, found = self._price(most, limits, others, step_s, low_s)
            if not found:
                part.low_s = max(part.low_s, low_s)
                return
            if self.solved >= self._most_solved:
                part.high_s = step_s  # for all that is known
                return

    def _price(self, most: Ints, limits: Floats, others: Others, step_s: float, low_s: float) -> tuple[float, int]:
        """Look for replicas that take more than their price, some of `most` microbatches: how many were found, or not looked for,
        and the step below which there are no others. `most` is lowered where there is none.

        Those come first that take most beyond their price for each device.
        """
        own = self.problem.own
        excess = (most * own - limits[:, None]) / self.problem.usage[: len(self.problem.shapes)].sum(axis=1)[:, None]
        least = np.where(self._places > 1, 2, 1)[:, None]  # a group alone may take its share at once
        needed = np.maximum(least, np.floor(limits[:, None] * (1 + 1e-12) / own).astype(np.int64) + 1)
        self._questions.sift(most, np.where(excess > 0, needed, 0), others, step_s)
        found = 0
        for cell in np.argsort(-excess, axis=None, kind="stable"):
            row, size = (int(place) for place in np.unravel_index(cell, excess.shape))
            count = int(needed[row, size])
            if excess[row, size] <= 0:
                break
            if count > most[row, size]:
                continue
            cut, low_s = self._questions.cut(row, size, count, most, others, step_s, low_s)
            found += cut is not None
            if found == WORTH_HAVING:
                break
            if self.solved >= self._most_solved:
                return low_s, found + 1
        return low_s, found

    def _ask_with_links(self, part: _Range, step_s: float) -> None:
        """The same, with the links of nodes."""
        hopes = Hopes(self._questions, self._others(part), part.banned, part.most, step_s)
        low_s, alone = hopes.rule_out(self._most_solved)
        if low_s is None:
            part.high_s, part.alone = step_s, alone or part.alone
        else:
            part.low_s = max(part.low_s, low_s)

    def _alike_drafts(self, best_s: Callable[[], float], watch: Watch) -> Iterator[Draft]:
        """Replicas that are all alike, the most promising first: those that exchange soonest, then those that compute soonest."""
        ways, tried = alike(self.problem), set[Alike]()
        for order in (ways, sorted(ways, key=lambda way: way.computing_s)):
            fresh = [way for way in order[:ALIKE] if way not in tried]
            tried.update(fresh)
            yield from self._alike_of(fresh, best_s, watch)

    def _alike_of(self, ways: Sequence[Alike], best_s: Callable[[], float], watch: Watch) -> Iterator[Draft]:
        in_vain = 0
        for way in ways:
            if watch.over or in_vain == DISAPPOINTING:
                return
            if way.low_s >= best_s():
                continue
            before_s, grid = best_s(), self.problem.tables[way.size].grid
            self._questions.solved += 1
            found = ReplicaSplit(grid, way.microbatches, way.replicas).best(self.problem.shapes[way.row], best_s())
            if found.cut is not None:
                cut = KnownCut(way.row, grid, found.cut, self.problem.training.global_batch // grid.microbatch)
                team = Team(self._known.add(way.size, cut), -1, way.replicas)
                yield (team,)
                if found.high_s < best_s():
                    yield from self._filled_up(team, way.row)
            in_vain = in_vain + 1 if best_s() >= before_s else 0

    def _filled_up(self, team: Team, row: int) -> Iterator[Draft]:
        """With the devices that alike replicas leave as replicas of their own: those of each kind, and all."""
        left = np.array(self.problem.available) - team.number * self.problem.usage[row]
        alone = [
            Team(None, kind, int(left[self.problem.types.index(self.problem.kinds[kind].device_type)]))
            for kind in self.problem.alone_expected_s(team.number + 1)
        ]
        there = [single for single in alone if single.number]
        yield from ((team, single) for single in there)
        if len(there) > 1:
            yield (team, *there)

    def _drafts(self, part: _Range, low_s: float, best_s: Callable[[], float]) -> Iterator[Draft]:
        """With as few replicas as the part has, and with any number; each once.

        What the exchange takes is first assumed for the part, then for the replicas that were packed on that assumption.
        """
        for most in dict.fromkeys((part.fewest, part.most)):
            others = self._others(part)
            for _ in range(ASSUMED):
                if self._packed.get((others, most)) == len(self._known.cuts):
                    break  # with the same cuts it would be the same draft
                self._packed[others, most] = len(self._known.cuts)
                draft = packed(self.problem, self._known, others, most, low_s, WORTH_A_LOOK * best_s())
                if draft and draft not in self._handed_out:
                    self._handed_out.add(draft)
                    yield draft
                if not draft or (found := self._others_of(draft)) == others:
                    break
                others = found

    def _others(self, part: _Range) -> Others:
        return Others(part.fewest, frozenset(self.problem.kinds[kind].device_type for kind in part.used))

    def _others_of(self, draft: Draft) -> Others:
        alone = frozenset(self.problem.kinds[team.kind].device_type for team in draft if team.known is None)
        return Others(sum(team.number for team in draft), alone)


class _Progress:
    """Whether a search still comes nearer to its end."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._gaps: list[float] = []

    def stalls(self, bound_s: float, best_s: float) -> bool:
        """Whether the gap shrank too little over the last questions, this one with them."""
        self._gaps.append(best_s / bound_s if bound_s > 0 else np.inf)
        if len(self._gaps) <= self._patience or not np.isfinite(self._gaps[-1]):
            return False
        before = self._gaps[-1 - self._patience]
        return before - self._gaps[-1] < LEAST_PROGRESS * self._gaps[-1]
