"""The event model: one step of a schedule, played out in SimPy.

Each device is a process that walks its list of actions; what a list entry means stands in `hetsim.schedule`. Rules:

* a device computes one thing at a time; it does not compute while it waits for a message, nor while it posts one;
* a message travels once its send and its receive are both posted, and the channel from that device to the other is free;
* a bucket's all-reduce starts once all its devices have packed it and are done with earlier ones, and ends for all at once.

Time is in integer nanoseconds, so simultaneous events are simultaneous, and the same inputs give the same timeline.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias

import simpy

from hetsim.plan import Replica
from hetsim.schedule import Action, Kind, Schedule
from hetsim.simulator.prices import Prices
from hetsim.timeline import Span, Timeline

Process: TypeAlias = Generator[simpy.Event, Any, None]
Message: TypeAlias = tuple[int, int, Kind, int]
"""(replica, receiving stage, SEND_F or SEND_B, microbatch)"""


def simulate(schedule: Schedule, prices: Prices) -> Timeline:
    """The predicted timeline of one step of `schedule`."""
    return _Step(schedule, prices).run()


class _Step:
    """The state of one simulated step."""

    def __init__(self, schedule: Schedule, prices: Prices) -> None:
        self.schedule = schedule
        self.prices = prices
        self.env = simpy.Environment()
        self.spans: list[Span] = []
        self.posted: dict[Message, simpy.Event] = {}
        self.arrived: dict[Message, simpy.Event] = {}
        self.channels: dict[tuple[str, str], simpy.Resource] = {}
        self.ready = {(d, b.index): self.env.event() for b in schedule.buckets for d in b.segment.devices}
        self.reduced = {b.index: self.env.event() for b in schedule.buckets}

    def run(self) -> Timeline:
        for number, replica in enumerate(self.schedule.plan.replicas):
            for device in replica.devices:
                self.env.process(self._device(device, number, replica))
        for bucket in self.schedule.buckets:
            self.env.process(self._reduce(bucket.index))
        self.env.run()
        return Timeline.of(self.spans)

    def _device(self, device: str, number: int, replica: Replica) -> Process:
        """Walk the device's list."""
        sends: list[simpy.Event] = []
        actions = self.schedule.actions[device]
        backwards = backwards_left = sum(action.kind is Kind.BACKWARD for action in actions)
        yield self.env.timeout(self.prices.start_ns[device])
        for action in actions:
            match action.kind:
                case Kind.RECV_F | Kind.RECV_B:
                    sent = Kind.SEND_F if action.kind is Kind.RECV_F else Kind.SEND_B
                    yield self._posting(device, action)
                    self._event(self.posted, (number, action.stage, sent, action.item)).succeed()
                    self.env.process(self._receive(device, action, (number, action.stage, sent, action.item)))
                case Kind.SEND_F | Kind.SEND_B:
                    yield self._posting(device, action)
                    sends.append(self.env.process(self._send(device, action, number, replica)))
                case Kind.FORWARD:
                    if action.stage > 0:
                        yield self._event(self.arrived, (number, action.stage, Kind.SEND_F, action.item))
                    yield from self._compute(device, action)
                case Kind.BACKWARD:
                    if action.stage < len(replica.stages) - 1:
                        yield self._event(self.arrived, (number, action.stage, Kind.SEND_B, action.item))
                    backwards_left -= 1
                    if not backwards_left:
                        yield from self._last_backward(device, action)
                    elif backwards_left == backwards - 1:
                        yield from self._busy(device, action, self.prices.first_backward_ns[device, action.stage])
                    else:
                        yield from self._compute(device, action)
                case Kind.UPDATE:
                    mine = [self.reduced[b.index] for b in self.schedule.buckets if device in b.segment.devices]
                    yield self.env.all_of([*sends, *mine])
                    yield from self._compute(device, action)
                case Kind.REDUCE:
                    pass  # runs beside the computation, in _reduce

    def _posting(self, device: str, action: Action) -> simpy.Event:
        return self.env.timeout(self.prices.post_ns[device, action.stage, action.kind])

    def _compute(self, device: str, action: Action) -> Process:
        yield from self._busy(device, action, self.prices.compute_ns[device, action.stage, action.kind])

    def _busy(self, device: str, action: Action, duration_ns: int) -> Process:
        start_ns = self._now()
        yield self.env.timeout(duration_ns)
        self._record(device, action, start_ns)

    def _last_backward(self, device: str, action: Action) -> Process:
        start_ns = self._now()
        for part in self.prices.last_backward[device, action.stage]:
            yield self.env.timeout(part.duration_ns)
            for bucket in part.ready:
                self.ready[device, bucket].succeed()
        self._record(device, action, start_ns)

    def _send(self, device: str, action: Action, number: int, replica: Replica) -> Process:
        target = action.stage + (1 if action.kind is Kind.SEND_F else -1)
        message = (number, target, action.kind, action.item)
        start_ns = self._now()
        pair = (device, replica.stages[target].device)
        channel = self.channels.setdefault(pair, simpy.Resource(self.env))
        with channel.request() as turn:
            yield turn & self._event(self.posted, message)
            yield self.env.timeout(self.prices.send_ns[device, action.stage, action.kind])
        self._event(self.arrived, message).succeed()
        self._record(device, action, start_ns)

    def _receive(self, device: str, action: Action, message: Message) -> Process:
        start_ns = self._now()
        yield self._event(self.arrived, message)
        self._record(device, action, start_ns)

    def _reduce(self, index: int) -> Process:
        bucket = self.schedule.buckets[index]
        devices = bucket.segment.devices
        yield self.env.all_of([self.ready[device, index] for device in devices])
        earlier = [b for b in self.schedule.buckets[:index] if set(b.segment.devices) & set(devices)]
        yield self.env.all_of([self.reduced[b.index] for b in earlier])
        start_ns = self._now()
        yield self.env.timeout(self.prices.reduce_ns[index])
        self.reduced[index].succeed()
        for device in devices:
            stage = next(a for a in self.schedule.actions[device] if a.kind is Kind.REDUCE and a.item == index)
            self._record(device, stage, start_ns)

    def _event(self, events: dict[Message, simpy.Event], message: Message) -> simpy.Event:
        return events.setdefault(message, self.env.event())

    def _now(self) -> int:
        return int(self.env.now)

    def _record(self, device: str, action: Action, start_ns: int) -> None:
        self.spans.append(Span(device, action.kind, str(action), start_ns, self._now()))
