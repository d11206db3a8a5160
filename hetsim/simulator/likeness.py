"""Replicas that are alike: they do the same at the same time, so one of each class tells the step of all.

Two replicas are *alike* where they have the same cuts, groups as wide and as many microbatches, and all in them takes the same
nanoseconds. They wait for the same things: for actions of their own, and for exchanges, which start for all their devices at once
when the last is ready. So by induction over what happens they do everything at the same time, and the recurrence of a plan with one
replica of each class, under the prices of the whole plan, gives the step of the whole plan. Large plans have few classes.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from hetsim.plan import Plan, Replica
from hetsim.schedule import Kind
from hetsim.simulator.prices import Prices

_MESSAGES = (Kind.SEND_F, Kind.SEND_B)
_POSTED = (Kind.SEND_F, Kind.RECV_F, Kind.SEND_B, Kind.RECV_B)
_COMPUTED = (Kind.FORWARD, Kind.BACKWARD, Kind.UPDATE)


def representatives(plan: Plan, prices: Prices) -> Plan:
    """`plan` with the first replica of each class alone."""
    firsts: dict[Hashable, Replica] = {}
    for replica in plan.replicas:
        firsts.setdefault(durations(replica, prices), replica)
    return replace(plan, replicas=tuple(firsts.values()))


def durations(replica: Replica, prices: Prices) -> Hashable:
    """All that a replica's times depend on, but for what it shares with others: equal for two that are alike."""
    place = {device: number for number, device in enumerate(replica.leaders)}
    stages = []
    for number, stage in enumerate(replica.stages):
        device = stage.device
        sends = (prices.send.get((device, number, kind)) for kind in _MESSAGES)
        stages.append(
            (
                place[device],
                stage.start,
                stage.stop,
                len(stage.group),
                prices.start_ns[device],
                prices.first_backward_ns[device, number],
                prices.last_backward[device, number],
                *(prices.compute_ns[device, number, kind] for kind in _COMPUTED),
                *(flow and flow.duration_ns for flow in sends),
                *(prices.post_ns.get((device, number, kind)) for kind in _POSTED),
            )
        )
    return replica.microbatches, tuple(stages)
