"""How long a step takes at least because of the wires that its transfers share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from hetsim.hardware import Resource
from hetsim.plan import Plan
from hetsim.schedule import Kind
from hetsim.simulator.prices import Flow, Prices


def least_step_ns(plan: Plan, prices: Prices, begins_ns: Sequence[int]) -> float:
    """Nanoseconds under every step of `plan` whose exchanges begin no sooner than at `begins_ns`, by bucket.

    A wire is busy for as long as all its transfers take it, and after any moment for as long as those do that begin from then on.
    Whatever travels last, a device that waits for it has yet to be updated.
    """
    work: dict[Resource, list[tuple[int, float]]] = defaultdict(list)
    for begin_ns, flow, times in _flows(plan, prices, begins_ns):
        for resource, load in flow.load.items():
            work[resource].append((begin_ns, times * load * flow.transfer_ns))
    if not work:
        return 0.0
    return max(map(_end_ns, work.values())) + min(
        prices.compute_ns[stage.device, number, Kind.UPDATE]
        for replica in plan.replicas
        for number, stage in enumerate(replica.stages)
    )


def _flows(plan: Plan, prices: Prices, begins_ns: Sequence[int]) -> Iterator[tuple[int, Flow, int]]:
    """(when it begins, flow, how many of them)."""
    for replica in plan.replicas:
        for number, stage in enumerate(replica.stages):
            for kind in (Kind.SEND_F, Kind.SEND_B):
                if (flow := prices.send.get((stage.device, number, kind))) is not None:
                    yield 0, flow, replica.microbatches
    for begin_ns, phases in zip(begins_ns, prices.exchange, strict=True):
        # What goes to a parameter server does not wait for other devices, so all of it may begin sooner.
        alone = any(flow.owner for flow in phases[0])
        yield from ((0 if alone else begin_ns + flow.latency_ns, flow, 1) for phase in phases for flow in phase)


def _end_ns(work: list[tuple[int, float]]) -> float:
    """When a wire is through with `work`: (when it begins, what it takes), at the earliest."""
    end_ns = left_ns = 0.0
    for begin_ns, taken_ns in sorted(work, reverse=True):
        left_ns += taken_ns
        end_ns = max(end_ns, begin_ns + left_ns)
    return end_ns
