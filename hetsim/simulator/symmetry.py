"""The event model by one replica of each class: replicas that are alike, and share alike, do the same at the same time.

Replicas and resources are put into classes that are refined until they are stable (Berkholz, Bonsma & Grohe 2017):

* all replicas of a class have the same durations, and each of their flows crosses as many resources of each class with equal loads;
* all resources of a class are crossed by as many flows of each class of replicas with equal loads.

Then all replicas of a class are at the same point at any time. For suppose that they have been until now. The resources of a class
are crossed by the same flows, so in each round of progressive filling they are as full as each other; the flows of a class stop
growing together and get the same share; so what ends next ends for the whole class. What is left of each class is one replica and
one resource, which carries as much of each class as it did: the flows of the one replica stand for those of all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from hetsim.conditions import Disturbance
from hetsim.exchange import Bucket, buckets
from hetsim.hardware import Resource
from hetsim.plan import Plan, Replica
from hetsim.schedule import Kind, Schedule, make_schedule
from hetsim.simulator.engine import simulate
from hetsim.simulator.likeness import durations
from hetsim.simulator.prices import Flow, Prices
from hetsim.timeline import Timeline
from hetsim.workload import Chain


@dataclass(frozen=True, slots=True)
class Quotient:
    """What is left of a plan: one replica of each class, with prices under which it does what it does in the whole plan."""

    plan: Plan
    prices: Prices
    twins: Mapping[str, Sequence[str]]
    """Device of a replica that is left -> the devices that do the same at the same time, itself among them."""

    def schedule(self, chain: Chain) -> Schedule:
        """The schedule of what is left, which exchanges gradients though it may be one replica."""
        return make_schedule(self.plan, chain, part=bool(self.prices.exchange))


def play(plan: Plan, chain: Chain, prices: Prices, disturbances: Iterable[Disturbance] = ()) -> Timeline:
    """The predicted timeline of one step of `plan`: that of `simulate`, by one replica of each class."""
    disturbances = tuple(disturbances)
    one = quotient(plan, prices, contended(plan, buckets(plan, chain), prices), disturbances)
    timeline = simulate(one.schedule(chain), one.prices, disturbances)
    return Timeline.of(span._replace(device=twin) for span in timeline.spans for twin in one.twins[span.device])


def contended(plan: Plan, plan_buckets: Sequence[Bucket], prices: Prices) -> frozenset[Resource]:
    """The resources that may have to be shared: cores, and wires whose lanes of transfers could use more than they carry in all.

    What one device sends to another, and the buckets of the same devices, travel one after the other, in one lane.
    """
    most: dict[Resource, dict[Hashable, float]] = defaultdict(dict)

    def add(lane: Hashable, flow: Flow) -> None:
        for resource, share in flow.load.items():
            lanes = most[resource]
            lanes[lane] = max(share, lanes.get(lane, 0.0))

    for replica in plan.replicas:
        for number, stage in enumerate(replica.stages):
            for kind, other in ((Kind.SEND_F, number + 1), (Kind.SEND_B, number - 1)):
                if (flow := prices.send.get((stage.device, number, kind))) is not None:
                    add((stage.device, replica.stages[other].device), flow)
    lane_of = _numbered(bucket.segment.devices for bucket in plan_buckets)
    for lane, phases in zip(lane_of, prices.exchange, strict=True):
        for phase in phases:
            for part, flow in enumerate(phase):
                add((lane, part), flow)
    wires = (resource for resource, lanes in most.items() if len(lanes) > 1 and sum(lanes.values()) > 1 + 1e-9)
    return frozenset(wires).union(*prices.cores.values())


class _Use(NamedTuple):
    """Something that takes of resources."""

    replica: int
    """Number of the replica that it belongs to; -1: to none."""

    what: Hashable
    """What it is: the same for two that are alike."""

    load: Mapping[Resource, float]


def quotient(
    plan: Plan, prices: Prices, resources: Collection[Resource], disturbances: Iterable[Disturbance] = ()
) -> Quotient:
    """`plan` under `prices` and `disturbances` by one replica of each class, where `resources` alone may have to be shared."""
    uses = [
        use._replace(load={resource: share for resource, share in use.load.items() if resource in resources})
        for use in _uses(plan, prices)
    ]
    flows: dict[int, list[Hashable]] = defaultdict(list)
    for number, _, flow in _flows(plan, prices):
        flows[number].append((flow.latency_ns, flow.transfer_ns, flow.bytes_per_s))
    first = _numbered(
        (durations(replica, prices), tuple(flows[number]), _disturbed(replica, disturbances))
        for number, replica in enumerate(plan.replicas)
    )
    class_of, resource_class_of = _stable(first, uses)
    return _left(plan, prices, uses, class_of, resource_class_of)


def _uses(plan: Plan, prices: Prices) -> Iterator[_Use]:
    for number, what, flow in _flows(plan, prices):
        yield _Use(number, what, flow.load)
    for number, replica in enumerate(plan.replicas):
        for place, device in enumerate(replica.leaders):
            if device in prices.cores:
                yield _Use(number, ("cores", place), prices.cores[device])


def _flows(plan: Plan, prices: Prices) -> Iterator[tuple[int, Hashable, Flow]]:
    """(number of the replica, what it is, flow): -1 for an exchange of all replicas. Where each has a flow of its own, these are in
    the order of the replicas."""
    for number, replica in enumerate(plan.replicas):
        for place, stage in enumerate(replica.stages):
            for kind in (Kind.SEND_F, Kind.SEND_B):
                if (flow := prices.send.get((stage.device, place, kind))) is not None:
                    yield number, (kind, place), flow
    for bucket, phases in enumerate(prices.exchange):
        for place, phase in enumerate(phases):
            for number, flow in zip(_owners(plan, phase), phase, strict=True):
                yield number, ("exchange", bucket, place), flow


def _owners(plan: Plan, phase: Sequence[Flow]) -> Sequence[int]:
    return (-1,) if len(phase) == 1 else range(len(plan.replicas))


def _disturbed(replica: Replica, disturbances: Iterable[Disturbance]) -> Hashable:
    """What disturbs which stage."""
    return tuple(
        (place, row.slowdown, row.from_s, row.until_s)
        for row in disturbances
        for place, stage in enumerate(replica.stages)
        if row.device in stage.group
    )


def _stable(class_of: list[int], uses: Sequence[_Use]) -> tuple[list[int], dict[Resource, int]]:
    """The coarsest classes of replicas within `class_of`, and of resources, that are stable under `uses`."""
    whats = _numbered(use.what for use in uses)
    while True:
        on: dict[Resource, list[tuple[int, int, float]]] = defaultdict(list)
        for use, what in zip(uses, whats, strict=True):
            owner = class_of[use.replica] if use.replica >= 0 else -1
            for resource, share in use.load.items():
                on[resource].append((owner, what, share))
        resource_class_of = dict(zip(on, _numbered(tuple(sorted(rows)) for rows in on.values()), strict=True))
        crossed: list[list[Hashable]] = [[number] for number in class_of]
        for use in uses:
            if use.replica >= 0:
                crossed[use.replica].append(tuple(sorted((resource_class_of[r], share) for r, share in use.load.items())))
        refined = _numbered(map(tuple, crossed))
        if max(refined) == max(class_of):
            return class_of, resource_class_of
        class_of = refined


def _numbered(keys: Iterable[Hashable]) -> list[int]:
    """The number of each key: equal ones have the same, counted in the order in which they first come."""
    number: dict[Hashable, int] = {}
    return [number.setdefault(key, len(number)) for key in keys]


def _left(
    plan: Plan, prices: Prices, uses: Sequence[_Use], class_of: list[int], resource_class_of: Mapping[Resource, int]
) -> Quotient:
    """What is left where of each class of replicas the first one is, and of each class of resources any."""
    first_of = {number: i for i, number in reversed(list(enumerate(class_of)))}
    kept = set({number: resource for resource, number in resource_class_of.items()}.values())
    carried: dict[tuple[int, Hashable], dict[Resource, float]] = defaultdict(lambda: defaultdict(float))
    for use in uses:
        mine = carried[first_of[class_of[use.replica]] if use.replica >= 0 else -1, use.what]
        for resource, share in use.load.items():
            if resource in kept:
                mine[resource] += share
    firsts = sorted(first_of.values())
    return Quotient(
        replace(plan, replicas=tuple(plan.replicas[number] for number in firsts)),
        _with_loads(plan, prices, firsts, carried),
        _twins(plan, [first_of[number] for number in class_of]),
    )


def _with_loads(
    plan: Plan, prices: Prices, firsts: Sequence[int], loads: Mapping[tuple[int, Hashable], Mapping[Resource, float]]
) -> Prices:
    """`prices` where what the replicas `firsts` send, exchange and compute on takes `loads` (by replica, and what it is)."""
    kept = {-1, *firsts}
    flows = {
        (number, what): replace(flow, load=dict(loads[number, what]))
        for number, what, flow in _flows(plan, prices)
        if number in kept
    }
    stages = [(number, place, stage.device) for number in firsts for place, stage in enumerate(plan.replicas[number].stages)]
    leaders = [(number, place, device) for number in firsts for place, device in enumerate(plan.replicas[number].leaders)]
    return replace(
        prices,
        send={
            (device, place, kind): flows[number, (kind, place)]
            for number, place, device in stages
            for kind in (Kind.SEND_F, Kind.SEND_B)
            if (number, (kind, place)) in flows
        },
        exchange=tuple(
            tuple(
                tuple(flows[number, ("exchange", bucket, place)] for number in _owners(plan, phase) if number in kept)
                for place, phase in enumerate(phases)
            )
            for bucket, phases in enumerate(prices.exchange)
        ),
        cores={device: dict(loads[number, ("cores", place)]) for number, place, device in leaders if device in prices.cores},
    )


def _twins(plan: Plan, first_of: Sequence[int]) -> dict[str, list[str]]:
    """Device of a first replica -> that of each replica of its class; `first_of`: by replica."""
    twins: dict[str, list[str]] = defaultdict(list)
    for number, replica in zip(first_of, plan.replicas, strict=True):
        for device, twin in zip(plan.replicas[number].devices, replica.devices, strict=True):
            twins[device].append(twin)
    return twins
