"""What messages and exchanges of gradients put on the resources of a topology, and how long they take alone.

An exchange is counted by the bytes that cross each resource, whatever the order of its rounds: it ends when the fullest resource is
through, plus the latencies that stand one after the other. That is exact for the pipelined algorithms of the libraries where all
devices start together, and shows what crosses a shared resource several times over.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hetsim.hardware import Resource, Topology
from hetsim.plan import Exchange

Group = tuple[str, ...]
"""The devices of a tensor-parallel group; as a rule one."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that travel together."""

    latency_s: float
    """Before the first of them arrives."""

    transfer_s: float
    """From then on, alone."""

    resource_bytes: tuple[tuple[Resource, float], ...]
    """What crosses each resource."""

    owner: str = ""
    """The device that can set it off without the others; empty: it needs all."""

    @property
    def seconds(self) -> float:
        """How long it takes alone."""
        return self.latency_s + self.transfer_s

    def taking(self, seconds: float) -> Traffic:
        """The same bytes where they were measured to take `seconds` in all."""
        latency_s = min(self.latency_s, seconds)
        return Traffic(latency_s, seconds - latency_s, self.resource_bytes, self.owner)


Phase = tuple[Traffic, ...]
"""What travels at the same time; the next phase begins when all of it has arrived."""


def message(topology: Topology, source: Group, target: Group, size_bytes: float) -> Traffic:
    """`size_bytes` from each device of `source` to its counterpart in `target`.

    The devices of a tensor-parallel group all hold the whole activations, and each hands them to one of the other group.
    """
    pairs = {(source[i % len(source)], target[i % len(target)]) for i in range(max(len(source), len(target)))}
    return _together(topology, [(a, b, size_bytes) for a, b in sorted(pairs)], rounds=1)


def exchange(topology: Topology, how: Exchange, holders: Sequence[Group], size_bytes: float) -> tuple[Phase, ...]:
    """The phases in which `holders`, one group a replica, add up `size_bytes` of gradients.

    The devices of a group hold an equal part each, which they exchange with their counterparts, all parts at once.
    """
    width = max(map(len, holders))
    parts = [[group[i % len(group)] for group in holders] for i in range(width)]
    part_bytes = size_bytes / width
    match how.kind:
        case "ring":
            rounds = 2 * (len(holders) - 1)
            return ((_together(topology, [row for part in parts for row in _ring(part, part_bytes, rounds)], rounds),),)
        case "tree":
            rows = [row for part in parts for row in _tree(part, part_bytes)]
            return ((_together(topology, rows, rounds=2 * math.ceil(math.log2(len(holders)))),),)
        case "hierarchical":
            return _hierarchical(topology, parts, part_bytes)
        case "ps":
            return _parameter_servers(topology, how.servers, holders, size_bytes)


Row = tuple[str, str, float]
"""Source, target, bytes."""


def _ring(devices: Sequence[str], size_bytes: float, rounds: int) -> list[Row]:
    """Each device sends 1/n of the bytes to the next one, in each of `rounds` rounds.

    2(n - 1) rounds make an all-reduce, half of them a reduce-scatter or an all-gather (Patarasuk & Yuan 2009).
    """
    return [(a, b, rounds * size_bytes / len(devices)) for a, b in pairwise([*devices, devices[0]])]


def _tree(devices: Sequence[str], size_bytes: float) -> list[Row]:
    """Two binary trees, half the bytes up and down in each; the leaves of one are the inner points of the other (Sanders, Speck &
    Träff 2009; NCCL since 2.4)."""
    rows: list[Row] = []
    for order in (devices, devices[::-1]):
        for child in range(1, len(order)):
            a, b = order[child], order[(child - 1) // 2]
            rows += [(a, b, size_bytes / 2), (b, a, size_bytes / 2)]
    return rows


def _hierarchical(topology: Topology, parts: Sequence[Sequence[str]], part_bytes: float) -> tuple[Phase, ...]:
    """Reduce-scatter within each node, all-reduce of every piece between the nodes, all-gather within each node (Cho et al.,
    BlueConnect, 2019, section 3)."""
    inside: list[Row] = []
    between: list[Row] = []
    inner_rounds = outer_rounds = 0
    for part in parts:
        nodes: dict[str, list[str]] = defaultdict(list)
        for device in part:
            nodes[topology.node_of(device)].append(device)
        groups = list(nodes.values())
        widest = max(map(len, groups))
        for group in groups:
            if len(group) > 1:
                inside += _ring(group, part_bytes, len(group) - 1)
                inner_rounds = max(inner_rounds, len(group) - 1)
        if len(groups) > 1:
            outer_rounds = 2 * (len(groups) - 1)
            for i in range(widest):
                between += _ring([group[i % len(group)] for group in groups], part_bytes / widest, outer_rounds)
    phases = [(inside, inner_rounds), (between, outer_rounds), (inside, inner_rounds)]
    return tuple((_together(topology, rows, rounds),) for rows, rounds in phases if rows)


def _parameter_servers(
    topology: Topology, servers: Sequence[str], holders: Sequence[Group], size_bytes: float
) -> tuple[Phase, ...]:
    """Every device pushes its gradients as soon as it has them, an equal part to each server; when all are there it pulls them back
    (Li et al. 2014)."""
    push, pull = [], []
    for group in holders:
        part_bytes = size_bytes / len(group) / len(servers)
        rows = [(device, server, part_bytes) for device in group for server in servers]
        push.append(_together(topology, rows, rounds=1, owner=group[0]))
        pull.append(_together(topology, [(b, a, size) for a, b, size in rows], rounds=1))
    return tuple(push), tuple(pull)


def _together(topology: Topology, rows: Iterable[Row], rounds: int, owner: str = "") -> Traffic:
    resource_bytes: dict[Resource, float] = defaultdict(float)
    latency_s = 0.0
    for source, target, size_bytes in rows:
        route = topology.route(source, target)
        latency_s = max(latency_s, route.latency_s)
        for resource in route.resources:
            resource_bytes[resource] += size_bytes
    transfer_s = max((size / topology.bytes_per_s[resource] for resource, size in resource_bytes.items()), default=0.0)
    return Traffic(rounds * latency_s, transfer_s, tuple(resource_bytes.items()), owner)
