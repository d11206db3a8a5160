"""The sets of devices that a budget, the free slots and a limit of power allow; of sets that no plan can tell apart, one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from hetsim.errors import InputError, Problem
from hetsim.hardware import Cluster, Node
from hetsim.study.edits import Variant, edited

MOST_SETS = 1_000_000
"""More sets than anybody waits for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a purchase must not exceed."""

    budget: float
    power_w: float | None = None
    """Of all devices and hosts at their busiest."""


def all_variants(cluster: Cluster, kinds: Sequence[str], limits: Limits) -> Iterator[Variant]:
    """Every set that can be bought, nothing among them. Raises InputError where a price or a slot is missing."""
    prices = _prices(cluster, kinds, limits)
    if limits.power_w is not None and (now_w := busiest_w(cluster)) > limits.power_w:
        what = f"takes {now_w:,.10g} W at work as it is, more than the limit of {limits.power_w:,.10g} W"
        raise InputError(Problem("the cluster", what, "Retire something first, or allow more"))
    groups = _alike(cluster)
    free = [(node.slots or len(node.devices)) - len(node.devices) for node in (group[0] for group in groups)]
    if not any(free):
        mend = "Say how many devices a node can hold: slots: 8"
        raise InputError(Problem("the cluster", "has no free slot in any node", mend))
    fillings = [list(_fillings(len(group), room, len(kinds))) for group, room in zip(groups, free, strict=True)]
    total = 1
    for rows in fillings:
        total *= len(rows)
    if total > MOST_SETS:
        what = f"there are {total:,} sets of devices that fit the slots, more than can be looked at"
        raise InputError(Problem("the cluster", what, "Let fewer types be bought, or give fewer slots"))
    for chosen in product(*fillings):
        counts = Counter({kind: sum(node[k] for group in chosen for node in group) for k, kind in enumerate(kinds)})
        if sum(prices[kind] * count for kind, count in counts.items()) > limits.budget:
            continue
        edits = tuple(
            f"buy {node[k]} {kind} into {place.name}"
            for group, filling in zip(groups, chosen, strict=True)
            for place, node in zip(group, filling, strict=True)
            for k, kind in enumerate(kinds)
            if node[k]
        )
        variant = edited(cluster, edits, "; ".join(edits) or "nothing")
        if limits.power_w is None or busiest_w(variant.cluster) <= limits.power_w:
            yield variant


def busiest_w(cluster: Cluster) -> float:
    """Watts of all devices at work and all hosts. Raises InputError where the power of a device type is unknown."""
    unknown = sorted(
        {d.type for d in cluster.devices if (p := cluster.device_types[d.type].power) is None or p.busy_w is None}
    )
    if unknown:
        what = f"the power of {', '.join(unknown)} is unknown, and a limit is set"
        raise InputError(Problem("the cluster", what, "Write it under device_types: power: {busy: 250 W}"))
    busy = sum((p.busy_w or 0.0) for d in cluster.devices if (p := cluster.device_types[d.type].power) is not None)
    return busy + sum(node.power_w or 0.0 for node in cluster.nodes)


def _prices(cluster: Cluster, kinds: Sequence[str], limits: Limits) -> dict[str, float]:
    """What each kind costs; those have to be known, and one of them within the budget."""
    found = {kind: cluster.device_types[kind].price for kind in kinds if kind in cluster.device_types}
    problems = [
        Problem(f"device type {kind}", "has no purchase price", "Write it: price: {purchase: 9000, life: 4 years}")
        for kind in kinds
        if (price := found.get(kind)) is None or price.purchase is None
    ]
    if problems or not kinds:
        raise InputError(
            problems or Problem("the scenario", "names nothing that can be bought: no device type has a purchase price")
        )
    prices = {kind: price.purchase for kind, price in found.items() if price and price.purchase is not None}
    cheapest = min(prices, key=lambda kind: prices[kind])
    if prices[cheapest] > limits.budget:
        what = (
            f"costs {prices[cheapest]:,.10g} and is the cheapest to be had: a budget of {limits.budget:,.10g} buys nothing"
        )
        raise InputError(Problem(f"device type {cheapest}", what))
    return prices


def _alike(cluster: Cluster) -> list[list[Node]]:
    """The nodes, those together that no plan can tell apart: the same devices by type, the same links and slots."""
    groups: dict[object, list[Node]] = {}
    for node in cluster.nodes:
        types = tuple(sorted(Counter(device.type for device in node.devices).items()))
        key = node.name if node.wires or cluster.wires else (types, replace(node.link, name=""), node.slots, node.power_w)
        groups.setdefault(key, []).append(node)
    return list(groups.values())


def _fillings(nodes: int, room: int, kinds: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    """How `nodes` equal nodes can be filled, each with a number of every kind, `room` in all; in falling order, so each once."""
    single = sorted((row for row in product(range(room + 1), repeat=kinds) if sum(row) <= room), reverse=True)

    def rest(count: int, first: int) -> Iterator[tuple[tuple[int, ...], ...]]:
        if not count:
            yield ()
            return
        for place in range(first, len(single)):
            for others in rest(count - 1, place):
                yield (single[place], *others)

    yield from rest(nodes, 0)
