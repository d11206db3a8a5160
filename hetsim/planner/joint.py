"""The joint search: which devices form which replica, where each is cut, how many microbatches of which size it takes.

Whether a step of T seconds is possible is asked for one T after another, first just below the best plan, then for shorter ones.
Within T a replica of a shape takes some number of samples at most, and the replicas together have to take the whole batch: a
knapsack, whose linear relaxation gives each device a price in samples. The links of nodes, which replicas share, have a
price, too (`market`). Bounds that cost next to nothing (`capacity`, `holdings`) tell what may be hoped of each shape. T is ruled
out when that does not make the batch. Otherwise the shapes on which it rests are looked at: the exact cut (`replica_split`) either
takes more than its price, or less is hoped of the shape from then on; and the prices are worked out anew (column generation, from
above; Gilmore & Gomory 1961). Replicas that are known are packed into plans (`teams`).

How long an exchange of gradients takes at least depends on the number of replicas and on the single devices among them: both are
assumed in ranges, which are divided where T cannot be ruled out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hetsim.planner.hybrid_problem import HybridProblem
from hetsim.planner.known import Known, KnownCut, Others
from hetsim.planner.market import Market
from hetsim.planner.packing import Prices
from hetsim.planner.replica_split import ReplicaSplit
from hetsim.planner.stage_costs import Ints
from hetsim.planner.teams import NEAR, SURE, Alike, Draft, Team, alike, packed
from hetsim.planner.watch import Watch

WORTH_DIVIDING = 1.1
"""Ranges are divided once a step is ruled out that takes more than work alone; or one is possible that is so near to that."""

NEXT_GAP = 0.5
"""How far below a T that is possible the next one is, as long as none is ruled out."""

PATIENCE = 60
"""Questions after which a search that came no nearer ends."""

LEAST_PROGRESS = 0.005
"""By how much, relative, it has to have come nearer."""

ALIKE = 60
"""Ways to make all replicas alike that are looked at."""

DISAPPOINTING = 12
"""So many in a row that were no better than what was known are enough."""

ASSUMED = 3
"""Times that replicas are packed on what was assumed of the last ones."""

MOST_OF_ONE = 150
"""Cuts that are looked for to answer one question."""


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
        return self.high_s < self.low_s * (1 + 2 * NEAR)


@dataclass
class JointSearch:
    """The search over hybrids of one problem."""

    problem: HybridProblem
    bound_s: float = 0.0
    """No plan has a shorter step, as far as the search has come."""

    solved: int = 0
    """Questions about single replicas that were answered exactly."""

    _most_solved: int = 0
    _known: Known = field(default_factory=Known)
    _handed_out: set[Draft] = field(default_factory=set)

    def run(self, best_s: Callable[[], float], gap: float, most_solved: int, watch: Watch) -> Iterator[Draft]:
        """Drafts, until no step can be shorter than `best_s()` by more than `gap`, relative, or `most_solved` cuts were looked for.

        `bound_s` rises meanwhile.
        """
        self._most_solved = most_solved
        yield from self._alike_drafts(best_s, watch)
        parts, progress = self._first_ranges(), _Progress()
        while parts:
            part = min(parts, key=lambda part: part.low_s)
            shortest_s = min(best_s(), self.problem.some_step_s)
            self.bound_s = min(part.low_s, best_s())
            enough = part.low_s >= shortest_s / (1 + gap) or part.is_settled
            if enough or self.solved >= most_solved or watch.over or progress.stalls(self.bound_s, shortest_s):
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
                parts = [other for other in parts if other is not part or not halves] + halves

    @property
    def considered(self) -> int:
        """Shapes, at each size of a microbatch."""
        return len(self.problem.shapes) * len(self.problem.tables)

    # --- inside ------------------------------------------------------------------------------------------------------

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
        others = self._others(part)
        longest_s = self.problem.longest_exchange_s(others)
        if step_s <= longest_s:
            part.low_s = max(part.low_s, step_s)
            return
        spare_s = step_s - self.problem.last_tensor_s(others)
        most = np.array([table.most_microbatches(spare_s) for table in self.problem.tables]).T
        # The longest exchange begins when every replica has all microbatches forward through all stages.
        passed = np.array([table.most_passed(step_s - longest_s) for table in self.problem.tables]).T
        most = self._known.limit(np.minimum(most, np.minimum(passed, self._most_sent(step_s))), step_s, others)
        batch, low_s = self.problem.training.global_batch * SURE, step_s
        market = Market(self.problem, self._known, others, part.banned, part.most, step_s)
        found, enough = True, min(self._most_solved, self.solved + MOST_OF_ONE)
        while True:
            hoped, shapes = market.hoped(most)
            if hoped.most < batch:
                part.low_s = max(part.low_s, low_s)
                return
            if found:
                taken, alone = market.possible()
                if taken >= batch:
                    part.high_s, part.alone = step_s, alone
                    return
            low_s, found, fewer = self._look_at(shapes, most, hoped.scaled(batch), market, low_s)
            if self.solved >= enough or not (found or fewer):
                part.high_s = step_s  # for all that is known
                return

    def _look_at(self, shapes: Ints, most: Ints, prices: Prices, market: Market, low_s: float) -> tuple[float, bool, bool]:
        """See whether replicas of `shapes` take more than their price: the step below which others do not, whether any does, and
        whether `most` was lowered.

        Those come first that take most beyond their price for each device.
        """
        needed, excess = market.offers(most, prices)
        before, found = most.copy(), False
        self._sift(most, np.where(excess > 0, needed, 0), market)
        for row in map(int, shapes):
            for size in map(int, np.argsort(-excess[row], kind="stable")):
                count, known = int(needed[row, size]), self._known.most(row, size, market.step_s, market.others)
                if excess[row, size] <= 0 or self.solved >= self._most_solved:
                    break
                if known >= count:
                    count = max(known + 1, (count + int(most[row, size]) + 1) // 2)
                if count <= most[row, size]:
                    cut, low_s = self._try(row, size, count, most, market, low_s)
                    found = found or cut is not None
        return low_s, found, bool((most < before).any())

    def _most_sent(self, step_s: float) -> Ints:
        """[shape, size]: microbatches whose messages a link carries."""
        sizes = (table.grid.microbatch for table in self.problem.tables)
        return np.array([self.problem.crossings.most_sent(size, step_s) for size in sizes]).T

    def _try(
        self, row: int, size: int, count: int, most: Ints, market: Market, low_s: float
    ) -> tuple[KnownCut | None, float]:
        """A cut that takes so many microbatches within the step, and `low_s`; where there is none, `most` is lowered."""
        grid, others = self.problem.tables[size].grid, market.others
        self.solved += 1
        found = ReplicaSplit(grid, count, others.holders, others.devices).within(self.problem.shapes[row], market.step_s)
        if found.cut is None:
            most[row, size] = count - 1
            self._known.rule_out(row, size, count, found.low_s, others)
            return None, min(low_s, found.low_s)
        cut = KnownCut(row, grid, found.cut, self.problem.training.global_batch // grid.microbatch)
        return self._known.add(size, cut), low_s

    def _sift(self, most: Ints, needed: Ints, market: Market) -> None:
        """Lower `most` where it is soon seen that what is `needed` is too much."""
        spare_s = market.step_s - self.problem.last_tensor_s(market.others)
        for size, table in enumerate(self.problem.tables):
            rows = np.flatnonzero((needed[:, size] > market.passed[:, size]) & (needed[:, size] <= most[:, size]))
            counts = needed[rows, size]
            too_many = table.holdings.too_many(rows, counts, spare_s)
            most[rows[too_many], size] = counts[too_many] - 1
            market.passed[rows[~too_many], size] = counts[~too_many]

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
            self.solved += 1
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
                draft = packed(self.problem, self._known, others, most, low_s, best_s())
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

    def __init__(self) -> None:
        self._gaps: list[float] = []

    def stalls(self, bound_s: float, best_s: float) -> bool:
        """Whether the gap shrank too little over the last `PATIENCE` questions, this one with them."""
        self._gaps.append(best_s / bound_s if bound_s > 0 else np.inf)
        if len(self._gaps) <= PATIENCE or not np.isfinite(self._gaps[-1]):
            return False
        before = self._gaps[-1 - PATIENCE]
        return before - self._gaps[-1] < LEAST_PROGRESS * self._gaps[-1]
