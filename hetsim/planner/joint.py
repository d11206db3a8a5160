"""The joint search: which devices form which replica, where each is cut, how many microbatches of which size it takes.

Whether a step of T seconds is possible is asked for one T after another, the first well below the best plan, the next nearer to it.
Within T a replica of a shape takes some number of samples at most, and the replicas together have to take the whole batch: a
knapsack, whose linear relaxation gives each device a price in samples. T is ruled out when no replica of any shape takes more within T
than its devices' prices, slack included (column generation; Dantzig & Wolfe 1960, Gilmore & Gomory 1961). A bound that costs nothing
(`capacity`) settles that for most shapes; for the others the exact cut (`replica_split`) either rules it out or is a replica worth
having, with which the prices are worked out anew. What the relaxation is made of is packed into whole replicas, which make plans.

How long an exchange of gradients takes at least depends on the number of replicas and on the single devices among them: both are
assumed in ranges, which are divided where T cannot be ruled out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from hetsim.costs import CostModel
from hetsim.planner.batch_split import whole_chain_buckets
from hetsim.planner.capacity import SizeTable, microbatch_grid, shapes_of, size_table
from hetsim.planner.exchange_floor import ExchangeFloor
from hetsim.planner.kinds import Kind, devices_used, kinds_of
from hetsim.planner.known import Known, KnownCut, Others
from hetsim.planner.packing import pack, relaxed
from hetsim.planner.replica_split import ReplicaSplit
from hetsim.planner.share_costs import ShareCosts, share_costs
from hetsim.planner.share_sum import Pieces
from hetsim.planner.shortest_cut import Shape
from hetsim.planner.stage_costs import Floats, Ints
from hetsim.planner.stage_grid import StageGrid
from hetsim.planner.watch import Watch
from hetsim.workload import Training

MOST_STAGES = 16
"""Replicas of hybrids are no longer."""

MOST_SHAPES = 1000
"""Where there are more, replicas are shorter."""

WORTH_DIVIDING = 1.1
"""Ranges are divided once a step is ruled out that takes more than work alone; or one is possible that is so near to that."""

NEXT_GAP = 0.5
"""How far below a T that is possible the next one is, as long as none is ruled out."""

PATIENCE = 60
"""Questions after which a search that came no nearer ends."""

LEAST_PROGRESS = 0.005
"""By how much, relative, it has to have come nearer."""

ALIKE = 24
"""Ways to make all replicas alike that are looked at."""

DISAPPOINTING = 5
"""So many in a row that were no better than what was known are enough."""

WORTH_HAVING = 6
"""Replicas that are found before the prices are worked out anew."""

NEAR = 2e-3
"""Relative. How exactly the least T at which replicas can be packed is found."""

SURE = 1 - 1e-9
"""Of the batch: what sums of fractions are exact to."""


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
        return (
            float(np.sqrt(self.low_s * min(self.high_s, goal_s)))
            if self.low_s > 0
            else min(self.high_s, goal_s) / (1 + NEXT_GAP)
        )

    @property
    def is_settled(self) -> bool:
        """Whether asking further would tell nothing."""
        return self.high_s < self.low_s * (1 + 2 * NEAR)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Replicas that are possible within some time: first those that are cut, then single devices."""

    capacities: Floats
    usage: Ints
    cuts: list[KnownCut]
    alone: list[int]
    """Kinds."""


@dataclass
class JointSearch:
    """The search over hybrids of one problem."""

    costs: CostModel
    training: Training
    sizes: Sequence[int]
    """Microbatch sizes of replicas of several stages."""

    counts: Sequence[int]
    """Numbers of microbatches of replicas of one device."""

    bound_s: float = 0.0
    """No plan has a shorter step, as far as the search has come."""

    solved: int = 0
    """Questions about single replicas that were answered exactly."""

    _known: Known = field(default_factory=Known)
    _handed_out: set[Draft] = field(default_factory=set)

    def run(self, best_s: Callable[[], float], gap: float, most_solved: int, watch: Watch) -> Iterator[Draft]:
        """Drafts, until no step can be shorter than `best_s()` by more than `gap`, relative, or `most_solved` questions are answered.

        `bound_s` rises meanwhile.
        """
        yield from self._alike_drafts(best_s, watch)
        parts, progress = self._first_ranges(), _Progress()
        while parts:
            part = min(parts, key=lambda part: part.low_s)
            shortest_s = min(best_s(), self._some_step_s)
            self.bound_s = min(part.low_s, best_s())
            enough = part.low_s >= shortest_s / (1 + gap) or part.is_settled
            if enough or self.solved >= most_solved or watch.over or progress.stalls(self.bound_s, shortest_s):
                return
            step_s, cuts = part.next_s(shortest_s, gap), len(self._known.cuts)
            self._ask(part, step_s)
            part.is_new = False
            if len(self._known.cuts) > cuts or part.low_s < step_s:
                yield from self._drafts(part, step_s, best_s)
            if part.low_s < step_s < best_s() and (part.low_s > self._least_s or part.high_s < WORTH_DIVIDING * part.low_s):
                halves = self._halves(part, step_s)
                parts = [other for other in parts if other is not part or not halves] + halves

    def alone_pieces(self, number: int, holders: int) -> tuple[Pieces, ...]:
        """What shares cost a device of kind `number` that holds the whole chain beside `holders` - 1 other replicas."""
        kind = self.kinds[number]
        curves = self._curves.get(kind.device_type)
        if kind.width > 1 or curves is None:
            return ()
        sizes = np.array([bucket.size_bytes for bucket in whole_chain_buckets(self.costs.chain)], dtype=float)
        tails_s = np.cumsum(self.floor.reduce_s(holders, sizes)[::-1])[::-1]
        return curves.together(self.counts, tails_s, curves.update_s)

    @property
    def considered(self) -> int:
        """Shapes, at each size of a microbatch."""
        return len(self.shapes) * len(self.tables)

    @property
    def looked_at(self) -> int:
        """Those of them that something was found out about."""
        facts = {(fact.row, fact.size) for fact in self._known.too_many}
        return len(facts | {(row, size) for row, size, _ in self._known.cuts})

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """Places for stages."""
        return kinds_of(self.costs)

    @cached_property
    def types(self) -> list[str]:
        """Device types, in the order of the cluster."""
        return [kind.name for kind in self.costs.cluster.used_types]

    @cached_property
    def available(self) -> list[int]:
        """Devices by type."""
        return [sum(device.type == name for device in self.costs.cluster.devices) for name in self.types]

    @cached_property
    def floor(self) -> ExchangeFloor:
        """What communication takes at least."""
        return ExchangeFloor(self.costs)

    @cached_property
    def shapes(self) -> list[Shape]:
        """Shapes of replicas that the tables are about."""
        deepest = min(len(self.costs.chain), sum(self.available) - 1, MOST_STAGES)
        return shapes_of([kind.count for kind in self.kinds], [kind.width for kind in self.kinds], deepest, MOST_SHAPES)

    @cached_property
    def tables(self) -> list[SizeTable]:
        """The least steps of all shapes that cost nothing to know, by microbatch size."""
        batch = self.training.global_batch
        grids = [StageGrid(self.costs, self.training, self.kinds, size, self.floor) for size in self.sizes]
        usable = [grid for grid in grids if 2 * grid.microbatch <= batch]
        return [size_table(grid, self.shapes, microbatch_grid(batch // grid.microbatch)) for grid in usable]

    # --- inside ------------------------------------------------------------------------------------------------------

    def _first_ranges(self) -> list[_Range]:
        most = min(sum(self.available) - 1, self.training.global_batch)  # one of them has two devices
        firsts = [2**power for power in range(1, most.bit_length())]
        least_s = self._least_s
        return [_Range(first, min(most, 2 * first - 1), low_s=least_s, is_new=True) for first in firsts if first <= most]

    def _halves(self, part: _Range, step_s: float) -> list[_Range]:
        """Smaller problems that together are `part`; none where it is as small as it gets, or `step_s` would be possible all the same."""
        strictest = replace(part, fewest=part.most, used=part.used | set(part.alone), low_s=0.0, high_s=np.inf)
        if strictest.used == part.used and strictest.fewest == part.fewest:
            return []
        self._ask(strictest, step_s)
        if strictest.low_s < step_s:
            return []
        if open_kinds := [kind for kind in part.alone if kind not in part.used]:
            kind = max(open_kinds, key=lambda kind: self._curves[self.kinds[kind].device_type].update_s)
            ways = [(part.banned | {kind}, part.used), (part.banned, part.used | {kind})]
            return [_Range(part.fewest, part.most, *way, low_s=part.low_s) for way in ways]
        middle = (part.fewest + part.most) // 2
        ends = [(part.fewest, middle), (middle + 1, part.most)] if part.fewest < part.most else []
        return [_Range(*end, part.banned, part.used, low_s=part.low_s) for end in ends]

    def _ask(self, part: _Range, step_s: float) -> None:
        """Whether the batch can be taken within `step_s`: the part's bounds are moved accordingly."""
        others = Others(part.fewest, frozenset(self.kinds[kind].device_type for kind in part.used))
        spare_s = step_s - self._last_tensor_s(others)
        if step_s <= self._longest_exchange_s(others):
            part.low_s = max(part.low_s, step_s)
            return
        cheap = np.array([table.most_microbatches(spare_s) for table in self.tables]).T
        most = self._known.limit(cheap, step_s, others)
        batch, low_s = self.training.global_batch * SURE, step_s
        while True:
            columns = self._columns(part, step_s, others)
            prices, amounts = relaxed(columns.capacities, columns.usage, self.available, part.most, len(columns.cuts))
            if prices.most >= batch:
                used = np.flatnonzero(amounts[len(columns.cuts) :] > 0)
                part.high_s, part.alone = step_s, tuple(columns.alone[column] for column in used)
                return
            limits = prices.raised(batch).of(self._usage[: len(self.shapes)], required=True)
            low_s, found = self._price(most, limits, others, step_s, low_s)
            if not found:
                part.low_s = max(part.low_s, low_s)
                return

    def _price(self, most: Ints, limits: Floats, others: Others, step_s: float, low_s: float) -> tuple[float, int]:
        """Look for replicas that take more than their price, some of `most` microbatches: how many were found, and the step below
        which there are no others. `most` is lowered where there is none.

        Those come first that take most beyond their price for each device.
        """
        own = np.array([table.grid.microbatch for table in self.tables])
        excess = (most * own - limits[:, None]) / self._usage[: len(self.shapes)].sum(axis=1)[:, None]
        needed = np.maximum(2, np.floor(limits[:, None] * (1 + 1e-12) / own).astype(np.int64) + 1)
        self._sift(most, needed, excess, others, step_s)
        found = 0
        for cell in np.argsort(-excess, axis=None, kind="stable"):
            row, size = (int(place) for place in np.unravel_index(cell, excess.shape))
            count = int(needed[row, size])
            if excess[row, size] <= 0:
                break
            if count > most[row, size]:
                continue
            cut, low_s = self._try(row, size, count, most, others, step_s, low_s)
            if cut is not None:
                found += 1
                if found == WORTH_HAVING:
                    break
        return low_s, found

    def _try(
        self, row: int, size: int, count: int, most: Ints, others: Others, step_s: float, low_s: float
    ) -> tuple[KnownCut | None, float]:
        """A cut that takes so many microbatches within `step_s`, and `low_s`; where there is none, `most` is lowered."""
        grid = self.tables[size].grid
        self.solved += 1
        found = ReplicaSplit(grid, count, others.holders, others.devices).within(self.shapes[row], step_s)
        if found.cut is None:
            most[row, size] = count - 1
            self._known.rule_out(row, size, count, found.low_s, others)
            return None, min(low_s, found.low_s)
        cut = KnownCut(row, grid, found.cut, self.training.global_batch // grid.microbatch)
        return self._known.add(size, cut), low_s

    def _sift(self, most: Ints, needed: Ints, excess: Floats, others: Others, step_s: float) -> None:
        """Lower `most` where it is soon seen that what is `needed` is too much."""
        spare_s = step_s - self._last_tensor_s(others)
        for size, table in enumerate(self.tables):
            rows = np.flatnonzero((excess[:, size] > 0) & (needed[:, size] <= most[:, size]))
            counts = needed[rows, size]
            too_many = table.holdings.too_many(rows, counts, spare_s)
            most[rows[too_many], size] = counts[too_many] - 1

    def _columns(self, part: _Range, step_s: float, others: Others) -> _Columns:
        """What is known to be possible within `step_s`."""
        cuts, capacities = [], []
        for cut, count in self._known.best(step_s, others):
            cuts.append(cut)
            capacities.append(float(count * cut.grid.microbatch))
        alone = self._alone(part, others)
        taken = [np.flatnonzero(cost <= step_s) for cost in alone.values()]
        capacities += [float(shares[-1]) if len(shares) else 0.0 for shares in taken]
        rows = [cut.row for cut in cuts] + [len(self.shapes) + kind for kind in alone]
        return _Columns(np.array(capacities), self._usage[rows], cuts, list(alone))

    def _last_tensor_s(self, others: Others) -> float:
        """The exchange of the tensor that comes last, which every replica of several stages waits for."""
        chain = self.costs.chain
        last = next((layer.parameters[0] for layer in chain.layers if layer.parameters), 0) * chain.element_bytes
        return float(self.floor.reduce_s(others.holders, last, others.devices))

    def _longest_exchange_s(self, others: Others) -> float:
        """The exchange of the layer whose gradients take longest, wherever it lies, which no step is shorter than."""
        chain = self.costs.chain
        sizes = np.array([layer.parameter_count for layer in chain.layers]) * chain.element_bytes
        ways = [self.floor.reduce_s(others.holders, sizes, others.devices | {kind.device_type}) for kind in self.kinds]
        return float(np.min(ways, axis=0).max())

    def _alone(self, part: _Range, others: Others) -> dict[int, Floats]:
        """By kind: what each share costs a device that holds the whole chain, at least, beside replicas that are cut anywhere."""
        key = (others, part.banned)
        if key not in self._alone_s:
            self._alone_s[key] = dict(self._work_out_alone(part, others))
        return self._alone_s[key]

    def _work_out_alone(self, part: _Range, others: Others) -> Iterator[tuple[int, Floats]]:
        updates_s = [self._curves[name].update_s for name in others.devices]
        chain = self.costs.chain
        below_bytes = np.cumsum([layer.parameter_count for layer in chain.layers]) * chain.element_bytes
        for number, kind in enumerate(self.kinds):
            curves = self._curves.get(kind.device_type)
            if kind.width > 1 or curves is None or number in part.banned:
                continue
            below_s = self.floor.reduce_s(others.holders, below_bytes, others.devices | {kind.device_type})
            slowest_s = max([curves.update_s, *updates_s])
            yield number, self._by_share(curves.beside(self.counts, below_s, slowest_s))

    def _alike_drafts(self, best_s: Callable[[], float], watch: Watch) -> Iterator[Draft]:
        """As many alike replicas as there are devices for, of each shape that leaves few of them: the quickest first."""
        room = np.array(self.available) // np.maximum(self._usage[: len(self.shapes)], 1)
        number = np.where(self._usage[: len(self.shapes)] > 0, room, sum(self.available)).min(axis=1)
        rows = []
        for size, table in enumerate(self.tables):
            counts = -(-self.training.global_batch // (np.maximum(number, 1) * table.grid.microbatch))
            at = np.minimum(np.searchsorted(table.counts, counts), len(table.counts) - 1)
            low_s = table.least_s[np.arange(len(self.shapes)), at]
            rows += [
                (float(low_s[row]), int(row), size, int(counts[row])) for row in np.flatnonzero((number > 1) & (counts > 1))
            ]
        in_vain = 0
        for low_s, row, size, count in sorted(rows)[:ALIKE]:
            if watch.over or low_s >= best_s() or in_vain == DISAPPOINTING:
                return
            before_s = best_s()
            grid, others = self.tables[size].grid, Others(int(number[row]))
            self.solved += 1
            found = ReplicaSplit(grid, count, others.holders).best(self.shapes[row], best_s())
            if found.cut is not None:
                cut = KnownCut(row, grid, found.cut, self.training.global_batch // grid.microbatch)
                yield (Team(self._known.add(size, cut), -1, others.holders),)
            in_vain = in_vain + 1 if best_s() >= before_s else 0

    def _drafts(self, part: _Range, low_s: float, best_s: Callable[[], float]) -> Iterator[Draft]:
        """With as few replicas as the part has, and with any number; each once."""
        for most in dict.fromkeys((part.fewest, part.most)):
            draft = self._draft(replace(part, most=most), low_s, best_s())
            if draft and draft not in self._handed_out:
                self._handed_out.add(draft)
                yield draft

    def _draft(self, part: _Range, low_s: float, below_s: float) -> Draft:
        """The teams that take the batch soonest, made of replicas that are known; none where none do below `below_s`."""
        others = Others(part.fewest)
        alone = self._alone_as_they_are(part.fewest)

        def columns(step_s: float) -> _Columns:
            found = list(self._known.best(step_s, others))
            capacities = [float(count * cut.grid.microbatch) for cut, count in found]
            capacities += [float(np.flatnonzero(cost <= step_s).max(initial=0)) for cost in alone.values()]
            rows = [cut.row for cut, _ in found] + [len(self.shapes) + kind for kind in alone]
            return _Columns(np.array(capacities), self._usage[rows], [cut for cut, _ in found], list(alone))

        def most(step_s: float) -> float:
            there = columns(step_s)
            return pack(there.capacities, there.usage, self.available, part.most, len(there.cuts), rounded=False).most

        longest_s = below_s if np.isfinite(below_s) else self._some_step_s
        edge_s = _least(most, self.training.global_batch * SURE, min(low_s, longest_s) / 2, longest_s)
        if edge_s is None:
            return ()
        there = columns(edge_s)
        packed = pack(there.capacities, there.usage, self.available, part.most, len(there.cuts))
        teams = []
        for column, number in sorted(Counter(packed.chosen).items()):
            is_cut = column < len(there.cuts)
            known, kind = (there.cuts[column], -1) if is_cut else (None, there.alone[column - len(there.cuts)])
            teams.append(Team(known, kind, number))
        return tuple(teams)

    def _alone_as_they_are(self, holders: int) -> dict[int, Floats]:
        """By kind of single device: what each share costs it, with the buckets of a plan of such devices alone."""
        every = {number: self._by_share(self.alone_pieces(number, holders)) for number in range(len(self.kinds))}
        return {number: best for number, best in every.items() if np.isfinite(best).any()}

    def _by_share(self, options: Sequence[Pieces]) -> Floats:
        """The least cost of each share of the batch."""
        best = np.full(self.training.global_batch + 1, np.inf)
        for pieces in options:
            shares = pieces.count * np.arange(len(pieces.cost))
            best[shares] = np.minimum(best[shares], pieces.cost)
        return best

    @cached_property
    def _usage(self) -> Ints:
        """[column, type]: devices that it uses; first the shapes, then a device of each kind alone."""
        by_kind = np.array(devices_used(self.kinds, self.types), dtype=np.int64).T
        return np.vstack((np.array(self.shapes, dtype=np.int64).reshape(-1, len(self.kinds)) @ by_kind, by_kind))

    @cached_property
    def _curves(self) -> Mapping[str, ShareCosts]:
        return share_costs(self.costs, self.training, self.types, whole_chain_buckets(self.costs.chain))

    @cached_property
    def _alone_s(self) -> dict[tuple[Others, frozenset[int]], dict[int, Floats]]:
        return {}

    @cached_property
    def _least_s(self) -> float:
        """Under every step: all devices work all the time, each at the microbatch size that it is quickest with."""
        samples_per_s = 0.0
        for number, kind in enumerate(self.kinds):
            if kind.width > 1:
                return 0.0  # which devices form groups is not known here
            alone = self._alone(_Range(2, 2), Others(1)).get(number, np.array([0.0, np.inf]))
            rates = [float((np.arange(1, len(alone)) / np.maximum(alone[1:], 1e-12)).max())]
            rates += [table.grid.microbatch * table.holdings.rounds_per_s[number] for table in self.tables]
            samples_per_s += self.available[self.types.index(kind.device_type)] * max(rates)
        return self.training.global_batch / samples_per_s if samples_per_s > 0 else 0.0

    @cached_property
    def _some_step_s(self) -> float:
        """A step long enough for whatever is possible."""
        finite = [table.least_s[np.isfinite(table.least_s)].max(initial=0.0) for table in self.tables]
        for cost in self._alone(_Range(2, 2), Others(2)).values():
            finite.append(cost[np.isfinite(cost)].max(initial=0.0))
        return 2 * float(max(finite, default=0.0)) + 1.0


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
