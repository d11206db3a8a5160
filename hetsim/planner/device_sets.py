"""The search by money or energy: which devices to use at all, and the shortest step on those.

For a given set of devices a longer step costs more, so the search for steps does the rest; what is searched here is the set.
Sets are numbers of devices of each pool, taken together in boxes from `low` to `high`. A box has a bound (`spending_floor`) that
needs no plan. The box with the least one is looked into first: the shortest step on `high` is searched, which no plan on fewer
devices can be under, and which makes plans; then the box is halved. When no box is left whose bound is under the best plan, that is
the best.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

from hetsim.costs import CostModel
from hetsim.hardware import Node
from hetsim.objective import FIGURES, Figure, format_figure
from hetsim.planner.evaluation import Evaluations, Race
from hetsim.planner.families import Effort
from hetsim.planner.pools import Pool, only
from hetsim.planner.spending_floor import Counts, Host, SpendingFloor
from hetsim.planner.step_search import search_steps
from hetsim.planner.tariff import Tariff
from hetsim.planner.watch import Watch
from hetsim.planner.work_floor import work_floor
from hetsim.scenario.types import Search
from hetsim.workload import Training

MOST_POOLS = 16
"""Where there are more, devices of one type are one pool, wherever they are."""

MOST_BOXES = 4000
"""That are held against their bounds."""


@dataclass(frozen=True, slots=True)
class _Box:
    """Sets of `low` to `high` devices of each pool."""

    low: Counts
    high: Counts
    least_s: float
    """No plan on any of them has a shorter step."""

    searched: bool
    """Whether that on `high` was searched."""

    @property
    def unsolved(self) -> int:
        """How many there are, without the one that was searched and that of no device."""
        every = math.prod(most - fewest + 1 for fewest, most in zip(self.low, self.high, strict=True))
        return every - self.searched - (not any(self.low))


@dataclass
class SetSearch:
    """The search over one problem."""

    costs: CostModel
    training: Training
    search: Search
    tariff: Tariff
    evaluations: Evaluations
    watch: Watch
    effort: Effort
    bound: float = 0.0
    """No plan within the limits has less of what the objective asks for, as far as the search has come; infinite: there is none."""

    solved: int = 1
    """Sets whose shortest step was searched; that of all devices is known before."""

    left_open: int = 0
    """Sets that are neither solved nor ruled out."""

    impossible: int = 0
    """Sets on which no plan keeps the limits."""

    _alike: int = 0
    """Sets that differ from others in nothing but names."""

    _done: float = float("inf")
    """The least bound of single sets that were searched."""

    _queue: list[tuple[float, int, int, _Box]] = field(default_factory=list)
    _pushed: int = 0

    def run(self, least_s: float) -> None:
        """Let the best plans be evaluated. `least_s`: no plan on all devices has a shorter step, which was searched before."""
        whole = tuple(len(pool) for pool in self.pools)
        try:
            self._push(_Box((0,) * len(whole), whole, least_s, searched=True))
            while self._queue:
                self.bound = min(self._queue[0][0], self._done)
                if self._is_closed(self.bound) or self._is_over:
                    break
                self._go_on(*heapq.heappop(self._queue))
            else:
                self.bound = self._done
        except KeyboardInterrupt:
            self.watch.stopped = True
        self.left_open = sum(box.unsolved for bound, _, _, box in self._queue if not self._is_closed(bound))
        self.bound = min(self.bound, self._best)

    @property
    def considered(self) -> int:
        """Sets, alike ones once."""
        return math.prod(len(pool) + 1 for pool in self.pools) - 1 - self._alike

    @cached_property
    def pools(self) -> tuple[Pool, ...]:
        """Devices that are alike: those of a type in one node; single ones, where the links of single devices are known."""
        cluster = self.costs.cluster
        if not self._is_plain and len(cluster.devices) <= MOST_POOLS:
            return tuple(Pool(device.type, (device.name,)) for device in cluster.devices)
        members: dict[tuple[str, str], list[str]] = defaultdict(list)
        by_type: dict[str, list[str]] = defaultdict(list)
        for device in cluster.devices:
            members[device.node, device.type].append(device.name)
            by_type[device.type].append(device.name)
        if not self._is_plain or len(members) > MOST_POOLS:
            return tuple(Pool(kind, tuple(names), alike=False) for kind, names in by_type.items())
        return tuple(Pool(kind, tuple(names)) for (_, kind), names in members.items())

    def least(self, figure: Figure) -> float:
        """Under `figure` of every plan, whatever the limits."""
        whole = tuple(len(pool) for pool in self.pools)
        return replace(self._floor, limits={}).least(figure, (0,) * len(whole), whole)

    # --- inside ------------------------------------------------------------------------------------------------------

    @property
    def _figure(self) -> Figure:
        return self.search.objective.least

    @property
    def _best(self) -> float:
        best = self.evaluations.best
        return float("inf") if best is None else best.figure(self._figure)

    @property
    def _is_over(self) -> bool:
        return self.watch.over or self.solved > self.effort.sets or self._pushed > MOST_BOXES

    def _go_on(self, bound: float, _size: int, _number: int, box: _Box) -> None:
        """One step with the box that has the least bound."""
        if not box.searched:
            self._push(self._looked_into(box))
        elif box.low == box.high:
            self._done = min(self._done, bound)
        else:
            for half in _halves(box):
                self._push(half)

    def _is_closed(self, bound: float) -> bool:
        return bound >= self._best / (1 + self.effort.gap)

    def _push(self, box: _Box) -> None:
        if not any(box.high):
            return
        if self._repeats(box):
            self._alike += box.unsolved
            return
        bound = self._floor.least(self._figure, box.low, box.high, box.least_s)
        if bound == float("inf"):
            self.impossible += box.unsolved
            return
        self._pushed += 1
        # Of boxes with equal bounds the one with fewer devices comes first: it communicates less.
        heapq.heappush(self._queue, (bound, sum(box.high), self._pushed, box))

    def _looked_into(self, box: _Box) -> _Box:
        """`box` with the shortest step on its largest set, searched as far as that can matter."""
        self.solved += 1
        currency, best = self.tariff.economics.currency, self.evaluations.best
        so_far = "none yet" if best is None else format_figure(self._figure, self._best, currency)
        under = format_figure(self._figure, self.bound, currency)
        self.watch.report(
            f"sets of devices ({so_far}, none under {under})", float("inf") if best is None else best.step_s, 0.0
        )
        longest_s = self._floor.longest_s(self._figure, self._best, box.low, box.high, box.least_s)
        cluster = only(self.costs.cluster, self._placed(box.high))
        own = CostModel(self.costs.chain, cluster, self.costs.table)
        found = search_steps(own, self.training, self.search, Race(self.evaluations, longest_s), self.watch, self._share)
        # Variants are no plans of those searches: of them nothing is known but the work that they have to do.
        known = all(pool.alike for pool in self.pools) and not self.search.has_variants
        known_s = found.bound_s if known else 0.0
        return replace(box, least_s=max(box.least_s, known_s), searched=True)

    @property
    def _share(self) -> Effort:
        """What is spent on one set."""
        whole = self.effort
        return replace(
            whole,
            pipelines=whole.pipelines // 4,
            replicas=whole.replicas // 4,
            neighbours=whole.neighbours // 4,
            arrangements=whole.arrangements // 10,
            listed=whole.listed // 10,
        )

    @cached_property
    def _is_plain(self) -> bool:
        """Whether links are given as one for each node and one for the network, and no device has one of its own."""
        return not self.costs.cluster.is_wired and not self.costs.table.has_measured_links

    @cached_property
    def _floor(self) -> SpendingFloor:
        work = work_floor(self.costs, self.training.global_batch)
        rates = {figure: self.tariff.rates(figure) for figure in FIGURES if figure == "time" or figure in self._asked}
        return SpendingFloor(work, self.pools, self._hosts, rates, self.search.objective.limits)

    @property
    def _asked(self) -> tuple[Figure, ...]:
        return self.search.objective.figures

    @cached_property
    def _hosts(self) -> list[Host]:
        """Each node; where pools were merged, all nodes as one kind."""
        nodes = self.costs.cluster.nodes
        if all(pool.alike for pool in self.pools):
            return [_host([node], self.pools) for node in nodes]
        return [_host(nodes, self.pools)]

    @cached_property
    def _twins(self) -> list[tuple[list[int], list[int]]]:
        """Pools of nodes that differ in nothing but names, node by node: each with the next one."""
        if not self._is_plain or not all(pool.alike for pool in self.pools):
            return []
        groups: dict[object, list[list[int]]] = defaultdict(list)
        for node in self.costs.cluster.nodes:
            types = tuple(sorted(Counter(device.type for device in node.devices).items()))
            look = (types, replace(node.link, name=""), node.price, node.power_w)
            mine = [
                number
                for number, pool in enumerate(self.pools)
                if self.costs.cluster.device(pool.devices[0]).node == node.name
            ]
            groups[look].append(sorted(mine, key=lambda number: self.pools[number].device_type))
        return [pair for rows in groups.values() for pair in pairwise(rows)]

    def _repeats(self, box: _Box) -> bool:
        """Whether all of its sets are those of others with the names of nodes exchanged: of like nodes the first is the fullest."""
        return any([box.high[i] for i in first] < [box.low[i] for i in second] for first, second in self._twins)

    def _placed(self, counts: Counts) -> set[str]:
        """So many devices of each pool: the first ones, or those in few nodes and cheap ones where pools reach across nodes."""
        if all(pool.alike for pool in self.pools):
            return {name for pool, count in zip(self.pools, counts, strict=True) for name in pool.devices[:count]}
        wanted = Counter({pool.device_type: count for pool, count in zip(self.pools, counts, strict=True)})
        rate, left, chosen = self.tariff.rates(self._figure).node, list(self.costs.cluster.nodes), set()
        while wanted.total() and left:
            node = max(left, key=lambda node: (len(_given(node, wanted)), -rate[node.name]))
            given = _given(node, wanted)
            chosen.update(given)
            wanted.subtract(self.costs.cluster.device(name).type for name in given)
            left.remove(node)
        return chosen


def _given(node: Node, wanted: Counter[str]) -> list[str]:
    """The devices of `node` that are wanted."""
    still, names = wanted.copy(), []
    for device in node.devices:
        if still[device.type] > 0:
            still[device.type] -= 1
            names.append(device.name)
    return names


def _host(nodes: Sequence[Node], pools: Sequence[Pool]) -> Host:
    most = {}
    for number, pool in enumerate(pools):
        members = set(pool.devices)
        there = max(sum(device.name in members for device in node.devices) for node in nodes)
        if there:
            most[number] = there
    return Host(tuple(node.name for node in nodes), most, max(len(node.devices) for node in nodes))


def _halves(box: _Box) -> Iterator[_Box]:
    """Both halves of a box, cut across the pool with most choice."""
    pool = max(range(len(box.low)), key=lambda number: box.high[number] - box.low[number])
    middle = (box.low[pool] + box.high[pool]) // 2
    yield _Box(box.low, (*box.high[:pool], middle, *box.high[pool + 1 :]), box.least_s, searched=False)
    yield replace(box, low=(*box.low[:pool], middle + 1, *box.low[pool + 1 :]))
