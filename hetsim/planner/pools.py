"""Pools: devices that are alike for planning, so that only the number of them that work matters."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from hetsim.hardware import Cluster, Link, Node

MOST_COMBINATIONS = 700
"""Above so many ways to choose how many devices of each pool work, pools are merged by type, links' differences aside."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Devices of one type that also have the same links to all others: exchanging two of them changes no cost."""

    device_type: str
    devices: tuple[str, ...]
    """In cluster order. A plan that needs some takes the first ones."""

    alike: bool = True
    """False where pools were merged, so that the links of its devices may differ after all."""

    def __len__(self) -> int:
        return len(self.devices)


def pools_of(cluster: Cluster, device_types: Iterable[str]) -> tuple[Pool, ...]:
    """The pools of the devices of `device_types`, in order of first appearance in the cluster.

    Two devices of a type are alike when they share a node, or when neither has a neighbour nearer than the network.
    Differences between single measured links are not looked at: the first devices of a pool stand for all.
    """
    wanted = set(device_types)
    near = {node.name: node.name for node in cluster.nodes if _has_own_link(node, cluster.network)}
    members: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    by_type: dict[str, list[str]] = defaultdict(list)
    for device in cluster.devices:
        if device.type in wanted:
            members[device.type, near.get(device.node)].append(device.name)
            by_type[device.type].append(device.name)
    if math.prod(len(names) + 1 for names in members.values()) > MOST_COMBINATIONS:
        return tuple(Pool(kind, tuple(names), alike=False) for kind, names in by_type.items())
    return tuple(Pool(kind, tuple(names)) for (kind, _), names in members.items())


def pools_within_nodes(cluster: Cluster, pools: Sequence[Pool]) -> Iterator[tuple[Pool, ...]]:
    """The pools of each node by itself, of nodes that are alike one; of devices in `pools` alone."""
    wanted = {name for pool in pools for name in pool.devices}
    seen = set()
    for node in cluster.nodes:
        by_type: dict[str, list[str]] = defaultdict(list)
        for device in node.devices:
            if device.name in wanted:
                by_type[device.type].append(device.name)
        look = (
            tuple((kind, len(names)) for kind, names in by_type.items()),
            node.link.latency_s,
            node.link.bandwidth_bytes_per_s,
        )
        if by_type and look not in seen:
            seen.add(look)
            yield tuple(Pool(kind, tuple(names)) for kind, names in by_type.items())


def only(cluster: Cluster, kept: Container[str]) -> Cluster:
    """The same cluster with no other devices than those named; where wires are written out, empty nodes stay as their ends."""
    nodes = (replace(node, devices=tuple(d for d in node.devices if d.name in kept)) for node in cluster.nodes)
    return replace(cluster, nodes=tuple(node for node in nodes if node.devices or cluster.wires))


def _has_own_link(node: Node, network: Link) -> bool:
    same = (node.link.latency_s, node.link.bandwidth_bytes_per_s) == (network.latency_s, network.bandwidth_bytes_per_s)
    return len(node.devices) > 1 and not same
