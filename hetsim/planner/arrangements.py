"""Few arrangements of devices are searched to the end: each that its bound does not rule out, with all shares of the batch.

An arrangement says which devices form which replica, in which order, and where each is cut. The searches over shapes rest on
bounds that no plan needs to reach, and end with a gap; where arrangements can be listed, that is closed. With all replicas known,
the least step of each of them follows from the same bounds (`replica_split.value_s`, `ShareCosts.beside`), that of the arrangement
from the shares that make the largest of them smallest. In this order, plans are evaluated that may be better than the best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, pairwise, permutations, product
from math import comb, prod

import numpy as np

from hetsim.costs import CostModel
from hetsim.plan import PlainScheduleName, Plan, Replica, Stage
from hetsim.planner.cut_value import value_s
from hetsim.planner.families import BestStep, Effort, Family, Take
from hetsim.planner.hybrid_problem import HybridProblem
from hetsim.planner.kinds import Kind, kinds_of
from hetsim.planner.known import Others
from hetsim.planner.pipelines import grids_of
from hetsim.planner.result import Proposal
from hetsim.planner.shortest_cut import Cut
from hetsim.planner.stage_costs import Floats, Ints
from hetsim.planner.stage_grid import StageGrid
from hetsim.planner.watch import Watch
from hetsim.scenario.types import Search
from hetsim.workload import Training

MOST_LISTED_DEVICES = 6
"""Of more, arrangements are not even counted."""

EASY_BATCH = 256
"""Samples up to which the batch does not matter to the work; beyond, an arrangement counts for more, by its square."""


def list_arrangements(
    costs: CostModel,
    training: Training,
    search: Search,
    take: Take,
    best_s: BestStep,
    watch: Watch,
    effort: Effort,
    families: Sequence[Family],
) -> None:
    """Where there are few, look at all arrangements of several stages, and raise the bounds of `families` that they are of."""
    unproven = [family for family in families if family.bound_s < best_s()]
    found = Arrangements(costs, training, search)
    if not unproven or watch.over or not found.are_few(effort.arrangements):
        return
    for proposal in found.run(best_s, effort.listed, watch):
        watch.report("arrangements", best_s(), found.bound_s)
        take(proposal)
    for family in unproven:
        family.bound_s = max(family.bound_s, found.bound_s)


Sorts = tuple[int, ...]
"""Of the devices of a replica's stages, in order."""


@dataclass(frozen=True, slots=True, order=True)
class _Row:
    """A replica of an arrangement."""

    sorts: Sorts
    cuts: tuple[int, ...]
    """Where stages begin and end: 0, …, layers."""


_Arrangement = tuple[_Row, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Shares:
    """The shares of the batch that a replica may take."""

    samples: Ints
    microbatches: Ints
    low_s: Floats
    """The step takes no less."""

    least_s: Floats
    """The least of that, by share of the batch."""


@dataclass
class Arrangements:
    """All plans of several stages, alone or beside other replicas, of one problem."""

    costs: CostModel
    training: Training
    search: Search
    bound_s: float = 0.0
    """No such plan has a shorter step, as far as the search has come."""

    _shares: dict[tuple[Cut, Others], _Shares] = field(default_factory=dict)
    """What a replica may take, by its kinds and cuts and by the others."""

    _exchange_s: dict[Others, float] = field(default_factory=dict)

    def are_few(self, most: int) -> bool:
        """Whether there are no more than so many, large batches aside."""
        if len(self.costs.cluster.devices) > MOST_LISTED_DEVICES or any(kind.width > 1 for kind in self._kinds):
            return False
        number, inner = 0.0, len(self.costs.chain) - 1
        heavy = max(1.0, (self.training.global_batch / EASY_BATCH) ** 2)
        for replicas in self._orders():
            number += heavy * prod(comb(inner, len(sorts) - 1) for sorts in replicas)
            if number > most:
                return False
        return number > 0

    def run(self, best_s: Callable[[], float], most: int, watch: Watch) -> Iterator[Proposal]:
        """Proposals, until nothing is left that may be better than `best_s()`, or `most` were made. `bound_s` rises meanwhile."""
        every: list[tuple[float, _Arrangement]] = []
        for arrangement in self._all():
            if watch.over:
                return
            every.append((self._least_s(arrangement), arrangement))
        made = 0
        for low_s, arrangement in sorted(every):
            self.bound_s = min(low_s, best_s())
            if low_s >= best_s():
                return
            for proposal in self._proposals(arrangement, best_s):
                if made >= most or watch.over:
                    return
                made += 1
                yield proposal
        self.bound_s = best_s()

    # --- what there is -----------------------------------------------------------------------------------------------

    @cached_property
    def _kinds(self) -> tuple[Kind, ...]:
        return kinds_of(self.costs)

    @cached_property
    def _sorts(self) -> list[list[str]]:
        """Devices that are alike in all that plans depend on; none that nothing is priced on."""
        cluster, priced = self.costs.cluster, {kind.device_type for kind in self._kinds}
        all_single = cluster.is_wired or self.costs.table.has_measured_links  # each has links of its own
        found: dict[tuple[str, ...], list[str]] = {}
        for device in cluster.devices:
            if device.type in priced:
                single = (device.name,) if all_single or self.costs.shares_core(device.name) else ()
                found.setdefault((device.type, device.node, *single), []).append(device.name)
        return list(found.values())

    @cached_property
    def _kind_of(self) -> list[int]:
        """By sort: number of its kind."""
        types = [kind.device_type for kind in self._kinds]
        return [types.index(self.costs.cluster.device(devices[0]).type) for devices in self._sorts]

    def _orders(self) -> Iterator[tuple[Sorts, ...]]:
        """The sorts of all replicas, cuts aside."""
        alone = bool({"model_parallel", "pipeline"} & set(self.search.strategies))
        beside = "hybrid" in self.search.strategies
        for replicas in _ways(tuple(map(len, self._sorts)), (), len(self.costs.chain)):
            if any(len(sorts) > 1 for sorts in replicas) and (beside if len(replicas) > 1 else alone):
                yield replicas

    def _all(self) -> Iterator[_Arrangement]:
        layers = len(self.costs.chain)
        for replicas in self._orders():
            ways = [combinations(range(1, layers), len(sorts) - 1) for sorts in replicas]
            for inner in product(*ways):
                made = tuple(_Row(sorts, (0, *cuts, layers)) for sorts, cuts in zip(replicas, inner, strict=True))
                if all(a <= b for a, b in pairwise(made)):
                    yield made

    # --- what it takes at least --------------------------------------------------------------------------------------

    def _least_s(self, arrangement: _Arrangement) -> float:
        others = self._others(arrangement)
        *first, last = [self._shares_of(row, others).least_s for row in arrangement]
        before = _least_largest(first, len(last))[-1]
        step_s = float(np.maximum(before[::-1], last).min())  # all take the whole batch together
        return max(step_s, self._longest_exchange_s(others)) if first else step_s

    def _longest_exchange_s(self, others: Others) -> float:
        if others not in self._exchange_s:
            self._exchange_s[others] = self._problem.longest_exchange_s(others)
        return self._exchange_s[others]

    def _others(self, arrangement: _Arrangement) -> Others:
        kinds = [self._kind_of[row.sorts[0]] for row in arrangement if len(row.sorts) == 1]
        return Others(len(arrangement), frozenset(self._kinds[kind].device_type for kind in kinds))

    def _shares_of(self, row: _Row, others: Others) -> _Shares:
        key = Cut(tuple(self._kind_of[sort] for sort in row.sorts), row.cuts), others
        if key not in self._shares:
            parts = [(samples, counts, low_s) for samples, counts, low_s in self._work_out(*key) if len(samples)]
            samples, counts, low_s = (np.concatenate(column) for column in zip(*parts, strict=True)) if parts else _NOTHING
            possible = np.isfinite(low_s)
            least_s = np.full(self.training.global_batch + 1, np.inf)
            np.minimum.at(least_s, samples, low_s)
            self._shares[key] = _Shares(samples[possible], counts[possible], low_s[possible], least_s)
        return self._shares[key]

    def _work_out(self, cut: Cut, others: Others) -> Iterator[tuple[Ints, Ints, Floats]]:
        """Samples, microbatches and the least step, several shares at a time."""
        batch = self.training.global_batch
        if others.holders == 1:
            for count, grid in self._pipelines.items():
                at = np.array([count], dtype=np.int64)
                yield np.array([batch], dtype=np.int64), at, value_s(grid, cut, at, 1)
        elif len(cut.kinds) == 1:
            for pieces in self._problem.alone_at_least_pieces(others).get(cut.kinds[0], ()):
                sizes = np.arange(len(pieces.cost), dtype=np.int64)
                yield sizes * pieces.count, np.full(len(sizes), pieces.count), pieces.cost
        else:
            for table in self._problem.tables:
                size = table.grid.microbatch
                counts = np.arange(2, batch // size + 1, dtype=np.int64)
                yield counts * size, counts, value_s(table.grid, cut, counts, others.holders, others.single_types)

    @cached_property
    def _problem(self) -> HybridProblem:
        batch, counts = self.training.global_batch, tuple(sorted({1, *self.search.microbatches}))
        return HybridProblem(self.costs, self.training, self.search.sizes(batch), counts)

    @cached_property
    def _pipelines(self) -> dict[int, StageGrid]:
        """By number of microbatches of a replica that has the whole batch."""
        return grids_of(self.costs, self.training, self.search.pipeline_counts)

    # --- plans -------------------------------------------------------------------------------------------------------

    def _proposals(self, arrangement: _Arrangement, best_s: Callable[[], float]) -> Iterator[Proposal]:
        """The plans of an arrangement that may be better than `best_s()`."""
        others = self._others(arrangement)
        rows = [self._shares_of(row, others) for row in arrangement]
        *rest_s, _ = _least_largest([row.least_s for row in reversed(rows)], self.training.global_batch + 1)
        stages = self._placed(arrangement)
        for chosen in self._choices(arrangement, rows, (), self.training.global_batch, rest_s[::-1], best_s):
            replicas = tuple(
                Replica(mine, int(row.samples[place]), int(row.microbatches[place]))
                for mine, row, place in zip(stages, rows, chosen, strict=True)
            )
            low_s = max(float(row.low_s[place]) for row, place in zip(rows, chosen, strict=True))
            for ordered in self._in_orders(replicas):
                for schedule in self._schedules(ordered):
                    yield Proposal(Plan(ordered, schedule), low_s)

    def _choices(
        self,
        arrangement: _Arrangement,
        rows: Sequence[_Shares],
        chosen: tuple[int, ...],
        left: int,
        rest_s: Sequence[Floats],
        best_s: Callable[[], float],
    ) -> Iterator[tuple[int, ...]]:
        """Shares of all replicas, the first of them `chosen`; `rest_s[n][samples]`: the least of all after the n-th."""
        number = len(chosen)
        if number == len(arrangement):
            yield chosen
            return
        mine = rows[number]
        possible = np.flatnonzero((mine.samples <= left) & (mine.low_s < best_s()))
        if number and arrangement[number] == arrangement[number - 1]:
            possible = possible[possible >= chosen[-1]]  # exchanging what two alike replicas take is no other plan
        for place in possible:
            after = left - int(mine.samples[place])
            if max(float(mine.low_s[place]), float(rest_s[number][after])) < best_s():
                yield from self._choices(arrangement, rows, (*chosen, int(place)), after, rest_s, best_s)

    def _placed(self, arrangement: _Arrangement) -> list[tuple[Stage, ...]]:
        free = [iter(devices) for devices in self._sorts]
        return [
            tuple(Stage(next(free[sort]), a, b) for sort, a, b in zip(row.sorts, row.cuts, row.cuts[1:], strict=False))
            for row in arrangement
        ]

    def _in_orders(self, replicas: tuple[Replica, ...]) -> Iterator[tuple[Replica, ...]]:
        """The replicas in every order that may matter: rings go round in it, and of more than three it says over which wires."""
        cluster = self.costs.cluster
        if len(replicas) < 4 or not (cluster.is_wired or len(cluster.nodes) > 1):
            yield replicas
        else:
            yield from ((replicas[0], *others) for others in permutations(replicas[1:]))

    def _schedules(self, replicas: Sequence[Replica]) -> Sequence[PlainScheduleName]:
        return self.search.plain_schedules if any(replica.is_pipelined for replica in replicas) else ("gpipe",)


_NOTHING = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)


def _ways(free: tuple[int, ...], least: Sorts, deepest: int) -> Iterator[tuple[Sorts, ...]]:
    """Ways to form replicas of `free` devices by sort, in rising order from `least` on; some devices may be left."""
    for sorts in _sequences(free, deepest):
        if sorts >= least:
            left = tuple(number - sorts.count(sort) for sort, number in enumerate(free))
            yield (sorts,)
            yield from ((sorts, *others) for others in _ways(left, sorts, deepest))


def _sequences(free: tuple[int, ...], deepest: int) -> Iterator[Sorts]:
    """The sorts of up to `deepest` stages."""
    if deepest == 0:
        return
    for sort, number in enumerate(free):
        if number:
            left = (*free[:sort], number - 1, *free[sort + 1 :])
            yield (sort,)
            yield from ((sort, *rest) for rest in _sequences(left, deepest - 1))


def _least_largest(costs: Sequence[Floats], size: int) -> list[Floats]:
    """[n][samples]: the smallest largest cost of the first n replicas whose shares add up to that, below `size`."""
    nobody = np.full(size, np.inf)
    nobody[0] = 0.0
    tables: list[Floats] = [nobody]
    for cost in costs:
        before, total = tables[-1], np.full(size, np.inf)
        for share in np.flatnonzero(np.isfinite(cost)):
            total[share:] = np.minimum(total[share:], np.maximum(before[: size - share], cost[share]))
        tables.append(total)
    return tables
