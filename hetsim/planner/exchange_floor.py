"""What messages and exchanges of gradients take at least, whichever devices of their kinds take part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product

import numpy as np
import numpy.typing as npt

from hetsim.costs import CostModel
from hetsim.exchange import fewest_buckets
from hetsim.hardware import Link
from hetsim.planner.kinds import Kind
from hetsim.planner.stage_costs import Floats, Ints


@dataclass(frozen=True)
class ExchangeFloor:
    """Lower bounds on communication in one cluster, over whose rings every device is a hop.

    Where topologies are written out wire by wire, or all-reduces were measured, the cluster's plain links tell nothing for
    certain, and the bounds are those of the best wire, or zero.
    """

    costs: CostModel

    def message_s(self, source: Kind, target: Kind, size_bytes: int) -> float:
        """Seconds of a message between the nearest places of two kinds."""
        if size_bytes == 0:
            return 0.0
        return min((self.costs.send_s(a, b, size_bytes) for a, b in self._pairs(source, target)), default=float("inf"))

    @cached_property
    def fewest_buckets(self) -> Ints:
        """[start, stop]: in how many buckets the gradients of so many layers of a stage travel at least."""
        return np.array(fewest_buckets(self.costs.chain), dtype=np.int64)

    def reduce_s(
        self, holders: int, size_bytes: npt.ArrayLike, among: frozenset[str] = frozenset(), buckets: npt.ArrayLike = 1
    ) -> Floats:
        """Seconds in which `holders` devices or groups add up `size_bytes`, at least; devices of the types `among` are of them.

        `buckets`: as so many messages, one after the other, some of which may go another way than the others.
        """
        sizes = np.asarray(size_bytes, dtype=float)
        if holders < 2 or not self._plain:
            return np.zeros_like(sizes)
        ways = [(link, holders) for link, there, most in self._inside if most >= holders and among <= there]
        ways += [(self.costs.cluster.network, holders)] if len(self.costs.cluster.nodes) > 1 else []
        if not ways:
            return np.zeros_like(sizes)
        # In a node each device of a group sends its part over a port of its own; between nodes all parts share one.
        parts = [self._widest_group if link is not self.costs.cluster.network else 1 for link, _ in ways]
        latency_s = np.array([_ring_latency_s(link, hops) for link, hops in ways])
        bytes_s = np.array([_ring_bytes_s(link, hops, sizes / part) for (link, hops), part in zip(ways, parts, strict=True)])
        one_way_s = np.min(latency_s.reshape(-1, *[1] * sizes.ndim) + bytes_s, axis=0)
        each_way_s = np.asarray(buckets) * latency_s.min() + bytes_s.min(axis=0)
        return np.where(sizes > 0, np.maximum(one_way_s, each_way_s), 0.0)

    # --- inside ------------------------------------------------------------------------------------------------------

    @cached_property
    def _plain(self) -> bool:
        """Whether links are given as one for each node and one for the network, and exchanges follow from them."""
        measured = any(row.operation == "all_reduce" for row in self.costs.table.transfers)
        return not measured and not self.costs.cluster.is_wired

    @cached_property
    def _inside(self) -> list[tuple[Link, frozenset[str], int]]:
        """The links of nodes, with the device types that each joins and the most devices."""
        best: dict[tuple[Link, frozenset[str]], int] = {}
        for node in self.costs.cluster.nodes:
            key = node.link, frozenset(device.type for device in node.devices)
            best[key] = max(best.get(key, 0), len(node.devices))
        return [(*key, most) for key, most in best.items()]

    @cached_property
    def _widest_group(self) -> int:
        """Devices of the largest tensor-parallel group that the table has costs of."""
        return max((row.tensor_parallel for row in self.costs.table.layers), default=1)

    def _pairs(self, source: Kind, target: Kind) -> list[tuple[str, str]]:
        """Pairs of devices that stand for every way in which two kinds can be neighbours."""
        if not self._plain or any(row.operation == "send_recv" for row in self.costs.table.transfers):
            names = ([d.name for d in self.costs.cluster.devices if d.type == kind.device_type] for kind in (source, target))
            return [(a, b) for a, b in product(*names) if a != b]
        members = [
            (node, [[d.name for d in node.devices if d.type == kind.device_type] for kind in (source, target)])
            for node in self.costs.cluster.nodes
        ]
        found: dict[Link, tuple[str, str]] = {}
        for node, (mine, others) in members:
            if mine and others and len({*mine, *others}) >= source.width + target.width:
                found.setdefault(node.link, (mine[0], next(name for name in reversed(others) if name != mine[0])))
        senders = [(node, mine[0]) for node, (mine, _) in members if mine]
        receivers = [(node, others[0]) for node, (_, others) in members if others]
        across = ((a, b) for (node, a), (other, b) in product(senders, receivers) if node is not other)
        return [*found.values(), *islice(across, 1)]


def _ring_latency_s(link: Link, hops: int) -> float:
    """What the 2 (n - 1) rounds of a ring all-reduce over `hops` hops take for nothing (Patarasuk & Yuan 2009)."""
    return 2 * (hops - 1) * link.latency_s


def _ring_bytes_s(link: Link, hops: int, size_bytes: Floats) -> Floats:
    """What 1/n of the bytes takes in each of these rounds."""
    seconds: Floats = 2 * (hops - 1) * size_bytes / hops / link.bandwidth_bytes_per_s
    return seconds
