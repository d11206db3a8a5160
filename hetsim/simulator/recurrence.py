"""The closed recurrence: when each action starts and ends, by the longest path through what it waits for.

It states the rules of the event model (see `engine`) as equations: a thing ends at the latest end of what it waits for plus its
duration. Which waits there are depends on the shape of a schedule alone, so they are found once for each shape and kept as a
`Program`. The recurrence knows nothing of sharing: where transfers contend, its step is a lower bound. Elsewhere it agrees with the
event model to the nanosecond; the tests hold the two to that.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from hetsim.collector import collector_at_rest
from hetsim.plan import Plan
from hetsim.schedule import Action, Schedule, make_schedule
from hetsim.simulator.prices import Prices
from hetsim.simulator.program import Program, Thing, Walk
from hetsim.timeline import Timeline
from hetsim.workload import Chain

KEPT_PROGRAMS = 256
"""Shapes whose programs are kept: more than a search has at a time."""


class Node(NamedTuple):
    """One thing that takes time: an action of a device."""

    device: str
    action: Action


class Solution:
    """Start, end and last cause of everything that happens in a step."""

    def __init__(
        self,
        program: Program,
        things: Sequence[Thing],
        durations_ns: Sequence[int],
        devices: Sequence[str],
        ends_ns: Sequence[int] = (),
    ) -> None:
        self._program = program
        self._things = things
        self._durations_ns = durations_ns
        self._devices = devices
        self._ends_ns = ends_ns or program.ends_ns(durations_ns)
        self._nodes = [Node(devices[thing.device], thing.action) for thing in things]

    def happened(self, timeline: Timeline) -> Solution:
        """The same step where everything ended when `timeline` says: what held what up, where transfers had to share."""
        end_of = {(span.device, span.action): span.end_ns for span in timeline.spans}
        known = {
            thing.end: end_of[node.device, str(node.action)] for thing, node in zip(self._things, self._nodes, strict=True)
        }
        ends = [0]
        rows = zip(*self._program.waits, self._durations_ns, strict=True)
        for index, (a, b, c, duration) in enumerate(rows, 1):
            ends.append(known[index] if index in known else max(ends[a], ends[b], ends[c]) + duration)
        return Solution(self._program, self._things, self._durations_ns, self._devices, ends)

    @property
    def step_ns(self) -> int:
        """Nanoseconds from the start of the step to its last end."""
        return max(self._ends_ns)

    @cached_property
    def end_ns(self) -> Mapping[Node, int]:
        """When each action ends."""
        return {node: self._ends_ns[thing.end] for node, thing in zip(self._nodes, self._things, strict=True)}

    @cached_property
    def start_ns(self) -> Mapping[Node, int]:
        """When each action starts; of a message: when it is posted."""
        return {node: self._start_ns(thing) for node, thing in zip(self._nodes, self._things, strict=True)}

    def _start_ns(self, thing: Thing) -> int:
        if thing.start >= 0:
            return self._ends_ns[thing.start]
        return self._ends_ns[thing.first] - self._durations_ns[thing.first - 1]

    def critical_path(self) -> list[tuple[Node, int]]:
        """The chain of causes that ends last, from the start of the step to its end; of a message its send stands in it.

        With each goes the moment until which the next one waited for it, in nanoseconds: a bucket of gradients does not wait for
        the end of the backward that it comes of.
        """
        known = {
            index: node
            for thing, node in zip(reversed(self._things), reversed(self._nodes), strict=True)
            for index in range(thing.first, thing.end + 1)
        }
        index = max(range(len(self._ends_ns)), key=self._ends_ns.__getitem__)
        path: list[tuple[Node, int]] = []
        while index:
            if index in known and known[index] not in [node for node, _ in path[-1:]]:
                path.append((known[index], self._ends_ns[index]))
            index = max((column[index - 1] for column in self._program.waits), key=self._ends_ns.__getitem__)
        return path[::-1]


def solve(schedule: Schedule, prices: Prices) -> Solution:
    """Start and end of every action. Raises PlanError where the schedule waits for itself (deadlock)."""
    walk = Walk(schedule, prices)
    program, devices = walk.run(), list(schedule.actions)
    return Solution(program, walk.things, program.durations_ns(program.values_ns(prices, devices)), devices)


_programs: dict[Any, Program] = {}


def program_of(plan: Plan, chain: Chain, prices: Prices) -> tuple[Program, tuple[str, ...]]:
    """The program of `plan`, and its devices in the order of their numbers."""
    devices = tuple(device for replica in plan.replicas for device in replica.leaders)
    shape = _shape(plan, devices, prices)
    program = _programs.get(shape)
    if program is None:
        with collector_at_rest():
            program = Walk(make_schedule(plan, chain), prices).run()
        if len(_programs) >= KEPT_PROGRAMS:
            del _programs[next(iter(_programs))]
        _programs[shape] = program
    return program, devices


def _shape(plan: Plan, devices: Sequence[str], prices: Prices) -> Hashable:
    """What the waits of a plan depend on: everything but its durations."""
    number = {device: i for i, device in enumerate(devices)}
    replicas = tuple((tuple(number[s.device] for s in r.stages), r.microbatches) for r in plan.replicas)
    parts = tuple(
        tuple(part.ready for part in prices.last_backward[stage.device, place])
        for replica in plan.replicas
        for place, stage in enumerate(replica.stages)
    )
    return plan.schedule, replicas, parts, prices.posting
