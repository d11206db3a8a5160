"""Kinds of places for a stage: one device of a type, or a tensor-parallel group of devices of that type within a node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hetsim.costs import CostModel


@dataclass(frozen=True, slots=True)
class Kind:
    """What a stage may lie on."""

    device_type: str
    width: int
    """Devices that it takes, all in one node."""

    count: int
    """How many of the kind there are at most, if no device is used for anything else."""


def kinds_of(costs: CostModel) -> tuple[Kind, ...]:
    """The kinds of `costs`: every device type of the cluster, at every width at which the table has the whole chain."""
    found = []
    for kind in costs.cluster.used_types:
        sizes = [sum(device.type == kind.name for device in node.devices) for node in costs.cluster.nodes]
        widths = {row.tensor_parallel for row in costs.table.layers if row.device_type == kind.name}
        for width in sorted(width for width in widths if width <= max(sizes)):
            priced = {r.layer for r in costs.table.layers if (r.device_type, r.tensor_parallel) == (kind.name, width)}
            if width == 1 or priced.issuperset(layer.name for layer in costs.chain.layers):
                found.append(Kind(kind.name, width, sum(size // width for size in sizes)))
    return tuple(found)


def devices_used(kinds: Sequence[Kind], types: Sequence[str]) -> list[list[int]]:
    """[type, kind]: how many devices of each type a place of each kind takes."""
    return [[kind.width if kind.device_type == name else 0 for kind in kinds] for name in types]
