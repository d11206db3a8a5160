"""Programs: what waits for what in schedules of one shape, in an order in which it can be solved.

Found by one walk over the lists of a schedule; solving it for other prices is one loop over numbers.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hetsim.errors import PlanError
from hetsim.schedule import Action, Kind, Schedule
from hetsim.simulator.prices import Prices

Slot = tuple[str, int, int, Hashable]
"""What a duration is looked up by: the field of the prices, the device's number, the stage, and the rest of the key."""


@dataclass(slots=True)
class Program:
    """What waits for what in schedules of one shape, in an order in which it can be solved.

    Node i + 1 starts when nodes `waits[0][i]`, `waits[1][i]` and `waits[2][i]` have ended; node 0 is the start of the step.
    """

    waits: tuple[list[int], list[int], list[int]] = field(default_factory=lambda: ([], [], []))
    slot_of: list[int] = field(default_factory=list)
    """By node from 1 on: the number of its slot."""

    slots: dict[Slot, int] = field(default_factory=dict)

    def add(self, slot: Slot, first: int = 0, second: int = 0, *others: int) -> int:
        """A new node, which waits for the nodes that are given, any number of them (0: for none); its number."""
        third = 0
        if others:
            first, second, third = self._three(first, second, *others)
        elif first > second:
            first, second = (second, first) if second else (first, 0)
        elif not first or first == second:
            first, second = second, 0
        column, other, last = self.waits
        column.append(first)
        other.append(second)
        last.append(third)
        self.slot_of.append(self.slots.setdefault(slot, len(self.slots)))
        return len(self.slot_of)

    def _three(self, *waits: int) -> list[int]:
        """Three nodes, the last of them 0 where fewer do, whose ends are awaited where those of all `waits` are."""
        known = sorted({*waits, 0})[1:]
        while len(known) > 3:
            known = [*known[3:], self.add(_NO_TIME, *known[:3])]
        return [*known, 0, 0, 0][:3]

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

    def steps_ns(self, values_ns: NDArray[np.float64], jitter: float = 0.0, seed: int = 0) -> NDArray[np.float64]:
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


_COMPUTED = ("compute", "first_backward", "last_backward", "part")
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
        case "last_backward":
            return sum(part.duration_ns for part in prices.last_backward[name, stage])
        case "part":
            return prices.last_backward[name, stage][int(str(rest))].duration_ns
        case "post":
            return prices.post_ns[name, stage, Kind(str(rest))]
        case "send":
            return prices.send[name, stage, Kind(str(rest))].duration_ns
        case "exchange":
            return prices.exchange_ns[stage]
    return 0


class Thing(NamedTuple):
    """An action, by the nodes of a program that make it up."""

    device: int
    action: Action
    start: int
    """Number of the node at whose end it starts (of a message: at which it is posted); -1: when its own duration begins."""

    end: int
    """Number of the node at whose end it ends."""

    first: int
    """Number of the node with which it begins; a backward may have several."""


@dataclass(slots=True)
class _Device:
    """How far the walk has come in the list of one device."""

    name: str
    number: int
    replica: int
    actions: Sequence[Action]
    position: int = 0
    free: int = 0
    """The node with which its latest work ends."""

    backwards: Counter[int] = field(default_factory=Counter)
    """Stage -> how many backwards are left."""

    begun: set[int] = field(default_factory=set)
    """Stages that hold gradients."""

    reduces: dict[int, Action] = field(default_factory=dict)
    """By bucket."""

    unsent: int = 0
    """Messages that are posted and not there yet."""

    sent: dict[tuple[int, Kind], int] = field(default_factory=dict)
    """(number of a receiving device, kind) -> the latest message to it."""


@dataclass(slots=True)
class _Message:
    """A message: the actions at its two ends, and the nodes at whose end these are posted; None and 0: not yet."""

    sender: _Device | None = None
    send: Action | None = None
    sent: int = 0
    receive: Action | None = None
    received: int = 0
    arrived: int = 0
    """The node at whose end it is there."""


@dataclass(slots=True)
class _Exchange:
    """The exchange of a bucket."""

    devices: Sequence[str]
    earlier: set[int]
    """The buckets before it on its devices."""

    ready: list[int] = field(default_factory=list)
    """The pieces of backward with which it is packed, one a device that has come to that."""

    reduced: int = 0
    """The node at whose end it is done."""


class Walk:
    """One pass over the lists of all devices, each as far as it goes before it needs another."""

    def __init__(self, schedule: Schedule, prices: Prices, *, noting: bool = True) -> None:
        """`noting`: whether it is noted which nodes make up which action."""
        self.schedule = schedule
        self.prices = prices
        self.noting = noting
        self.program = Program()
        self._rows: list[tuple[int, Action, int, int, int]] = []
        """What makes a `Thing`: tuples without names, which are quicker to make."""

        replica_of = {d: number for number, r in enumerate(schedule.plan.replicas) for d in r.leaders}
        self.devices = {
            name: _Device(name, number, replica_of[name], actions)
            for number, (name, actions) in enumerate(schedule.actions.items())
        }
        for device in self.devices.values():
            for action in device.actions:
                if action.kind is Kind.BACKWARD:
                    device.backwards[action.stage] += 1
                elif action.kind is Kind.REDUCE:
                    device.reduces[action.item] = action
        self.messages: dict[tuple[int, int, bool, int], _Message] = defaultdict(_Message)
        """(replica, receiving stage, whether activations, microbatch) -> the message."""

        self.exchanges: dict[int, _Exchange] = {}
        self.last_bucket: dict[str, int] = {}
        for bucket in schedule.buckets:
            devices = bucket.segment.devices
            earlier = {self.last_bucket[d] for d in devices if d in self.last_bucket}
            self.exchanges[bucket.index] = _Exchange(devices, earlier)
            self.last_bucket |= dict.fromkeys(devices, bucket.index)
        self._do = {
            Kind.FORWARD: self._forward,
            Kind.BACKWARD: self._backward,
            Kind.SEND_F: self._send,
            Kind.SEND_B: self._send,
            Kind.RECV_F: self._receive,
            Kind.RECV_B: self._receive,
            Kind.REDUCE: self._reduce,
            Kind.UPDATE: self._update,
        }

    @property
    def things(self) -> list[Thing]:
        """All actions that were solved, in that order."""
        return list(map(Thing._make, self._rows))

    def run(self) -> Program:
        """The program of the schedule. Raises PlanError where it waits for itself (deadlock)."""
        for device in self.devices.values():
            device.free = self.program.add(("start", device.number, 0, None))
        waiting = deque(self.devices.values())
        idle_rounds = 0
        while waiting:
            device = waiting.popleft()
            idle_rounds = 0 if self._advance(device) else idle_rounds + 1
            if device.position < len(device.actions):
                waiting.append(device)
            if idle_rounds > len(waiting):
                stuck = ", ".join(f"{d.name} before {d.actions[d.position]}" for d in waiting)
                raise PlanError(f"the schedule waits for itself: {stuck}\n{self.schedule}")
        return self.program

    def _advance(self, device: _Device) -> bool:
        """Go on in the list of `device` as far as it goes; whether that was anywhere."""
        before = device.position
        for action in islice(device.actions, before, None):
            if not self._do[action.kind](device, action):
                break
            device.position += 1
        return device.position > before

    # Each of these does one action and returns whether it could; it cannot while it needs something that is not known yet.

    def _forward(self, device: _Device, action: Action) -> bool:
        need = self._message(device, action, forward=True)
        return need is not None and self._compute(device, action, need)

    def _backward(self, device: _Device, action: Action) -> bool:
        need = self._message(device, action, forward=False)
        if need is None:
            return False
        stage = action.stage
        device.backwards[stage] -= 1
        if not device.backwards[stage]:
            self._last_backward(device, action, need)
        elif stage in device.begun:
            self._compute(device, action, need)
        else:
            device.begun.add(stage)
            index = self.program.add(("first_backward", device.number, stage, None), device.free, need)
            self._note(device, action, index, index)
        return True

    def _last_backward(self, device: _Device, action: Action, need: int) -> None:
        if not self.exchanges:
            index = self.program.add(("last_backward", device.number, action.stage, None), device.free, need)
            self._note(device, action, index, index)
            return
        first = index = 0
        for place, part in enumerate(self.prices.last_backward[device.name, action.stage]):
            waits = (index,) if first else (device.free, need)
            index = self.program.add(("part", device.number, action.stage, place), *waits)
            first = first or index
            for bucket in part.ready:
                self.exchanges[bucket].ready.append(index)
        self._note(device, action, index, first)

    def _update(self, device: _Device, action: Action) -> bool:
        # It waits for the device's sends and reduces: on one channel, and of one device's buckets, the last to start ends last.
        if device.unsent or not all(self.exchanges[bucket].reduced for bucket in device.reduces):
            return False
        last = self.last_bucket.get(device.name)
        reduced = () if last is None else (self.exchanges[last].reduced,)
        return self._compute(device, action, *device.sent.values(), *reduced)

    def _compute(self, device: _Device, action: Action, *needs: int) -> bool:
        index = self.program.add(("compute", device.number, action.stage, action.kind), device.free, *needs)
        self._note(device, action, index, index)
        return True

    def _note(self, device: _Device, action: Action, index: int, first: int) -> None:
        """Keep computation `action`, which occupies the device."""
        if self.noting:
            self._rows.append((device.number, action, -1, index, first))
        device.free = index

    def _send(self, device: _Device, action: Action) -> bool:
        self._post(device, action)
        forward = action.kind is Kind.SEND_F
        message = self.messages[device.replica, action.stage + (1 if forward else -1), forward, action.item]
        message.sender, message.send, message.sent = device, action, device.free
        device.unsent += 1
        return True

    def _receive(self, device: _Device, action: Action) -> bool:
        self._post(device, action)
        message = self.messages[device.replica, action.stage, action.kind is Kind.RECV_F, action.item]
        message.receive, message.received = action, device.free
        return True

    def _post(self, device: _Device, action: Action) -> None:
        if self.prices.posting:
            device.free = self.program.add(("post", device.number, action.stage, action.kind), device.free)

    def _message(self, device: _Device, action: Action, *, forward: bool) -> int | None:
        """The end of the message that `action` waits for, solved with its send; 0 where it needs none, None: not known yet."""
        message = self.messages.get((device.replica, action.stage, forward, action.item))
        if message is None or message.receive is None:
            return 0
        if not message.arrived:
            if message.sender is None or message.send is None:
                return None
            self._transfer(message.sender, message.send, device, message.receive, message)
        return message.arrived

    def _transfer(self, sender: _Device, send: Action, receiver: _Device, receive: Action, message: _Message) -> None:
        slot = ("send", sender.number, send.stage, send.kind)
        index = self.program.add(slot, message.sent, message.received, sender.sent.get((receiver.number, send.kind), 0))
        if self.noting:
            self._rows.append((sender.number, send, message.sent, index, index))
            self._rows.append((receiver.number, receive, message.received, index, index))
        sender.sent[receiver.number, send.kind] = message.arrived = index
        sender.unsent -= 1

    def _reduce(self, _device: _Device, action: Action) -> bool:
        """Solve the bucket for its whole group, when the last of its devices comes to it."""
        exchange = self.exchanges[action.item]
        if exchange.reduced:
            return True
        earlier = [self.exchanges[bucket].reduced for bucket in exchange.earlier]
        if len(exchange.ready) < len(exchange.devices) or not all(earlier):
            return False
        node = self.program.add(("exchange", len(self.devices), action.item, None), *exchange.ready, *earlier)
        exchange.reduced = node
        for device in map(self.devices.__getitem__, exchange.devices):
            self._rows.append((device.number, device.reduces[action.item], -1, node, node))
        return True
