"""The exact split of the global batch over replicas of one stage: which devices take part, and the share of each.

What is minimised is the step itself, by the closed recurrence of data parallelism, with d over the devices that take
part and i over the gradient buckets in their order::

    step = max( max_i max_d (ready_i(d) + R_i) + max_d update(d),  max_d (computed(d) + update(d)) )

where ready_i(d) is when device d has packed bucket i, and R_i what the all-reduces of bucket i and all later ones
take: the exchange overlaps with backward as far as it can, and at least the last bucket is exposed. For a given set
of devices this is a maximum of what each device's share would cost alone, so `smallest_maximum` solves it exactly.
How many devices of each pool take part is enumerated; sets that cannot reach the batch below the best step found are
skipped without being solved. Where there are too many sets, the best set of each number of devices is looked for.

A share may be cut into equal microbatches whose gradients add up; one microbatch at a time is held in memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

import numpy as np

from hetsim.costs import CostModel
from hetsim.exchange import Bucket, buckets
from hetsim.hardware import Device, Node
from hetsim.plan import Plan, Replica, Stage
from hetsim.planner.by_number import ByNumber
from hetsim.planner.exchange_floor import ExchangeFloor
from hetsim.planner.pools import Pool
from hetsim.planner.result import Proposal, Rejection
from hetsim.planner.share_costs import ShareCosts, share_costs
from hetsim.planner.share_sum import Group, Pieces, smallest_maximum
from hetsim.planner.stage_costs import Floats, Ints
from hetsim.units import format_bytes
from hetsim.workload import Chain, Training

MOST_SETS = 300
"""Sets of devices that are listed; beyond, numbers of devices are searched (`by_number`)."""

MOST_TRIED = 8
"""Sets that are solved there."""


@dataclass(frozen=True)
class BatchSplit:
    """The problem of splitting one batch over some pools of devices."""

    costs: CostModel
    training: Training
    pools: tuple[Pool, ...]
    """Only of types on which the whole chain is priced."""

    counts: tuple[int, ...] = (1,)
    """How many microbatches a share may be cut into; 1 is among them."""

    def best(self, keep: int = 1, least: Sequence[int] | None = None) -> list[Proposal]:
        """The best splits of the `keep` best sets of devices, best first; fewer where fewer fit.

        `least`: how many devices of each pool have to take part.
        """
        if self.many:
            return self._best_by_number(keep, least)
        found: list[Proposal] = []
        cutoff = np.inf
        largest = self._largest_below(cutoff)
        for members in self._sets(least):
            if members @ largest < self.training.global_batch:
                continue
            if (proposal := self._solve(self._first(members), cutoff)) is None:
                continue
            found = sorted([*found, proposal], key=lambda row: row.objective_s)[:keep]
            if len(found) == keep:
                cutoff = found[-1].objective_s
                largest = self._largest_below(cutoff)
        return found

    @property
    def many(self) -> bool:
        """Whether there are too many sets of devices to list them."""
        return self.considered > MOST_SETS

    def bound_s(self, best_s: float) -> float:
        """No split has a shorter step, of which `best` found that of `best_s`, infinite where none fits.

        That is the smallest step itself where the exchange of gradients has the same price for all sets of alike devices; else the
        smallest step if the exchange took as little as it can.
        """
        if self.many:
            return self._by_number.low_s
        return best_s if self._exchange_is_known else max(self.smallest_compute_s(), self._by_number.low_s)

    def smallest_compute_s(self) -> float:
        """The smallest step of any split if exchanging gradients took no time; infinite where none fits."""
        groups = []
        for pool in self.pools:
            options = self._alone[pool.device_type]
            may_rest = Pieces(1, np.concatenate(([0.0], np.full(self.training.global_batch, np.inf))))
            groups.append(Group(len(pool), (*options, may_rest)))
        best = smallest_maximum(groups, self.training.global_batch) if groups else None
        return np.inf if best is None else best.largest

    @property
    def considered(self) -> int:
        """Sets of devices, by how many of each pool take part."""
        return math.prod(len(pool) + 1 for pool in self.pools) - 1

    def rejections(self) -> list[Rejection]:
        """The sets of devices that no split fits."""
        batch = self.training.global_batch
        largest = np.array([self.curves[pool.device_type].largest_share(self.counts) for pool in self.pools])
        if self.many:
            enough = sum(len(pool) * most for pool, most in zip(self.pools, largest, strict=True)) >= batch
            detail = "; ".join(filter(None, map(self._limit_text, self.curves.values())))
            return [] if enough else [Rejection("data parallel", "memory", detail, self.considered)]
        sets = self._sets()
        if not len(sets):
            return []
        too_many = sets.sum(axis=1) > batch
        too_small = ~too_many & ((sets @ largest < batch) | (sets[:, largest == 0].any(axis=1)))
        rows = []
        if too_many.any():
            detail = f"more devices than the {batch} samples of the batch"
            rows.append(Rejection("data parallel", "batch", detail, int(too_many.sum())))
        if too_small.any():
            kinds = dict.fromkeys(pool.device_type for pool in self.pools)
            detail = "; ".join(filter(None, (self._limit_text(self.curves[kind]) for kind in kinds)))
            rows.append(Rejection("data parallel", "memory", detail, int(too_small.sum())))
        return rows

    @cached_property
    def curves(self) -> Mapping[str, ShareCosts]:
        """Costs by share, by device type."""
        kinds = tuple(dict.fromkeys(pool.device_type for pool in self.pools))
        return share_costs(self.costs, self.training, kinds, self._buckets)

    # --- inside ------------------------------------------------------------------------------------------------------

    @cached_property
    def _buckets(self) -> tuple[Bucket, ...]:
        return whole_chain_buckets(self.costs.chain)

    @cached_property
    def _alone(self) -> Mapping[str, tuple[Pieces, ...]]:
        return {kind: curves.alone(self.counts) for kind, curves in self.curves.items()}

    def _sets(self, least: Sequence[int] | None = None) -> Ints:
        """How many devices of each pool, one set a row; large sets first, so that a good step is known early."""
        sizes = [len(pool) + 1 for pool in self.pools]
        rows = np.indices(sizes).reshape(len(sizes), -1).T if sizes else np.empty((0, 0), dtype=np.int64)
        rows = rows[(rows >= (least or [0] * len(sizes))).all(axis=1) & (rows.sum(axis=1) > 0)]
        return np.asarray(rows[np.lexsort((*-rows.T[::-1], -rows.sum(axis=1)))], dtype=np.int64)

    @cached_property
    def _by_number(self) -> ByNumber:
        return ByNumber(
            self.training.global_batch,
            [self.curves[pool.device_type] for pool in self.pools],
            [len(pool) for pool in self.pools],
            self.counts,
            [bucket.size_bytes for bucket in self._buckets],
            ExchangeFloor(self.costs),
        )

    def _best_by_number(self, keep: int, least: Sequence[int] | None) -> list[Proposal]:
        """The same by the best set of each number of devices, as far as bounds and `MOST_TRIED` go."""
        found: list[Proposal] = []
        cutoff = np.inf
        for tried, (low_s, members) in enumerate(self._by_number.sets()):
            if low_s >= cutoff or tried >= MOST_TRIED + keep:
                break
            wanted = members if least is None else np.minimum(np.maximum(members, least), [len(pool) for pool in self.pools])
            for placed in dict.fromkeys(map(tuple, (self._first(wanted), *([self._near(wanted)] if least is None else ())))):
                if (proposal := self._solve(placed, cutoff)) is not None:
                    found = sorted({row.plan: row for row in (*found, proposal)}.values(), key=lambda row: row.objective_s)
                    found = found[:keep]
                    cutoff = found[-1].objective_s if len(found) == keep else np.inf
        return found

    def _near(self, members: Ints) -> list[tuple[str, ...]]:
        """For each pool so many devices, in few nodes: node by node, the one first that has most of what is still wanted.

        The bounds know numbers of devices of each type alone, but gradients cross fewer wires between fewer nodes.
        """
        pool_of = {name: number for number, pool in enumerate(self.pools) for name in pool.devices}
        wanted: Counter[str] = Counter()
        for pool, count in zip(self.pools, members, strict=True):
            wanted[pool.device_type] += int(count)
        chosen: list[list[str]] = [[] for _ in self.pools]
        left = list(self.costs.cluster.nodes)

        def given(node: Node) -> list[Device]:
            """What this node would give."""
            still, rows = wanted.copy(), []
            for device in node.devices:
                if device.name in pool_of and still[device.type]:
                    still[device.type] -= 1
                    rows.append(device)
            return rows

        while wanted.total() and left:
            best = max(left, key=lambda node: len(given(node)))
            for device in given(best):
                chosen[pool_of[device.name]].append(device.name)
                wanted[device.type] -= 1
            left.remove(best)
        return [tuple(names) for names in chosen]

    def _first(self, members: Ints) -> list[tuple[str, ...]]:
        """For each pool so many devices, the first ones: all the same where they are alike."""
        return [pool.devices[:size] for pool, size in zip(self.pools, members, strict=True)]

    def _largest_below(self, cutoff: float) -> Ints:
        """For each pool, the largest share that costs a device less than `cutoff` even without exchange."""

        def largest(options: Sequence[Pieces]) -> int:
            return max((int(m[-1]) * o.count for o in options if len(m := np.flatnonzero(o.cost < cutoff))), default=0)

        by_type = {kind: largest(options) for kind, options in self._alone.items()}
        return np.array([by_type[pool.device_type] for pool in self.pools])

    def _solve(self, members: Sequence[tuple[str, ...]], cutoff: float) -> Proposal | None:
        """The best split over just these devices of each pool, if it is better than `cutoff`."""
        used = [(pool, names) for pool, names in zip(self.pools, members, strict=True) if names]
        devices = self._in_ring({name for _, names in used for name in names})
        options = self._options(devices)
        groups = [Group(len(names), options[pool.device_type]) for pool, names in used]
        best = smallest_maximum(groups, self.training.global_batch, below=cutoff)
        if best is None:
            return None
        replicas: dict[str, Replica] = {}
        for (pool, names), shares in zip(used, best.shares, strict=True):
            for name, share in zip(names, shares, strict=True):
                count = _cheapest_count(options[pool.device_type], share)
                replicas[name] = Replica((Stage(name, 0, len(self.costs.chain)),), share, count)
        plan = Plan(tuple(replicas[name] for name in devices))
        return Proposal(plan, best.largest)

    @property
    def _exchange_is_known(self) -> bool:
        """Whether the price of an exchange depends on how many devices of each pool take part alone: not on which, nor on their
        order in the ring, of which node by node is the best."""
        measured = any(row.operation == "all_reduce" for row in self.costs.table.transfers)
        return not measured and all(pool.alike for pool in self.pools) and not self._order_matters

    @cached_property
    def _order_matters(self) -> bool:
        """Whether a ring may be quicker that does not go node by node: links inside a node are worse than those between nodes, or
        the way that bytes take depends on wires."""
        cluster = self.costs.cluster
        if len(cluster.nodes) == 1 and not cluster.is_wired:
            return False
        inside, between = [node.link for node in cluster.nodes if len(node.devices) > 1], cluster.network
        slower = any(link.bandwidth_bytes_per_s < between.bandwidth_bytes_per_s for link in inside)
        return cluster.is_wired or slower or any(link.latency_s > between.latency_s for link in inside)

    def _in_ring(self, taking_part: set[str]) -> tuple[str, ...]:
        """The devices in the order of their ring: node by node, or by turns of the nodes where that is quicker."""
        members = [[d.name for d in node.devices if d.name in taking_part] for node in self.costs.cluster.nodes]
        by_node = tuple(name for names in members for name in names)
        if not self._order_matters:
            return by_node
        by_turns = tuple(name for row in zip_longest(*members) for name in row if name is not None)
        return min((by_node, by_turns), key=lambda order: float(self._tails_s(order).max(initial=0.0)))

    def _options(self, devices: Sequence[str]) -> Mapping[str, tuple[Pieces, ...]]:
        """Costs by share where just `devices` take part, by device type."""
        if len(devices) == 1:
            return self._alone
        kinds = dict.fromkeys(self.costs.cluster.device(name).type for name in devices)
        slowest_update_s = max(self.curves[kind].update_s for kind in kinds)
        tails_s = self._tails_s(devices)
        return {kind: self.curves[kind].together(self.counts, tails_s, slowest_update_s) for kind in kinds}

    def _tails_s(self, devices: Sequence[str]) -> Floats:
        """For each bucket, the all-reduces of it and all later ones."""
        sizes = [bucket.size_bytes for bucket in self._buckets]
        seconds = {size: self.costs.reduce_s(devices, size) for size in dict.fromkeys(sizes)}
        return np.cumsum([seconds[size] for size in sizes][::-1])[::-1]

    def _limit_text(self, curves: ShareCosts) -> str:
        """How much of the batch a device of the type can hold, with the bytes that more would need; "" where all of it."""
        most, batch = curves.largest_share(self.counts), self.training.global_batch
        if most == batch:
            return ""
        holds = f"holds at most {most} of {batch} samples (more" if most else "cannot hold a single sample (one"
        need, has = format_bytes(curves.bytes_beyond(most, self.counts)), format_bytes(curves.limit_bytes)
        return f"{curves.device_type} {holds} would need {need}, it has {has})"


def whole_chain_buckets(chain: Chain) -> tuple[Bucket, ...]:
    """The gradient buckets of any data-parallel plan: they do not depend on which devices take part."""
    whole = [Replica((Stage(name, 0, len(chain)),), 1) for name in ("any", "other")]
    return buckets(Plan(tuple(whole)), chain)


def _cheapest_count(options: Sequence[Pieces], share: int) -> int:
    """The number of microbatches that makes `share` cheapest; the smallest on a tie."""
    usable = [option for option in options if share % option.count == 0]
    return min(usable, key=lambda option: (option.cost[share // option.count], option.count)).count
