"""The best purchase: every set of devices that a budget, the free slots and the power allow, ruled out by bounds or planned.

A set is not planned when sets that were planned are at least as fast as it can be at all (`hetsim.study.bound`), one for no more
money and one for no more energy: so both fronts, and the best purchase, are the same as if all had been planned. What was
planned is kept in a file, line by line, and an interrupted search goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path

from hetsim.economics import JOULES_PER_KWH, MILLION
from hetsim.errors import InfeasibleError
from hetsim.hardware import Cluster
from hetsim.study.bound import ClusterBound
from hetsim.study.desk import SAME, Desk, Offer, Purchase
from hetsim.study.edits import Variant, edited
from hetsim.study.estimate import Estimator
from hetsim.study.sets import Limits, all_variants


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
        return self.front[-1]

    @property
    def front(self) -> tuple[Purchase, ...]:
        """Those than which none that costs no more is as fast, from the cheapest to the fastest."""
        return _front(sorted(self.purchases, key=lambda row: (row.spent, -row.samples_per_s)))

    @property
    def energy_front(self) -> tuple[Purchase, ...]:
        """Those than which none that takes no more energy for a sample is as fast, from the most frugal to the fastest."""
        known = [(row.kwh_per_million, row) for row in self.purchases if row.kwh_per_million is not None]
        return _front([row for _, row in sorted(known, key=lambda pair: (pair[0], -pair[1].samples_per_s))])


def _front(rows: Sequence[Purchase]) -> tuple[Purchase, ...]:
    """Of `rows`, the dearest last, those that are faster than all before."""
    front: list[Purchase] = []
    for row in rows:
        if not front or row.samples_per_s > front[-1].samples_per_s * (1 + SAME):
            front.append(row)
    return tuple(front)


Progress = Callable[[int, int, Purchase], None]
"""Sets decided, sets in all, and the fastest so far."""


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
    variants = list(all_variants(estimator.scenario.cluster, kinds, limits))
    desk = Desk(_offers(estimator, kinds, variants), journal)
    waiting: dict[Future[Purchase | None], Variant] = {}
    queue, ended_early = _to_plan(desk), False
    try:
        while True:
            while len(waiting) < at_once and (variant := next(queue, None)) is not None:
                waiting[executor.submit(_planned, estimator, variant)] = variant
            if not waiting:
                break
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                desk.take(waiting[future], future.result())
                del waiting[future]
            if on_progress is not None and desk.fastest is not None:
                on_progress(desk.decided, len(variants), desk.fastest)
    except KeyboardInterrupt:
        for future, variant in waiting.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                desk.take(variant, future.result())
        if not desk.purchases:
            raise
        ended_early = True
    finally:
        for future in waiting:
            future.cancel()
    rows = tuple(sorted(desk.purchases, key=lambda row: (row.spent, row.edits)))
    ruled_out = (desk.decided if ended_early else len(variants)) - len(desk.found)
    return Found(rows, len(variants), ruled_out, desk.infeasible, ended_early)


def _to_plan(desk: Desk) -> Iterator[Variant]:
    """What has to be planned, judged by what is known when it is asked for.

    First what may be the fastest of all. Then from the cheapest on, and from the most frugal on: when the turn of a set comes, all
    that could rule it out is known.
    """
    begun = set(desk.found)

    def new(place: int) -> Iterator[Variant]:
        variant = desk.offers[place].variant
        if variant.edits not in begun:
            begun.add(variant.edits)
            yield variant

    offers = desk.offers
    places = range(len(offers))
    yield from (
        variant for place in places if not offers[place].variant.edits for variant in new(place)
    )  # what all are held against
    for place in sorted(places, key=lambda i: (-offers[i].most_per_s, offers[i].spent)):
        if (fastest := desk.fastest) is not None and offers[place].most_per_s <= fastest.samples_per_s * (1 + SAME):
            break
        yield from new(place)
    for place in sorted(places, key=lambda i: (offers[i].spent, -offers[i].most_per_s)):
        if desk.may_be_on_the_front(place):
            yield from new(place)
    for place in sorted(places, key=lambda i: (offers[i].least_kwh or 0.0, -offers[i].most_per_s)):
        if desk.may_be_on_the_energy_front(place):
            yield from new(place)


def _offers(estimator: Estimator, kinds: Sequence[str], variants: Sequence[Variant]) -> list[Offer]:
    """`variants` with their bounds."""
    # Bounds know devices by their types, so one of each is enough, and need not hang together with the rest.
    cluster = replace(estimator.scenario.cluster, wires=())
    showroom = edited(cluster, [f"buy 1 {kind} into new showroom-{i}" for i, kind in enumerate(kinds)], "showroom")
    scenario = estimator.scenario
    total = sum(spec.weight for spec in scenario.networks)
    bounds = [
        (
            spec.weight / total / spec.training.global_batch,
            ClusterBound(estimator.costs(showroom, spec)[0], spec.training, scenario.search),
        )
        for spec in scenario.networks
    ]
    offers = []
    for variant in variants:
        steps_s = [bound.step_s(variant.cluster) for _, bound in bounds]
        per_sample_s = sum(part * step_s for (part, _), step_s in zip(bounds, steps_s, strict=True))
        least_kwh = None
        if _energy_is_known(variant.cluster):
            rows = zip(bounds, steps_s, strict=True)
            joules = sum(part * bound.energy_j(variant.cluster, step_s) for (part, bound), step_s in rows)
            least_kwh = joules * scenario.economics.pue / JOULES_PER_KWH * MILLION
        most_per_s = 1 / per_sample_s if per_sample_s else float("inf")
        offers.append(Offer(variant, variant.spent or 0.0, most_per_s, least_kwh))
    return offers


def _energy_is_known(cluster: Cluster) -> bool:
    """Whether anything is said of the power of everything that takes some."""
    hosts = all(node.power_w is not None for node in cluster.nodes if node.price is not None)
    return hosts and all(cluster.device_types[device.type].power is not None for device in cluster.devices)


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
