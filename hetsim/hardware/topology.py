"""The topology of a cluster: what a message between two points crosses, and who else crosses it.

Points are devices, nodes and switches. Where a scenario gives one link for a node's devices, each device has a wire of that kind
to the node; where it gives one link for the network, each node has one to a single switch, which is then all that messages between
nodes cross. Each direction of a wire, or a whole wire that is half duplex, is a resource that transfers share.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise, permutations
from typing import TYPE_CHECKING

from hetsim.errors import PlanError
from hetsim.hardware.cluster import Cluster, Node, Wire

if TYPE_CHECKING:
    import networkx as nx

SWITCH = "the network's switch"

Resource = str
"""A direction of a wire, or a wire that is half duplex."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a message crosses from one point to another."""

    latency_s: float
    resources: tuple[Resource, ...]


class Topology:
    """The routes of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._wires = {frozenset(wire.between): wire.link for wire in _wires(cluster)}
        self._node_of = {device.name: device.node for device in cluster.devices}
        self._route = functools.cache(self._find)

    @functools.cached_property
    def bytes_per_s(self) -> Mapping[Resource, float]:
        """Resource -> what it carries."""
        return {
            _resource(a, b, half_duplex=link.half_duplex): link.bandwidth_bytes_per_s
            for ends, link in self._wires.items()
            for a, b in permutations(sorted(ends))
        }

    def node_of(self, device: str) -> str:
        """The node of `device`."""
        return self._node_of[device]

    def route(self, source: str, target: str) -> Route:
        """What a message crosses from `source` to `target`, devices or nodes; nothing within one of them.

        Where there are several ways, it takes the one of least latency, and of those the one with the fewest wires. Raises
        PlanError where there is none.
        """
        return self._route(source, target)

    def joins(self, source: str, target: str) -> bool:
        """Whether there is a way from `source` to `target`."""
        try:
            self.route(source, target)
        except PlanError:
            return False
        return True

    def _find(self, source: str, target: str) -> Route:
        if source == target:
            return Route(0.0, ())
        points = self._points(source, target)
        links = [self._wires[frozenset(pair)] for pair in pairwise(points)]
        resources = (
            _resource(a, b, half_duplex=link.half_duplex) for (a, b), link in zip(pairwise(points), links, strict=True)
        )
        return Route(sum(link.latency_s for link in links) + self._hub_latency_s(source, target), tuple(resources))

    def _points(self, source: str, target: str) -> list[str]:
        """The points that a message passes, with both ends."""
        nodes = [self._node_of.get(end, end) for end in (source, target)]
        plain = not self._cluster.wires and not any(n.wires for n in self._cluster.nodes if n.name in nodes)
        if plain:
            within = nodes[0] == nodes[1]
            return list(dict.fromkeys([source, nodes[0], target])) if within else [nodes[0], SWITCH, nodes[1]]
        import networkx as nx

        try:
            points: list[str] = nx.shortest_path(self._graph, source, target, weight="cost")
        except (nx.NetworkXNoPath, nx.NodeNotFound):
            raise PlanError(f"no wires lead from {source} to {target}") from None
        return points

    @functools.cached_property
    def _graph(self) -> nx.Graph[str]:
        import networkx as nx

        graph: nx.Graph[str] = nx.Graph()
        for ends, link in self._wires.items():
            graph.add_edge(*ends, cost=link.latency_s + 1e-12)
        return graph

    def _hub_latency_s(self, source: str, target: str) -> float:
        """The latency of links that are given from end to end, which their wires therefore do not have."""
        a, b = self._node_of.get(source, source), self._node_of.get(target, target)
        if a != b:
            return 0.0 if self._cluster.wires else self._cluster.network.latency_s
        node = next(node for node in self._cluster.nodes if node.name == a)
        return 0.0 if node.wires else node.link.latency_s


def _wires(cluster: Cluster) -> Iterator[Wire]:
    for node in cluster.nodes:
        yield from node.wires or _ports(node)
    network = replace(cluster.network, latency_s=0.0)
    yield from cluster.wires or (Wire((node.name, SWITCH), network) for node in cluster.nodes)


def _ports(node: Node) -> Iterator[Wire]:
    link = replace(node.link, latency_s=0.0)
    return (Wire((device.name, node.name), link) for device in node.devices)


def _resource(a: str, b: str, *, half_duplex: bool) -> Resource:
    return " = ".join(sorted((a, b))) if half_duplex else f"{a} > {b}"
