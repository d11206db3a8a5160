"""The joint search: which devices form which replica, where each is cut, how many microbatches of which size it takes.

A step of T seconds is possible only if some replicas, made of the devices there are, together take the batch within T. What a
replica of a shape takes is bounded from above by tables (`capacity`), which replicas there can be by a knapsack (`packing`);
the least T at which the knapsack takes the whole batch is under the step of every plan. The shapes on which that T rests are
then solved exactly, which raises it, and the same shapes make plans, whose steps bring down what is known from above; and so on
until the two meet or time is up. How long the exchange of gradients takes at least depends on the number of replicas: ranges of
it are searched best first, and halved where it matters.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hetsim.costs import CostModel
from hetsim.planner.batch_split import whole_chain_buckets
from hetsim.planner.capacity import Column, Columns, SizeTable, microbatch_grid, shapes_of, size_table
from hetsim.planner.exchange_floor import ExchangeFloor
from hetsim.planner.kinds import Kind, devices_used, kinds_of
from hetsim.planner.packing import Packing, pack
from hetsim.planner.replica_split import ReplicaSplit, value_s
from hetsim.planner.share_costs import ShareCosts, share_costs
from hetsim.planner.share_sum import Pieces
from hetsim.planner.shortest_cut import Cut, Shape
from hetsim.planner.stage_costs import Floats, Ints
from hetsim.planner.stage_grid import StageGrid
from hetsim.planner.watch import Watch
from hetsim.workload import Training

NEAR = 1e-3
"""Relative. How exactly the least T is found."""

MOST_STAGES = 16
"""Replicas of hybrids are no longer."""

MOST_SHAPES = 1000
"""Where there are more, replicas are shorter."""

PATIENCE = 12
"""Rounds after which a search that came no nearer ends."""

LEAST_PROGRESS = 0.005
"""By how much, relative, it has to have come nearer."""

SOLVED_AT_ONCE = 6
"""Shapes that are solved before the knapsack is asked again."""


@dataclass(frozen=True, slots=True)
class Team:
    """A replica before it has devices: alike ones are one team with a number."""

    shape: Shape
    column: Column | None
    """None: one device, of the one kind in `shape`, that holds the whole chain."""

    number: int


Draft = tuple[Team, ...]
"""What the search hands out to be made into a plan."""


@dataclass(frozen=True, slots=True)
class _Devices:
    """What is assumed of the replicas that are one device."""

    banned: frozenset[int] = frozenset()
    """Kinds of which there are none."""

    used: frozenset[int] = frozenset()
    """Kinds of which there are some."""


@dataclass(slots=True)
class _Range:
    """Plans of `fewest` to `most` replicas."""

    fewest: int
    most: int
    devices: _Devices
    tables: list[SizeTable]
    alone: Mapping[int, Floats]
    """By kind of one device: what each share costs a device alone, the best number of microbatches taken; index: samples."""

    least_s: float
    """What the step has beside everything in the tables."""


@dataclass
class JointSearch:
    """The search over hybrids of one problem."""

    costs: CostModel
    training: Training
    sizes: Sequence[int]
    """Microbatch sizes of replicas of several stages."""

    counts: Sequence[int]
    """Numbers of microbatches of replicas of one device."""

    columns: Columns = field(default_factory=Columns)
    bound_s: float = 0.0
    """No plan has a shorter step, as far as the search has come."""

    _handed_out: set[Draft] = field(default_factory=set)
    _values: dict[tuple[int, Cut, int], Floats] = field(default_factory=dict)
    """(microbatch size, cut, replicas) -> what each number of microbatches takes."""

    def run(self, best_s: Callable[[], float], gap: float, most_solved: int, watch: Watch) -> Iterator[Draft]:
        """Drafts, better and better, until no step can be shorter than `best_s()` by more than `gap`, relative.

        It ends, too, when `most_solved` replicas were. `bound_s` rises meanwhile; it is never above `best_s()`.
        """
        queue = _Queue()
        for first, last in self._first_ranges():
            if watch.over:
                return
            part = self._range(first, last, _Devices(), None)
            queue.push(self._bound(part, 0.0, best_s()).low_s, part)
        done_s, rounds, progress = np.inf, 0, _Progress()
        while queue:
            low_s, part = queue.pop()
            self.bound_s = min(low_s, done_s, best_s())
            if low_s >= best_s() / (1 + gap) or len(self.columns.solved) >= most_solved or watch.over:
                break
            if progress.stalls(self.bound_s, best_s()):
                break
            found = self._bound(part, low_s, best_s())
            self.bound_s = min(max(low_s, found.low_s), queue.least_s, done_s, best_s())
            if found.unsolved:
                self._solve(part, found.unsolved, best_s() / (1 + gap))
                queue.push(found.low_s, part)
            elif halves := list(self._divide(part, found.alone)):
                for half in halves:
                    queue.push(max(found.low_s, self._bound(half, found.low_s, best_s()).low_s), half)
            else:
                done_s = min(done_s, found.low_s)
            rounds += 1
            known = self._known_teams(part, found.low_s, best_s()) if found.unsolved and rounds % 2 else ()
            for draft in (found.teams, known):
                if draft and draft not in self._handed_out:
                    self._handed_out.add(draft)
                    yield draft
        else:
            self.bound_s = min(done_s, best_s())

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
    def _usage(self) -> Ints:
        """[column, type]: devices that it uses; first the shapes, then a device of each kind alone."""
        by_kind = np.array(devices_used(self.kinds, self.types), dtype=np.int64).T
        return np.vstack((np.array(self.shapes, dtype=np.int64).reshape(-1, len(self.kinds)) @ by_kind, by_kind))

    @cached_property
    def _curves(self) -> dict[str, ShareCosts]:
        buckets = whole_chain_buckets(self.costs.chain)
        return share_costs(self.costs, self.training, self.types, buckets)

    @cached_property
    def tables(self) -> list[SizeTable]:
        """The least steps of all shapes, by microbatch size, as they are before anything is solved."""
        batch = self.training.global_batch
        grids = [StageGrid(self.costs, self.training, self.kinds, size, self.floor) for size in self.sizes]
        usable = [grid for grid in grids if 2 * grid.microbatch <= batch]
        return [size_table(grid, self.shapes, microbatch_grid(batch // grid.microbatch)) for grid in usable]

    # --- inside ------------------------------------------------------------------------------------------------------

    def _divide(self, part: _Range, alone: Sequence[int]) -> Iterator[_Range]:
        """Smaller problems that together are `part`; none where it is as small as it gets.

        `alone`: kinds of single devices on which its bound rests.
        """
        open_kinds = [kind for kind in alone if kind not in part.devices.used]
        if open_kinds:
            kind = max(open_kinds, key=lambda kind: self._curves[self.kinds[kind].device_type].update_s)
            banned, used = part.devices.banned, part.devices.used
            yield self._range(part.fewest, part.most, _Devices(banned | {kind}, used), part)
            yield self._range(part.fewest, part.most, _Devices(banned, used | {kind}), part)
        elif part.fewest < part.most:
            middle = (part.fewest + part.most) // 2
            yield self._range(part.fewest, middle, part.devices, part)
            yield self._range(middle + 1, part.most, part.devices, part)

    def _first_ranges(self) -> Iterator[tuple[int, int]]:
        most = min(sum(self.available), self.training.global_batch)
        first = 2
        while first <= most:
            yield first, min(most, 2 * first - 1)
            first *= 2

    def _range(self, first: int, last: int, devices: _Devices, parent: _Range | None) -> _Range:
        tables = [table.copy() for table in (parent.tables if parent else self.tables)]
        rows = {shape: row for row, shape in enumerate(self.shapes)}
        least_s = self._least_s(first)
        for (shape, size, count, holders, whole), column in self.columns.solved.items():
            if holders <= first and whole <= bool(devices.used):
                table = next(table for table in tables if table.grid.microbatch == size)
                table.tighten(rows[shape], count, column.low_s - least_s, sum(shape))
        return _Range(first, last, devices, tables, self._alone(first, devices), least_s)

    def _least_s(self, holders: int) -> float:
        """The exchange of the tensor that comes last, which every replica of several stages waits for."""
        chain = self.costs.chain
        last = next((layer.parameters[0] for layer in chain.layers if layer.parameters), 0) * chain.element_bytes
        return float(self.floor.reduce_s(holders, last))

    def _alone(self, holders: int, devices: _Devices) -> dict[int, Floats]:
        """What each share costs a device that holds the whole chain, beside `holders` - 1 other replicas."""
        chain = self.costs.chain
        every_s = float(self.floor.reduce_s(holders, chain.parameter_bytes()))
        updates_s = [self._curves[self.kinds[kind].device_type].update_s for kind in devices.used]
        found = {}
        for number, kind in enumerate(self.kinds):
            curves = self._curves.get(kind.device_type)
            if kind.width > 1 or curves is None or number in devices.banned:
                continue
            slowest_s = max([curves.update_s, *updates_s])
            found[number] = self._by_share(curves.beside(self.counts, every_s, self._least_s(holders), slowest_s))
        return found

    def _capacities(self, part: _Range, step_s: float) -> tuple[Floats, Ints]:
        """[column]: the most samples within `step_s`, and the number of the table that says so (-1: a device alone)."""
        found = np.zeros(len(self._usage))
        source = np.full(len(self._usage), -1, dtype=np.int64)
        for number, table in enumerate(part.tables):
            samples = table.grid.microbatch * table.most_microbatches(step_s - part.least_s)
            better = samples > found[: len(self.shapes)]
            found[: len(self.shapes)][better] = samples[better]
            source[: len(self.shapes)][better] = number
        for kind, cost in part.alone.items():
            fitting = np.flatnonzero(cost <= step_s)
            found[len(self.shapes) + kind] = fitting[-1] if len(fitting) else 0
        return found, source

    def _bound(self, part: _Range, low_s: float, high_s: float) -> _Found:
        """The least step at which the batch is taken; not above `high_s`, and then without teams."""
        if not np.isfinite(high_s):
            high_s = self._some_step_s(part)
        edge = self._where_taken(lambda step_s: self._most(part, self._capacities(part, step_s)[0]), low_s, high_s)
        if edge is None:
            return _Found(high_s)
        low_s, high_s = edge
        capacities, source = self._capacities(part, high_s)
        packing = self._pack(part, capacities)
        unsolved = self._unsolved(part, packing.support, capacities, source)
        if unsolved:
            unsolved += self._unsolved(part, self._near(packing.support, capacities), capacities, source)
        alone = [column - len(self.shapes) for column in packing.support if source[column] < 0]
        return _Found(low_s, self._teams(part, packing.chosen, capacities, source), unsolved[:SOLVED_AT_ONCE], alone)

    def _pack(self, part: _Range, capacities: Floats) -> Packing:
        return pack(capacities, self._usage, self.available, part.most, len(self.shapes))

    def _most(self, part: _Range, capacities: Floats) -> float:
        """The samples of the same."""
        return pack(capacities, self._usage, self.available, part.most, len(self.shapes), rounded=False).most

    def _where_taken(self, most: Callable[[float], float], low_s: float, high_s: float) -> tuple[float, float] | None:
        """Steps, `NEAR` to each other, of which the shorter is too short for the batch and the longer is not.

        `most(step)`: samples within a step; about linear, so that interpolation soon leads there. Both are `low_s` where that
        is long enough; None where `high_s` is too short.
        """
        batch = self.training.global_batch * (1 - 1e-9)
        low_s = min(low_s, high_s)
        if (of_high := most(high_s)) < batch:
            return None
        if (of_low := most(low_s) if low_s > 0 else 0.0) >= batch:
            return low_s, low_s
        while high_s - low_s > NEAR * high_s:
            guess_s = low_s + (high_s - low_s) * (batch - of_low) / (of_high - of_low)
            margin_s = max(0.4 * NEAR * high_s, 0.02 * (high_s - low_s))
            for step_s in (guess_s - margin_s, guess_s + margin_s):
                if not low_s < step_s < high_s:
                    continue
                taken = most(step_s)
                if taken >= batch:
                    high_s, of_high = step_s, taken
                    break
                low_s, of_low = step_s, taken
        return low_s, high_s

    def _unsolved(
        self, part: _Range, columns: Sequence[int], capacities: Floats, source: Ints
    ) -> list[tuple[int, int, int]]:
        """Of `columns`, what their capacities rest on and is not solved: (table, shape, number of microbatches)."""
        found = []
        for column in columns:
            if source[column] < 0:
                continue
            table = part.tables[source[column]]
            at = int(np.searchsorted(table.counts, int(capacities[column]) // table.grid.microbatch, side="right")) - 1
            if not table.exact[column, at]:
                found.append((int(source[column]), int(column), int(table.counts[at])))
        return found

    def _known_teams(self, part: _Range, part_low_s: float, below_s: float) -> Draft:
        """The teams that take the batch soonest, made of replicas whose cuts are known; none where none do below `below_s`."""
        rows: list[tuple[int, int, Floats, Column | None]] = [
            (self._rows[shape], size, np.maximum.accumulate(np.append(0.0, cost[1:])), column)
            for (shape, size), (cost, column) in self._known(part.fewest).items()
        ]
        rows += [(len(self.shapes) + kind, 1, cost, None) for kind, cost in self._alone_as_they_are(part.fewest).items()]

        def capacities(step_s: float) -> tuple[Floats, dict[int, Column | None]]:
            found = np.zeros(len(self._usage))
            source: dict[int, Column | None] = {}
            for row, size, cost, column in rows:
                at = int(np.searchsorted(cost, step_s)) - 1 if column else int(np.flatnonzero(cost < step_s).max(initial=0))
                if at * size > found[row]:
                    found[row], source[row] = at * size, column
            return found, source

        longest_s = below_s if np.isfinite(below_s) else self._some_step_s(part)
        edge = self._where_taken(lambda step_s: self._most(part, capacities(step_s)[0]), part_low_s, longest_s)
        if edge is None:
            return ()
        taken, source = capacities(edge[1])
        chosen = sorted(Counter(self._pack(part, taken).chosen).items())
        return tuple(Team(self._shape_of(column), source[column], number) for column, number in chosen)

    def _shape_of(self, column: int) -> Shape:
        if column < len(self.shapes):
            return self.shapes[column]
        return tuple(int(kind == column - len(self.shapes)) for kind in range(len(self.kinds)))

    @cached_property
    def _rows(self) -> dict[Shape, int]:
        return {shape: row for row, shape in enumerate(self.shapes)}

    def _known(self, holders: int) -> dict[tuple[Shape, int], tuple[Floats, Column]]:
        """(shape, microbatch size) -> what each number of microbatches takes by the cut that is best at its own, and that."""
        found: dict[tuple[Shape, int], tuple[Floats, Column]] = {}
        for (shape, size, count, *_), column in self.columns.solved.items():
            if column.cut is None:
                continue
            key = (size, column.cut, holders)
            if key not in self._values:
                self._values[key] = value_s(column.grid, column.cut, self.training.global_batch // size, holders)
            cost = self._values[key]
            if (shape, size) not in found or cost[count] < found[shape, size][0][count]:
                found[shape, size] = (cost, column)
        return found

    def _by_share(self, options: Sequence[Pieces]) -> Floats:
        """The least cost of each share of the batch."""
        best = np.full(self.training.global_batch + 1, np.inf)
        for pieces in options:
            shares = pieces.count * np.arange(len(pieces.cost))
            best[shares] = np.minimum(best[shares], pieces.cost)
        return best

    def _alone_as_they_are(self, holders: int) -> dict[int, Floats]:
        """By kind of single device: what each share costs it, with the buckets of a plan of such devices alone."""
        found = {}
        for number in range(len(self.kinds)):
            best = self._by_share(self.alone_pieces(number, holders))
            if np.isfinite(best).any():
                found[number] = best
        return found

    def _near(self, support: Sequence[int], capacities: Floats) -> list[int]:
        """The shapes that take most for what they use, by the worth of a device that `support` suggests."""
        if not support:
            return []
        usage, taken = self._usage[list(support)], capacities[list(support)]
        worth, *_ = np.linalg.lstsq(usage.astype(float), taken, rcond=None)
        price = self._usage @ np.maximum(worth, 1e-12)
        rank = capacities / np.maximum(price, 1e-12)
        order = np.argsort(-rank, kind="stable")
        return [int(column) for column in order[:SOLVED_AT_ONCE] if column not in support]

    def _some_step_s(self, part: _Range) -> float:
        """A step long enough for whatever is possible."""
        finite = [table.least_s[np.isfinite(table.least_s)].max(initial=0.0) for table in part.tables]
        finite += [cost[np.isfinite(cost)].max(initial=0.0) for cost in part.alone.values()]
        return 2 * max(finite, default=0.0) + 1.0

    def _teams(self, part: _Range, chosen: Sequence[int], capacities: Floats, source: Ints) -> Draft:
        """The chosen columns as teams; none where one of them was not solved or turned out to be impossible."""
        teams = []
        for column, number in Counter(chosen).items():
            shape, nearest = self._shape_of(column), None
            if source[column] >= 0:
                size = part.tables[source[column]].grid.microbatch
                nearest = self._nearest(part, shape, size, int(capacities[column]) // size)
                if nearest is None:
                    return ()
            teams.append(Team(shape, nearest, number))
        return tuple(teams)

    def _nearest(self, part: _Range, shape: Shape, size: int, count: int) -> Column | None:
        """The solved column most like the one that is asked for: under the same assumptions, then in microbatches."""
        whole = bool(part.devices.used)
        rows = [
            ((with_device != whole, abs(holders - part.fewest) > part.fewest, abs(microbatches - count)), column)
            for (s, m, microbatches, holders, with_device), column in self.columns.solved.items()
            if s == shape and m == size and column.cut is not None
        ]
        return min(rows, key=lambda row: row[0], default=(None, None))[1]

    def _solve(self, part: _Range, unsolved: Sequence[tuple[int, int, int]], below_s: float) -> None:
        for number, row, count in unsolved:
            table, shape = part.tables[number], self.shapes[row]
            split = ReplicaSplit(table.grid, count, part.fewest, bool(part.devices.used))
            column = self.columns.solve(shape, split, below_s)
            table.tighten(row, count, column.low_s - part.least_s, sum(shape))
            table.exact[row, table.counts == count] = True


@dataclass(slots=True)
class _Found:
    """The bound of a range, and what it rests on."""

    low_s: float
    teams: Draft = ()
    unsolved: list[tuple[int, int, int]] = field(default_factory=list)
    """(table, shape, number of microbatches)."""

    alone: list[int] = field(default_factory=list)
    """Kinds of single devices."""


class _Progress:
    """Whether a search still comes nearer to its end."""

    def __init__(self) -> None:
        self._gaps: list[float] = []

    def stalls(self, bound_s: float, best_s: float) -> bool:
        """Whether the gap shrank too little over the last `PATIENCE` rounds, this one with them."""
        self._gaps.append(best_s / bound_s if bound_s > 0 else np.inf)
        if len(self._gaps) <= PATIENCE or not np.isfinite(self._gaps[-1]):
            return False
        before = self._gaps[-1 - PATIENCE]
        return before - self._gaps[-1] < LEAST_PROGRESS * self._gaps[-1]


class _Queue:
    """Ranges, that with the lowest bound first."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, int, _Range]] = []
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._rows)

    @property
    def least_s(self) -> float:
        """The lowest bound; infinite where nothing is left."""
        return self._rows[0][0] if self._rows else np.inf

    def push(self, low_s: float, part: _Range) -> None:
        self._number += 1
        heapq.heappush(self._rows, (low_s, self._number, part))

    def pop(self) -> tuple[float, _Range]:
        low_s, _, part = heapq.heappop(self._rows)
        return low_s, part
