"""What an answer hinges on: each input moved down and up, both clusters planned anew, and where the answer would flip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from hetsim.economics import Power, Price
from hetsim.errors import HetsimError, InputError, Problem
from hetsim.hardware import Cluster, DeviceType, Link
from hetsim.study.edits import Variant, edited
from hetsim.study.estimate import Estimate, Estimator

BISECTIONS = 7
"""Looks at a factor between two that give different answers: it is then known to a hundredth of their ratio's logarithm."""

World = tuple[Estimator, Cluster]
"""What estimates rest on, and the cluster before any edits."""


@dataclass(frozen=True, slots=True)
class Input:
    """One thing that may be other than it was said or measured."""

    name: str
    down: float
    """By what it is multiplied at its lower end."""

    up: float
    moved: Callable[[World, float], World]


@dataclass(frozen=True, slots=True)
class Hinge:
    """How much the answer moves with one input."""

    name: str
    down: float
    up: float
    at_down: float
    """The advantage of the variant when the input is multiplied by `down`: 0 where both clusters are worth the same."""

    at_up: float
    flips_at: float | None
    """The factor between the two at which the advantage changes its sign; None: it keeps it."""

    @property
    def swing(self) -> float:
        """By how much the advantage moves in all."""
        return abs(self.at_up - self.at_down)


def advantage(before: Estimate, after: Estimate) -> float:
    """What the variant is better by: in money for a sample where both are known, else in throughput; positive: it is better.

    Where neither costs anything, money tells nothing apart. Raises InputError where the variant alone costs nothing.
    """
    if after.per_million == 0 and before.per_million:
        what = "costs nothing any more, so its advantage in money has no size that an input could move"
        raise InputError(Problem(f"variant {after.variant.name}", what))
    if before.per_million is not None and after.per_million:
        return before.per_million / after.per_million - 1
    return after.samples_per_s / before.samples_per_s - 1


def hinges(
    estimator: Estimator, edits: Sequence[str], on_progress: Callable[[str], None] | None = None
) -> tuple[float, tuple[Hinge, ...]]:
    """The advantage of the variant that `edits` make, and how it moves with each input, the largest swing first."""
    world = (estimator, estimator.scenario.cluster)
    now = _advantage(world, edits)
    rows = []
    for given in _inputs(world, edits):
        if on_progress is not None:
            on_progress(given.name)

        def at(factor: float, given: Input = given) -> float:
            return _advantage(given.moved(world, factor), edits)

        try:
            ends = at(given.down), at(given.up)
        except HetsimError:
            continue  # no plan fits any more: that end is no world in which the question is asked
        rows.append(Hinge(given.name, given.down, given.up, *ends, _flip(at, given.down, given.up, now, ends)))
    return now, tuple(sorted(rows, key=lambda row: -row.swing))


def _advantage(world: World, edits: Sequence[str]) -> float:
    estimator, cluster = world
    before = estimator.estimate(Variant("as it is", cluster), interval=False)
    return advantage(before, estimator.estimate(edited(cluster, edits), interval=False))


def _flip(at: Callable[[float], float], down: float, up: float, now: float, ends: tuple[float, float]) -> float | None:
    """The factor nearest to 1 at which the sign changes, by bisection of its logarithm."""
    for end, value in sorted(((down, ends[0]), (up, ends[1])), key=lambda row: abs(row[1] - now)):
        if (value > 0) != (now > 0):
            inner, outer = 1.0, end
            for _ in range(BISECTIONS):
                middle = float((inner * outer) ** 0.5)
                if (at(middle) > 0) == (now > 0):
                    inner = middle
                else:
                    outer = middle
            return float((inner * outer) ** 0.5)
    return None


def _inputs(world: World, edits: Sequence[str]) -> Iterator[Input]:
    estimator, cluster = world
    after = edited(cluster, edits).cluster
    if len(after.nodes) > 1 or len(cluster.nodes) > 1:
        yield Input("bandwidth of the network", 1 / 4, 4.0, _network)
    yield Input("bandwidth inside nodes", 1 / 4, 4.0, _node_links)
    yield Input("global batch", 1 / 2, 2.0, _batch)
    types = {kind.name: kind for kind in (*cluster.used_types, *after.used_types)}
    known = {row.device_type for table in estimator.tables.values() for row in table.layers}
    for name in types:
        far = 1.6 if name not in known else 1.15
        what = f"time of {name}, transferred" if name not in known else f"time of {name}"
        yield Input(what, 1 / far, far, lambda w, f, name=name: _slower(w, name, f))  # type: ignore[misc]
    for name, kind in types.items():
        if kind.price is not None and kind.price.hourly is not None:
            yield Input(f"price of {name}", 1 / 2, 2.0, lambda w, f, name=name: _priced(w, name, f))  # type: ignore[misc]
        if kind.power is not None and kind.power.busy_w is not None:
            yield Input(f"power of {name}", 0.7, 1.4, lambda w, f, name=name: _powered(w, name, f))  # type: ignore[misc]
    if estimator.scenario.economics.electricity_per_kwh:
        yield Input("price of electricity", 1 / 3, 3.0, _electricity)


def _faster(link: Link, factor: float) -> Link:
    return replace(link, bandwidth_bytes_per_s=link.bandwidth_bytes_per_s * factor)


def _network(world: World, factor: float) -> World:
    estimator, cluster = world
    wires = tuple(replace(wire, link=_faster(wire.link, factor)) for wire in cluster.wires)
    return estimator, replace(cluster, network=_faster(cluster.network, factor), wires=wires)


def _node_links(world: World, factor: float) -> World:
    estimator, cluster = world
    nodes = tuple(replace(node, link=_faster(node.link, factor)) for node in cluster.nodes)
    return estimator, replace(cluster, nodes=nodes)


def _batch(world: World, factor: float) -> World:
    estimator, cluster = world
    specs = tuple(
        replace(spec, training=replace(spec.training, global_batch=max(1, round(spec.training.global_batch * factor))))
        for spec in estimator.scenario.networks
    )
    return replace(estimator, scenario=replace(estimator.scenario, networks=specs)), cluster


def _slower(world: World, name: str, factor: float) -> World:
    estimator, cluster = world
    return replace(estimator, factors={**estimator.factors, name: factor}), cluster


def _priced(world: World, name: str, factor: float) -> World:
    def times(price: Price) -> Price:
        purchase = None if price.purchase is None else price.purchase * factor
        return replace(price, purchase=purchase, per_h=None if price.per_h is None else price.per_h * factor)

    return _with_type(world, name, lambda kind: replace(kind, price=times(kind.price or Price())))


def _powered(world: World, name: str, factor: float) -> World:
    def times(power: Power) -> Power:
        return replace(power, busy_w=None if power.busy_w is None else power.busy_w * factor)

    return _with_type(world, name, lambda kind: replace(kind, power=times(kind.power or Power())))


def _with_type(world: World, name: str, made: Callable[[DeviceType], DeviceType]) -> World:
    estimator, cluster = world
    if name not in cluster.device_types:
        return world
    return estimator, replace(cluster, device_types={**cluster.device_types, name: made(cluster.device_types[name])})


def _electricity(world: World, factor: float) -> World:
    estimator, cluster = world
    economics = estimator.scenario.economics
    price = None if economics.electricity_per_kwh is None else economics.electricity_per_kwh * factor
    economics = replace(economics, electricity_per_kwh=price)
    return replace(estimator, scenario=replace(estimator.scenario, economics=economics)), cluster
