"""The best purchase: every set of devices that a budget, the free slots and the power allow, ruled out by bounds or planned.

Sets that differ only in which of two equal nodes they fill are one. A set is not planned when another one that costs no more is
known to be at least as fast as this one can be at all (`hetsim.study.bound`): so the front of throughput against money is the same
as if all had been planned, and the best purchase is the best. What was planned is kept in a file, line by line, and an interrupted
search goes on with it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from hetsim.errors import InfeasibleError, InputError, Problem
from hetsim.hardware import Cluster, Node
from hetsim.study.bound import ClusterBound
from hetsim.study.edits import Variant, edited
from hetsim.study.estimate import Estimator

MOST_SETS = 1_000_000
"""More sets than anybody waits for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a purchase must not exceed."""

    budget: float
    power_w: float | None = None
    """Of all devices and hosts at their busiest."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """One set of devices, and what it comes to."""

    edits: tuple[str, ...]
    spent: float
    samples_per_s: float
    """Of the mix."""

    per_million: float | None
    kwh_per_million: float | None
    plans: Mapping[str, str]
    """Network -> its plan."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found."""

    purchases: tuple[Purchase, ...]
    """All that were planned, the cheapest first; the first buys nothing."""

    considered: int
    ruled_out: int
    """By a bound, without being planned."""

    infeasible: int
    ended_early: bool = False

    @property
    def best(self) -> Purchase:
        """The fastest; of equally fast ones the cheapest."""
        return max(self.purchases, key=lambda row: (row.samples_per_s, -row.spent))

    @property
    def front(self) -> tuple[Purchase, ...]:
        """Those than which no other is both cheaper and faster, from the cheapest to the fastest."""
        rows: list[Purchase] = []
        for row in sorted(self.purchases, key=lambda row: (row.spent, -row.samples_per_s)):
            if not rows or row.samples_per_s > rows[-1].samples_per_s:
                rows.append(row)
        return tuple(rows)

    @property
    def energy_front(self) -> tuple[Purchase, ...]:
        """Those planned than which no other planned is both faster and takes less energy for a sample, from the most frugal on."""
        rows: list[Purchase] = []
        known = [row for row in self.purchases if row.kwh_per_million is not None]
        for row in sorted(known, key=lambda row: (row.kwh_per_million or 0.0, -row.samples_per_s)):
            if not rows or row.samples_per_s > rows[-1].samples_per_s:
                rows.append(row)
        return tuple(rows)


Progress = Callable[[int, int, Purchase], None]
"""Sets done, sets in all, and the best so far."""


def purchases(
    estimator: Estimator,
    kinds: Sequence[str],
    limits: Limits,
    executor: Executor,
    *,
    journal: Path | None = None,
    on_progress: Progress | None = None,
    at_once: int = 2,
) -> Found:
    """The best purchases of `kinds` within `limits`; `executor` plans up to `at_once` sets at the same time.

    Raises InputError where nothing can be bought, with what is missing. Ctrl-C ends the search with what is known.
    """
    variants = [*all_variants(estimator.scenario.cluster, kinds, limits)]
    bounds = _bounds(estimator, kinds)
    order = sorted(range(len(variants)), key=lambda i: (variants[i].spent or 0.0, i))
    desk = _Desk(variants, journal)
    waiting: dict[Future[Purchase | None], Variant] = {}
    ruled_out, ended_early = 0, False
    # From both ends: the dearest sets are mostly the fastest, which rules many out; the cheapest are what they are held against.
    queue = _from_both_ends([variants[i] for i in order])
    try:
        while queue or waiting:
            while queue and len(waiting) < at_once:
                variant = queue.pop(0)
                if desk.rules_out(variant, _bound_of(bounds, variant)):
                    ruled_out += 1
                elif not desk.knows(variant):
                    waiting[executor.submit(_planned, estimator, variant)] = variant
            if waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    desk.take(waiting.pop(future), future.result())
            if on_progress is not None and desk.purchases:
                on_progress(len(variants) - len(queue) - len(waiting), len(variants), desk.best)
    except KeyboardInterrupt:
        for future in [future for future in waiting if future.done()]:
            desk.take(waiting.pop(future), future.result())
        if not desk.purchases:
            raise
        ended_early = True
    finally:
        for future in waiting:
            future.cancel()
    rows = tuple(sorted(desk.purchases, key=lambda row: (row.spent, row.edits)))
    return Found(rows, len(variants), ruled_out, desk.infeasible, ended_early)


def all_variants(cluster: Cluster, kinds: Sequence[str], limits: Limits) -> Iterator[Variant]:
    """Every set that can be bought, that of nothing first. Raises InputError where a price or a slot is missing."""
    prices = _prices(cluster, kinds, limits)
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
        what = f"the budget of {limits.budget:g} buys nothing: the cheapest device, {cheapest}, costs {prices[cheapest]:g}"
        raise InputError(Problem("the budget", what))
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


def _bounds(estimator: Estimator, kinds: Sequence[str]) -> list[tuple[float, ClusterBound]]:
    """(weight over batch, bound) of each network, for clusters of all types that can turn up."""
    # Bounds know of no links, so the showroom need not hang together with the rest.
    cluster = replace(estimator.scenario.cluster, wires=())
    showroom = edited(cluster, [f"buy 1 {kind} into new showroom-{i}" for i, kind in enumerate(kinds)], "showroom")
    networks = estimator.scenario.networks
    total = sum(spec.weight for spec in networks)
    return [
        (
            spec.weight / total / spec.training.global_batch,
            ClusterBound(estimator.costs(showroom, spec)[0], spec.training.global_batch),
        )
        for spec in networks
    ]


def _bound_of(bounds: Sequence[tuple[float, ClusterBound]], variant: Variant) -> float:
    """Seconds that a sample of the mix takes at least."""
    return sum(weight * bound.step_s(variant.cluster) for weight, bound in bounds)


def _from_both_ends(variants: Sequence[Variant]) -> list[Variant]:
    first, last = list(variants), []
    while first:
        last.append(first.pop(0))
        if first:
            last.append(first.pop())
    return last


def _planned(estimator: Estimator, variant: Variant) -> Purchase | None:
    """A set, planned; None where no plan fits it. Runs in another process."""
    try:
        found = estimator.estimate(variant, interval=False)
    except InfeasibleError:
        return None
    return Purchase(
        variant.edits,
        variant.spent or 0.0,
        found.samples_per_s,
        found.per_million,
        found.kwh_per_million,
        {answer.network: answer.plan for answer in found.answers},
    )


class _Desk:
    """What is known so far of these variants, and the file that keeps it."""

    def __init__(self, variants: Sequence[Variant], journal: Path | None) -> None:
        self._journal = journal
        # The file also holds what was planned within other limits: that is neither to be bought here nor to be counted.
        asked = {variant.edits for variant in variants}
        self._known = {edits: found for edits, found in _on_file(journal) if edits in asked}
        self._cut_off = _is_cut_off(journal)

    @property
    def purchases(self) -> list[Purchase]:
        """All that were planned and fit."""
        return [row for row in self._known.values() if row is not None]

    @property
    def infeasible(self) -> int:
        """How many no plan fits."""
        return sum(row is None for row in self._known.values())

    @property
    def best(self) -> Purchase:
        """The fastest so far."""
        return max(self.purchases, key=lambda row: row.samples_per_s)

    def knows(self, variant: Variant) -> bool:
        """Whether it was planned before."""
        return variant.edits in self._known

    def rules_out(self, variant: Variant, seconds_per_sample: float) -> bool:
        """Whether one that costs no more is at least as fast as this can be."""
        if variant.edits in self._known or not variant.edits:
            return False
        fastest = 1 / seconds_per_sample if seconds_per_sample else float("inf")
        spent = variant.spent or 0.0
        return any(row.samples_per_s >= fastest and row.spent <= spent for row in self.purchases)

    def take(self, variant: Variant, found: Purchase | None) -> None:
        """Note what came out, in the file before anything else."""
        if self._journal is not None:
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            row = {name: getattr(found, name) for name in found.__slots__} if found else None
            with self._journal.open("a", encoding="utf-8") as file:
                file.write("\n" * self._cut_off + json.dumps({"edits": variant.edits, "found": row}) + "\n")
            self._cut_off = False
        self._known[variant.edits] = found


def _on_file(journal: Path | None) -> Iterator[tuple[tuple[str, ...], Purchase | None]]:
    """(edits, what they came to) of each line; a line that was cut off when its process was killed is planned again."""
    if journal is None or not journal.exists():
        return
    for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            edits, found = tuple(row["edits"]), row["found"]
            purchase = None if found is None else Purchase(**{**found, "edits": edits})
        except (ValueError, KeyError, TypeError):
            continue
        yield edits, purchase


def _is_cut_off(journal: Path | None) -> bool:
    """Whether the file ends within a line."""
    if journal is None or not journal.exists():
        return False
    text = journal.read_bytes()
    return bool(text) and not text.endswith(b"\n")
