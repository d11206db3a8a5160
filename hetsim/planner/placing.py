"""Which devices the stages of a plan's replicas lie on: near each other, so that messages stay within nodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

from hetsim.hardware import Cluster
from hetsim.planner.kinds import Kind

Places = tuple[tuple[str, ...], ...]
"""The devices of each stage of a replica."""


def place_by_replica(cluster: Cluster, rows: Sequence[Sequence[Kind]]) -> list[Places] | None:
    """Stages that follow each other on places of one kind share a node, as far as there is one with room for them.

    None where groups of devices no longer find a node.
    """
    return _by_replica(_Free(cluster), rows)


def place_by_stage(cluster: Cluster, rows: Sequence[Sequence[Kind]]) -> list[Places] | None:
    """The same stage of alike replicas shares a node, so that its gradients are exchanged there; None as above."""
    free = _Free(cluster)
    found: dict[int, list[tuple[str, ...]]] = {row: [] for row in range(len(rows))}
    alike: dict[tuple[Kind, ...], list[int]] = defaultdict(list)
    for row, kinds in enumerate(rows):
        alike[tuple(kinds)].append(row)
    for kinds, members in alike.items():
        for kind in kinds:
            taken = free.take(kind, len(members))
            if taken is None:
                return None
            for row, devices in zip(members, taken, strict=True):
                found[row].append(devices)
    return [tuple(found[row]) for row in range(len(rows))]


def place_heavy_together(cluster: Cluster, rows: Sequence[Sequence[Kind]], heavy: Sequence[int]) -> list[Places] | None:
    """Stage `heavy[row]` of every row first, so that these share a node if one has room for them and exchange gradients there; the
    other stages by replica. None as above."""
    free = _Free(cluster)
    first: dict[int, tuple[str, ...]] = {}
    by_kind: dict[Kind, list[int]] = defaultdict(list)
    for row, stage in enumerate(heavy):
        by_kind[rows[row][stage]].append(row)
    for kind, members in by_kind.items():
        taken = free.take(kind, len(members))
        if taken is None:
            return None
        first |= dict(zip(members, taken, strict=True))
    others = [[kind for number, kind in enumerate(row) if number != heavy[place]] for place, row in enumerate(rows)]
    found = _by_replica(free, others)
    if found is None:
        return None
    return [(*rest[: heavy[row]], first[row], *rest[heavy[row] :]) for row, rest in enumerate(found)]


def _by_replica(free: _Free, rows: Sequence[Sequence[Kind]]) -> list[Places] | None:
    """What `place_by_replica` does, of devices that are still free."""
    # Those that need most room in one node come first; the order of the rows is kept in the answer.
    runs = [max((len(list(run)) * kind.width for kind, run in groupby(row)), default=0) for row in rows]
    found: dict[int, Places] = {}
    for row in sorted(range(len(rows)), key=lambda row: -runs[row]):
        stages: list[tuple[str, ...]] = []
        for kind, run in groupby(rows[row]):
            taken = free.take(kind, len(list(run)))
            if taken is None:
                return None
            stages += taken
        found[row] = tuple(stages)
    return [found[row] for row in range(len(rows))]


class _Free:
    """Devices that are not taken yet, by type and node."""

    def __init__(self, cluster: Cluster) -> None:
        self._by_type: dict[str, list[list[str]]] = defaultdict(list)
        for node in cluster.nodes:
            here: dict[str, list[str]] = defaultdict(list)
            for device in node.devices:
                here[device.type].append(device.name)
            for name, devices in here.items():
                self._by_type[name].append(devices)

    def take(self, kind: Kind, number: int) -> list[tuple[str, ...]] | None:
        """`number` places of a kind: all from the fullest node that has just room enough, else from the emptiest on."""
        nodes = [node for node in self._by_type[kind.device_type] if len(node) >= kind.width]
        roomy = [node for node in nodes if len(node) // kind.width >= number]
        chosen = [min(roomy, key=len)] if roomy else sorted(nodes, key=len, reverse=True)
        taken: list[tuple[str, ...]] = []
        for node in chosen:
            while len(taken) < number and len(node) >= kind.width:
                taken.append(tuple(node[: kind.width]))
                del node[: kind.width]
        return taken if len(taken) == number else None
