"""What no plan on a cluster can be under, in seconds and in energy: cheap enough for thousands of clusters.

Work. In one step every layer has to be worked through for every sample of the batch, by some device. Let x(k, l) be the part of
piece l of the work that devices of type k do, c(k, l) the least seconds that all of it takes there (`work_floor`), n(k) the devices
of type k. Then T >= sum over l of c(k, l) x(k, l) / n(k) for every k, and sum over k of x(k, l) is 1: a linear program, whose least
T is under every step, of data parallelism, pipelines and hybrids alike: they pay for communication and waiting on top.

Talk. Where batches are split by data parallelism alone, the devices that take part lie in one node, and talk over its link, or in
several, and then the network is among what they talk over. Each case is the bound that the planner has for devices on one link: it
knows what exchanging gradients takes at least among so many. It depends on numbers of devices alone, so that few are worked out.

Energy. Whatever is owned takes its idle power for the whole step, and work takes what is busy on top. The least energy is a linear
program over the same x, with T not under the bound of the step. Where batches are split by data parallelism alone, a device works
on a share no larger than it gets through in the step, talking included, and small shares take more for a sample: the least energy
of work for each T is that of the most frugal types filled first, and T is tried upwards, as long as what is always taken leaves
room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import linprog

from hetsim.costs import CostModel
from hetsim.hardware import Cluster, Device, Link, Node
from hetsim.planner.batch_split import whole_chain_buckets
from hetsim.planner.by_number import ByNumber
from hetsim.planner.exchange_floor import ExchangeFloor
from hetsim.planner.share_costs import share_costs
from hetsim.planner.stage_costs import Floats, Ints
from hetsim.planner.work_floor import work_floor
from hetsim.scenario.types import Search
from hetsim.workload import Training

_SURELY = 1 - 1e-6
"""Programs are solved to 1e-7, and steps are whole nanoseconds; a bound has to hold whatever the last digits are."""

_STRIDE = 1.005
"""From one T to the next that is tried: between two of them work is counted as at the longer, all else as at the shorter."""


class ClusterBound:
    """The bounds for clusters of the device types of one network's costs."""

    def __init__(self, costs: CostModel, training: Training, search: Search) -> None:
        self._types = [kind.name for kind in costs.cluster.used_types]
        self._work = _Work(costs, training.global_batch)
        plain = set(search.strategies) == {"data_parallel"}
        self._talk = _Talk(costs, training, search, self._types) if plain else None
        self._known: dict[Hashable, float] = {}

    def step_s(self, cluster: Cluster) -> float:
        """Seconds that a step takes at least on `cluster`; infinite where no type can hold some layer."""
        counts = self._counts(cluster.devices)
        key = ("work", counts)
        if key not in self._known:
            self._known[key] = self._work.least(counts, 1.0, [0.0] * len(counts), 0.0)
        return max(self._known[key], self._talk_s(cluster))

    def energy_j(self, cluster: Cluster, step_s: float) -> float:
        """Joules that devices and hosts take at least in a step of `step_s` or more. What is unknown counts as nothing."""
        power = [kind.power if (kind := cluster.device_types.get(name)) else None for name in self._types]
        busy_w = [(found.busy_w or 0.0) if found else 0.0 for found in power]
        idle_w = [min(w, (found.idle_w or 0.0) if found else 0.0) for w, found in zip(busy_w, power, strict=True)]
        counts = self._counts(cluster.devices)
        hosts_w = sum(node.power_w or 0.0 for node in cluster.nodes)
        always_w = hosts_w + sum(w * n for w, n in zip(idle_w, counts, strict=True))
        extra_w = [busy - idle for busy, idle in zip(busy_w, idle_w, strict=True)]
        wired = cluster.is_wired
        key = ("energy", counts, always_w, step_s, wired)
        if key not in self._known:
            self._known[key] = (
                self._work.least(counts, always_w, extra_w, step_s)
                if self._talk is None
                else self._talk.least_j(counts, always_w, extra_w, step_s, wired=wired)
            )
        return self._known[key]

    def _counts(self, devices: Sequence[Device]) -> tuple[int, ...]:
        """How many of each type."""
        found = Counter(device.type for device in devices)
        return tuple(found[name] for name in self._types)

    def _talk_s(self, cluster: Cluster) -> float:
        """The least step of any data parallel split; 0 where that is not known."""
        if self._talk is None or cluster.is_wired:
            return 0.0
        places = [(self._counts(node.devices), node.link) for node in cluster.nodes]
        if len(places) > 1:
            places.append((self._counts(cluster.devices), cluster.network))
        steps = []
        for counts, link in places:
            key = ("talk", counts, replace(link, name=""))
            if key not in self._known:
                self._known[key] = self._talk.least_s(counts, link)
            steps.append(self._known[key])
        return min(steps)


class _Work:
    """Linear programs over which type works through which piece of the work."""

    def __init__(self, costs: CostModel, batch: int) -> None:
        self._seconds = work_floor(costs, batch).seconds

    def least(self, counts: Sequence[int], for_time: float, for_work: Sequence[float], step_s: float) -> float:
        """The least of `for_time` x T + sum over types of `for_work` x seconds that they work, with T >= `step_s`.

        Infinite where no type can hold some layer.
        """
        kinds = [k for k, count in enumerate(counts) if count]
        least = self._seconds[kinds]
        types, pieces = least.shape
        possible = np.isfinite(least)
        if not types or not possible.any(axis=0).all():
            return float("inf")
        seconds = np.where(possible, least, 0.0)
        held = np.zeros((types, types * pieces + 1))
        for k in range(types):
            held[k, k * pieces : (k + 1) * pieces] = seconds[k]
            held[k, -1] = -counts[kinds[k]]
        whole = np.hstack([np.tile(np.eye(pieces), types), np.zeros((pieces, 1))])
        limits = [(0.0, 1.0 if may else 0.0) for may in possible.ravel()] + [(step_s, None)]
        objective = np.append((seconds * np.array([for_work[k] for k in kinds])[:, None]).ravel(), for_time)
        found = linprog(objective, held, np.zeros(types), whole, np.ones(pieces), limits, method="highs")
        return float(found.fun or 0.0) * _SURELY if found.success else 0.0


class _Talk:
    """Data parallel splits over devices that talk over one link."""

    def __init__(self, costs: CostModel, training: Training, search: Search, types: Sequence[str]) -> None:
        buckets = whole_chain_buckets(costs.chain)
        self._curves = share_costs(costs, training, types, buckets)
        self._bucket_bytes = [bucket.size_bytes for bucket in buckets]
        self._microbatches = tuple(sorted({1, *search.microbatches}))
        self._batch = training.global_batch
        self._types = list(types)
        self._costs = costs
        self._by_share: dict[tuple[str, int], tuple[Floats, Ints, Floats]] = {}

    def least_s(self, counts: Sequence[int], link: Link) -> float:
        """Seconds that a step takes at least on so many devices of each type; infinite where they cannot take the batch."""
        there = {name: count for name, count in zip(self._types, counts, strict=True) if count and name in self._curves}
        if not there:
            return float("inf")
        split = ByNumber(
            self._batch,
            [self._curves[name] for name in there],
            list(there.values()),
            self._microbatches,
            self._bucket_bytes,
            ExchangeFloor(self._on_one_link(there, link)),
        )
        return split.low_s * self._costs.least_factor * _SURELY

    def least_j(
        self, counts: Sequence[int], always_w: float, extra_w: Sequence[float], step_s: float, *, wired: bool
    ) -> float:
        """Joules of a step of `step_s` or more: `always_w` all the time, and `extra_w` by type while a device works.

        `wired`: what talking takes is not known, and counts as nothing.
        """
        if not np.isfinite(step_s):
            return float("inf")
        never_less_j = self._work_j(counts, extra_w, float("inf"), wired=wired)
        if not always_w:
            return never_less_j * _SURELY
        least_j = float("inf")
        while always_w * step_s + never_less_j < least_j:
            longer_s = step_s * _STRIDE
            least_j = min(least_j, always_w * step_s + self._work_j(counts, extra_w, longer_s, wired=wired))
            step_s = longer_s
        return least_j * _SURELY

    def _work_j(self, counts: Sequence[int], extra_w: Sequence[float], step_s: float, *, wired: bool) -> float:
        """Joules that the batch's work takes on top at least, within steps of `step_s`; infinite where they are too short.

        The more devices take part, the longer they talk and the less each can take: so the fewest that can take the batch count.
        """
        for number in range(1, min(sum(counts), self._batch) + 1):
            rows = []
            for name, count, watts in zip(self._types, counts, extra_w, strict=True):
                if count and name in self._curves:
                    seconds, largest, per_sample_s = self._shares(name, 1 if wired else number)
                    place = int(np.searchsorted(seconds, step_s / self._costs.least_factor, side="right")) - 1
                    if place >= 0:
                        joules = watts * per_sample_s[place] * self._costs.least_factor
                        rows.append((joules, count, int(largest[place])))
            most, left = 0, number
            for _, count, share in sorted(rows, key=lambda row: -row[2]):
                most += min(left, count) * share
                left -= min(left, count)
            if most >= self._batch:
                return _filled([(joules, count * share) for joules, count, share in rows], self._batch)
        return float("inf")

    def _shares(self, name: str, number: int) -> tuple[Floats, Ints, Floats]:
        """Of a device among `number` that take part: least steps with shares of the batch, rising; the largest share within each,
        and the least work for a sample within it."""
        if (name, number) not in self._by_share:
            curves = self._curves[name]
            alone = curves.alone(self._microbatches)
            steps = alone if number == 1 else curves.together(self._microbatches, self._tails_s(number), curves.update_s)
            shares = np.concatenate([option.count * np.arange(1, len(option.cost)) for option in alone])
            steps_s = np.concatenate([option.cost[1:] for option in steps])
            # Before it starts, a device does not work.
            work_s = np.concatenate([option.cost[1:] for option in alone]) - curves.start_s
            order = [place for place in np.argsort(steps_s, kind="stable") if np.isfinite(steps_s[place])]
            most, least_s = np.maximum.accumulate(shares[order]), np.minimum.accumulate(work_s[order] / shares[order])
            self._by_share[name, number] = steps_s[order], most, least_s
        return self._by_share[name, number]

    def _tails_s(self, number: int) -> Floats:
        """For each bucket, what the exchange of it and all later ones takes at least among `number` devices, on the best link."""
        cluster = self._costs.cluster
        sizes = np.asarray(self._bucket_bytes, dtype=float)
        rooms = [
            self._on_one_link({self._types[0]: number}, link) for link in {cluster.network, *(n.link for n in cluster.nodes)}
        ]
        least = np.min([ExchangeFloor(room).reduce_s(number, sizes) for room in rooms], axis=0)
        return np.asarray(np.cumsum(least[::-1])[::-1])

    def _on_one_link(self, counts: Mapping[str, int], link: Link) -> CostModel:
        """Costs of communication in a node of so many devices."""
        devices = tuple(Device(f"{name} {i}", name, "room") for name, count in counts.items() for i in range(count))
        types = self._costs.cluster.device_types
        room = Cluster((Node("room", devices, link),), types, link)
        return CostModel(self._costs.chain, room, replace(self._costs.table, layers=()))


def _filled(rooms: Sequence[tuple[float, int]], samples: int) -> float:
    """Joules of `samples` in `rooms` of (joules for a sample, most samples), the most frugal first."""
    joules, left = 0.0, samples
    for per_sample_j, room in sorted(rooms):
        joules += per_sample_j * min(left, room)
        left -= min(left, room)
    return joules
