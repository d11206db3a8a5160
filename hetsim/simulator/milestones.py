"""The closed recurrence replica by replica: when the exchange of each bucket begins, and when the step ends.

What a replica computes and sends waits for nothing of the others: only its updates do, for the exchanges. So each replica is solved
by itself, by a program that depends on its depth and its microbatches alone; the pieces of its last backwards tell when it has
packed which bucket; and the exchanges follow from one another. That is `recurrence.solve` to the nanosecond, without a program of
the whole plan, which for plans of unlike replicas is long in the making and never used again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from hetsim.collector import collector_at_rest
from hetsim.plan import Plan, Replica, ScheduleName
from hetsim.schedule import Kind, make_schedule
from hetsim.simulator.likeness import representatives
from hetsim.simulator.prices import Prices
from hetsim.simulator.program import Program, Walk
from hetsim.workload import Chain

KEPT_PROGRAMS = 1024
"""Depths, numbers of microbatches and schedules whose programs are kept."""


@dataclass(frozen=True, slots=True)
class Milestones:
    """What is known of a step without its timeline."""

    step_ns: int
    begins_ns: tuple[int, ...]
    """By bucket: when all its devices have packed it and are done with earlier ones."""


def milestones(plan: Plan, chain: Chain, prices: Prices) -> Milestones:
    """The milestones of one step of `plan`. Raises PlanError where no schedule can order it."""
    replicas = representatives(plan, prices).replicas
    alone = [_Alone(replica, prices, _own_program(replica, plan.schedule, chain, prices)) for replica in replicas]
    packed_ns = [0] * len(prices.exchange_ns)
    holders: list[list[str]] = [[] for _ in prices.exchange_ns]
    for mine in alone:
        for device, bucket, ready_ns in mine.packed():
            packed_ns[bucket] = max(packed_ns[bucket], ready_ns)
            holders[bucket].append(device)
    begins_ns: list[int] = []
    reduced_ns: dict[str, int] = defaultdict(int)
    """Device -> when the last of its buckets so far is exchanged."""

    for devices, packed, duration_ns in zip(holders, packed_ns, prices.exchange_ns, strict=True):
        begins_ns.append(max([packed, *(reduced_ns[device] for device in devices)]))
        reduced_ns.update(dict.fromkeys(devices, begins_ns[-1] + duration_ns))
    return Milestones(max(end for mine in alone for end in mine.ends_ns(reduced_ns)), tuple(begins_ns))


def step_ns(plan: Plan, chain: Chain, prices: Prices) -> int:
    """Nanoseconds of one step of `plan`. Raises PlanError where no schedule can order it."""
    return milestones(plan, chain, prices).step_ns


# --- inside ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _OwnProgram:
    """What a replica waits for if there are no others."""

    program: Program
    last_backward: tuple[int, ...]
    """By stage: the node of its last backward."""

    update: tuple[int, ...]
    """By stage: the node of its update."""


@dataclass(frozen=True)
class _Alone:
    """A replica, solved by itself."""

    replica: Replica
    prices: Prices
    own: _OwnProgram

    def packed(self) -> Iterator[tuple[str, int, int]]:
        """(device, bucket, when the device has packed it)."""
        for number, stage in enumerate(self.replica.stages):
            end_ns = self._nodes_ns[self.own.last_backward[number]]
            for part in reversed(self.prices.last_backward[stage.device, number]):
                yield from ((stage.device, bucket, end_ns) for bucket in part.ready)
                end_ns -= part.duration_ns

    def ends_ns(self, reduced_ns: Mapping[str, int]) -> Iterator[int]:
        """When each stage is updated, if the last bucket of its device is exchanged at `reduced_ns`."""
        updated_ns = dict(reduced_ns)
        for number, stage in enumerate(self.replica.stages):
            update_ns = self.prices.compute_ns[stage.device, number, Kind.UPDATE]
            begin_ns = max(self._nodes_ns[self.own.update[number]] - update_ns, updated_ns.get(stage.device, 0))
            updated_ns[stage.device] = begin_ns + update_ns
            yield updated_ns[stage.device]

    @cached_property
    def _nodes_ns(self) -> list[int]:
        program = self.own.program
        return program.ends_ns(program.durations_ns(program.values_ns(self.prices, self.replica.leaders)))


_programs: dict[Hashable, _OwnProgram] = {}


def _own_program(replica: Replica, schedule: ScheduleName, chain: Chain, prices: Prices) -> _OwnProgram:
    place = {device: number for number, device in enumerate(replica.leaders)}
    places = tuple(place[stage.device] for stage in replica.stages)
    shape = schedule, places, replica.microbatches, prices.posting
    if shape not in _programs:
        with collector_at_rest():
            program = Walk(make_schedule(Plan((replica,), schedule), chain), prices, noting=False).run()
        if len(_programs) >= KEPT_PROGRAMS:
            del _programs[next(iter(_programs))]
        node_of = {slot: node for node, slot in enumerate(program.slot_of, 1)}
        _programs[shape] = _OwnProgram(
            program,
            tuple(node_of[program.slots["last_backward", p, stage, None]] for stage, p in enumerate(places)),
            tuple(node_of[program.slots["compute", p, stage, Kind.UPDATE]] for stage, p in enumerate(places)),
        )
    return _programs[shape]
