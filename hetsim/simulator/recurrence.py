"""The closed recurrence: when each action starts and ends, by the longest path through what it waits for.

It states the rules of the event model (see `engine`) as equations: a thing ends at the latest end of what it waits for plus its
duration. Which waits there are depends on the shape of a schedule alone, so they are found once for each shape and kept
(`Program`); solving them for other prices is one loop over numbers. The recurrence knows nothing of sharing: where transfers
contend, its step is a lower bound. Elsewhere it agrees with the event model to the nanosecond; the tests hold the two to that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hetsim.errors import PlanError
from hetsim.plan import Plan
from hetsim.schedule import Action, Kind, Schedule, make_schedule
from hetsim.simulator.prices import Prices
from hetsim.timeline import Timeline
from hetsim.workload import Chain

KEPT_PROGRAMS = 256
"""Shapes whose programs are kept: more than a search has at a time."""


class Node(NamedTuple):
    """One thing that takes time: an action of a device."""

    device: str
    action: Action


Slot = tuple[str, int, int, Hashable]
"""What a duration is looked up by: the field of the prices, the device's number, the stage, and the rest of the key."""


@dataclass(slots=True)
class _Thing:
    """A node of a program as a person knows it."""

    device: int
    action: Action
    start: int
    """Number of the node at whose end it starts (of a message: at which it is posted); -1: when its own duration begins."""

    index: int
    """Number of the node at whose end it ends."""

    first: int
    """Number of the node with which it begins; a backward may have several."""


@dataclass(slots=True)
class Program:
    """What waits for what in schedules of one shape, in an order in which it can be solved.

    Node i + 1 starts when nodes `waits[0][i]`, `waits[1][i]` and `waits[2][i]` have ended; node 0 is the start of the step.
    """

    waits: tuple[list[int], list[int], list[int]] = field(default_factory=lambda: ([], [], []))
    slot_of: list[int] = field(default_factory=list)
    """By node from 1 on: the number of its slot."""

    slots: dict[Slot, int] = field(default_factory=dict)
    things: list[_Thing] = field(default_factory=list)

    def add(self, slot: Slot, *waits: int) -> int:
        """A new node; its number. It may wait for any number of others."""
        known = sorted(set(waits) - {0})
        while len(known) > 3:
            known = sorted({*known[3:], self.add(_NO_TIME, *known[:3])})
        for column, wait in zip(self.waits, [*known, 0, 0, 0], strict=False):
            column.append(wait)
        self.slot_of.append(self.slots.setdefault(slot, len(self.slots)))
        return len(self.slot_of)

    def ends_ns(self, durations_ns: Sequence[int]) -> list[int]:
        """When each node ends, by its number, where they take `durations_ns` (from node 1 on)."""
        ends = [0]
        append = ends.append
        for a, b, c, duration in zip(*self.waits, durations_ns, strict=True):
            latest, other = ends[a], ends[b]
            if other > latest:
                latest = other
            other = ends[c]
            if other > latest:
                latest = other
            append(latest + duration)
        return ends

    def steps_ns(self, values_ns: NDArray[np.int64], jitter: float = 0.0, seed: int = 0) -> NDArray[np.float64]:
        """The step for many prices at once: `values_ns` has a row a slot and a column a case.

        With `jitter` each piece of computation takes a time of its own: log-normal with that deviation, its mean as priced.
        """
        random = np.random.default_rng(seed)
        cases = values_ns.shape[1]
        computed = [slot[0] in _COMPUTED for slot in self.slots]
        ends = [np.zeros(cases)]
        for a, b, c, slot in zip(*self.waits, self.slot_of, strict=True):
            latest = np.maximum(ends[a], ends[b]) if b else ends[a]
            if c:
                latest = np.maximum(latest, ends[c])
            duration = values_ns[slot]
            if jitter and computed[slot]:
                duration = duration * random.lognormal(-jitter * jitter / 2, jitter, cases)
            ends.append(latest + duration)
        steps: NDArray[np.float64] = np.max(ends, axis=0)
        return steps

    def values_ns(self, prices: Prices, devices: Sequence[str]) -> list[int]:
        """The duration of each slot; `devices` in the order of their numbers."""
        return [_value_ns(prices, devices, slot) for slot in self.slots]

    def durations_ns(self, values_ns: Sequence[int]) -> list[int]:
        """The duration of each node from 1 on."""
        return [values_ns[slot] for slot in self.slot_of]


_COMPUTED = ("compute", "first_backward", "part")
"""Fields of the prices that hold computation."""

_NO_TIME: Slot = ("nothing", 0, 0, None)


def _value_ns(prices: Prices, devices: Sequence[str], slot: Slot) -> int:
    table, device, stage, rest = slot
    name = devices[device] if device < len(devices) else ""
    match table:
        case "start":
            return prices.start_ns[name]
        case "compute":
            return prices.compute_ns[name, stage, Kind(str(rest))]
        case "first_backward":
            return prices.first_backward_ns[name, stage]
        case "part":
            return prices.last_backward[name, stage][int(str(rest))].duration_ns
        case "post":
            return prices.post_ns[name, stage, Kind(str(rest))]
        case "send":
            return prices.send[name, stage, Kind(str(rest))].duration_ns
        case "exchange":
            return prices.exchange_ns[stage]
    return 0


class Solution:
    """Start, end and last cause of everything that happens in a step."""

    def __init__(
        self, program: Program, durations_ns: Sequence[int], devices: Sequence[str], ends_ns: Sequence[int] = ()
    ) -> None:
        self._program = program
        self._durations_ns = durations_ns
        self._devices = devices
        self._ends_ns = ends_ns or program.ends_ns(durations_ns)
        self._nodes = [Node(devices[thing.device], thing.action) for thing in program.things]

    def happened(self, timeline: Timeline) -> Solution:
        """The same step where everything ended when `timeline` says: what held what up, where transfers had to share."""
        end_of = {(span.device, span.action): span.end_ns for span in timeline.spans}
        known = {
            thing.index: end_of[node.device, str(node.action)]
            for thing, node in zip(self._program.things, self._nodes, strict=True)
        }
        ends = [0]
        rows = zip(*self._program.waits, self._durations_ns, strict=True)
        for index, (a, b, c, duration) in enumerate(rows, 1):
            ends.append(known[index] if index in known else max(ends[a], ends[b], ends[c]) + duration)
        return Solution(self._program, self._durations_ns, self._devices, ends)

    @property
    def step_ns(self) -> int:
        """Nanoseconds from the start of the step to its last end."""
        return max(self._ends_ns)

    @cached_property
    def end_ns(self) -> Mapping[Node, int]:
        """When each action ends."""
        return {node: self._ends_ns[thing.index] for node, thing in zip(self._nodes, self._program.things, strict=True)}

    @cached_property
    def start_ns(self) -> Mapping[Node, int]:
        """When each action starts; of a message: when it is posted."""
        return {node: self._start_ns(thing) for node, thing in zip(self._nodes, self._program.things, strict=True)}

    def _start_ns(self, thing: _Thing) -> int:
        if thing.start >= 0:
            return self._ends_ns[thing.start]
        return self._ends_ns[thing.first] - self._durations_ns[thing.first - 1]

    def critical_path(self) -> list[Node]:
        """The chain of causes that ends last, from the start of the step to its end; of a message its send stands in it."""
        known = {
            index: node
            for thing, node in zip(reversed(self._program.things), reversed(self._nodes), strict=True)
            for index in range(thing.first, thing.index + 1)
        }
        index = max(range(len(self._ends_ns)), key=self._ends_ns.__getitem__)
        path: list[Node] = []
        while index:
            if index in known and known[index] not in path[-1:]:
                path.append(known[index])
            index = max((column[index - 1] for column in self._program.waits), key=self._ends_ns.__getitem__)
        return path[::-1]


def step_ns(plan: Plan, chain: Chain, prices: Prices) -> int:
    """Nanoseconds of one step of `plan`. Raises PlanError where no schedule can order it."""
    program, devices = program_of(plan, chain, prices)
    return max(program.ends_ns(program.durations_ns(program.values_ns(prices, devices))))


def solve(schedule: Schedule, prices: Prices) -> Solution:
    """Start and end of every action. Raises PlanError where the schedule waits for itself (deadlock)."""
    program = _Walk(schedule, prices).run()
    devices = list(schedule.actions)
    return Solution(program, program.durations_ns(program.values_ns(prices, devices)), devices)


_programs: dict[Any, Program] = {}


def program_of(plan: Plan, chain: Chain, prices: Prices) -> tuple[Program, tuple[str, ...]]:
    """The program of `plan`'s own schedule, and the devices in the order of its numbers."""
    devices = tuple(device for replica in plan.replicas for device in replica.leaders)
    shape = _shape(plan, devices, prices)
    program = _programs.get(shape)
    if program is None:
        program = _Walk(make_schedule(plan, chain), prices).run()
        if len(_programs) >= KEPT_PROGRAMS:
            del _programs[next(iter(_programs))]
        _programs[shape] = program
    return program, devices


def _shape(plan: Plan, devices: Sequence[str], prices: Prices) -> Hashable:
    """What the waits of a plan depend on: everything but its durations."""
    number = {device: i for i, device in enumerate(devices)}
    replicas = tuple((tuple(number[s.device] for s in r.stages), r.microbatches) for r in plan.replicas)
    parts = tuple(
        (number[device], stage, tuple(part.ready for part in row)) for (device, stage), row in prices.last_backward.items()
    )
    return plan.schedule, replicas, parts, prices.posting


class _BlockedError(Exception):
    """Raised inside the walk where an action needs something that is not known yet."""


class _Walk:
    """One pass over the lists of all devices, each as far as it goes before it needs another."""

    def __init__(self, schedule: Schedule, prices: Prices) -> None:
        self.schedule = schedule
        self.prices = prices
        self.program = Program()
        self.number = {device: i for i, device in enumerate(schedule.actions)}
        self.replica_of = {d: r for r in schedule.plan.replicas for d in r.leaders}
        self.free: dict[str, int] = {}
        """Device -> the node with which its latest work ends."""

        self.posted: dict[Node, int] = {}
        """Receives and sends -> the node at whose end they are posted."""

        self.arrived: dict[Node, int] = {}
        """Sends -> the node at whose end the message is there."""

        self.channel: dict[tuple[str, str], int] = {}
        """Directed pair of devices -> the latest message on it."""

        self.sent: dict[str, dict[str, int]] = {device: {} for device in schedule.actions}
        """Device -> receiving device -> the latest message between them."""

        self.ready: dict[tuple[str, int], int] = {}
        """(device, bucket) -> the piece of backward with which it is packed."""

        self.reduced: dict[int, int] = {}
        self.buckets_of = {d: [b.index for b in schedule.buckets if d in b.segment.devices] for d in schedule.actions}
        self.backwards_left = {
            (device, stage): sum(a.kind is Kind.BACKWARD and a.stage == stage for a in row)
            for device, row in schedule.actions.items()
            for stage in {action.stage for action in row}
        }
        self.begun: set[tuple[str, int]] = set()
        """Stages that hold gradients."""

    def run(self) -> Program:
        position = dict.fromkeys(self.schedule.actions, 0)
        for device in position:
            self.free[device] = self.program.add(("start", self.number[device], 0, None))
        waiting = deque(position)
        idle_rounds = 0
        while waiting:
            device = waiting.popleft()
            before = position[device]
            position[device] = self._advance(device, before)
            idle_rounds = 0 if position[device] > before else idle_rounds + 1
            if position[device] < len(self.schedule.actions[device]):
                waiting.append(device)
            if idle_rounds > len(waiting):
                stuck = ", ".join(f"{d} before {self.schedule.actions[d][position[d]]}" for d in waiting)
                raise PlanError(f"the schedule waits for itself: {stuck}\n{self.schedule}")
        return self.program

    def _advance(self, device: str, position: int) -> int:
        actions = self.schedule.actions[device]
        while position < len(actions):
            try:
                self._do(device, actions[position])
            except _BlockedError:
                return position
            position += 1
        return position

    def _do(self, device: str, action: Action) -> None:
        match action.kind:
            case Kind.RECV_F | Kind.RECV_B | Kind.SEND_F | Kind.SEND_B:
                if self.prices.posting:
                    slot = ("post", self.number[device], action.stage, str(action.kind))
                    self.free[device] = self.program.add(slot, self.free[device])
                self.posted[Node(device, action)] = self.free[device]
            case Kind.FORWARD:
                self._compute(device, action, self._message(device, action))
            case Kind.BACKWARD:
                self._backward(device, action, self._message(device, action))
            case Kind.UPDATE:
                self._compute(device, action, *self._all_done(device))
            case Kind.REDUCE:
                self._reduce(action.item)

    def _compute(self, device: str, action: Action, *needs: int) -> None:
        slot = ("compute", self.number[device], action.stage, str(action.kind))
        index = self.program.add(slot, self.free[device], *needs)
        self._note(device, action, index, index)

    def _backward(self, device: str, action: Action, need: int) -> None:
        key, number = (device, action.stage), self.number[device]
        self.backwards_left[key] -= 1
        if self.backwards_left[key]:
            adds = key in self.begun
            self.begun.add(key)
            slot: Slot = ("compute", number, action.stage, "B") if adds else ("first_backward", number, action.stage, None)
            index = self.program.add(slot, self.free[device], need)
            self._note(device, action, index, index)
            return
        first = index = 0
        for place, part in enumerate(self.prices.last_backward[key]):
            waits = (index,) if first else (self.free[device], need)
            index = self.program.add(("part", number, action.stage, place), *waits)
            first = first or index
            for bucket in part.ready:
                self.ready[device, bucket] = index
        self._note(device, action, index, first)

    def _note(self, device: str, action: Action, index: int, first: int) -> None:
        """Keep computation `action`, which occupies the device."""
        self.program.things.append(_Thing(self.number[device], action, -1, index, first))
        self.free[device] = index

    def _message(self, device: str, action: Action) -> int:
        """The end of the message that `action` waits for, solved with its send; 0 where it needs none."""
        forward = action.kind is Kind.FORWARD
        received = Node(device, action._replace(kind=Kind.RECV_F if forward else Kind.RECV_B))
        if received not in self.posted:
            return 0
        source_stage = action.stage + (-1 if forward else 1)
        source = self.replica_of[device].stages[source_stage].device
        sent = Node(source, Action(source_stage, Kind.SEND_F if forward else Kind.SEND_B, action.item))
        if sent not in self.arrived:
            self._transfer(sent, received)
        return self.arrived[sent]

    def _transfer(self, sent: Node, received: Node) -> None:
        if sent not in self.posted:
            raise _BlockedError
        pair = (sent.device, received.device)
        slot = ("send", self.number[sent.device], sent.action.stage, str(sent.action.kind))
        index = self.program.add(slot, self.posted[sent], self.posted[received], self.channel.get(pair, 0))
        for node in (sent, received):
            self.program.things.append(_Thing(self.number[node.device], node.action, self.posted[node], index, index))
        self.channel[pair] = self.sent[sent.device][received.device] = self.arrived[sent] = index

    def _reduce(self, index: int) -> None:
        """Solve bucket `index` for its whole group, when the last of its devices comes to it."""
        if index in self.reduced:
            return
        bucket = self.schedule.buckets[index]
        devices = bucket.segment.devices
        if any((device, index) not in self.ready for device in devices):
            raise _BlockedError
        earlier = [self.buckets_of[d][place - 1] for d in devices if (place := self.buckets_of[d].index(index))]
        if any(b not in self.reduced for b in earlier):
            raise _BlockedError
        waits = [self.ready[device, index] for device in devices] + [self.reduced[b] for b in earlier]
        node = self.program.add(("exchange", len(self.number), index, None), *waits)
        self.reduced[index] = node
        for device in devices:
            action = next(a for a in self.schedule.actions[device] if a.kind is Kind.REDUCE and a.item == index)
            self.program.things.append(_Thing(self.number[device], action, -1, node, node))

    def _all_done(self, device: str) -> list[int]:
        """What must end before the device's UPDATE: its sends and reduces. On one channel, and of one device's buckets, the last to
        start is the last to end."""
        for action in self.schedule.actions[device]:
            if action.kind in (Kind.SEND_F, Kind.SEND_B) and Node(device, action) not in self.arrived:
                raise _BlockedError
            if action.kind is Kind.REDUCE and action.item not in self.reduced:
                raise _BlockedError
        return [*self.sent[device].values(), *(self.reduced[b] for b in self.buckets_of[device][-1:])]
