"""The event model: one step of a schedule, played out in SimPy.

Each device is a process that walks its list of actions; what a list entry means stands in `hetsim.schedule`. Rules:

* a device computes one thing at a time; it does not compute while it waits for a message, nor while it posts one;
* a message travels once its send and its receive are both posted, and the channel from that device to the other is free, of which
  activations have one and their gradients another;
* a bucket's exchange starts once all its devices have packed it and are done with earlier ones, and ends for all at once; what
  goes to a parameter server sets off as soon as its own device is ready;
* what travels shares the wires of the topology, and what computes shares the cores of the processor, as `sharing` says;
* a device that is disturbed computes as much slower as the disturbance says, while it lasts.

Time is in integer nanoseconds, so simultaneous events are simultaneous, and the same inputs give the same timeline.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import simpy

from hetsim.collector import collector_at_rest
from hetsim.conditions import Disturbance
from hetsim.errors import PlanError
from hetsim.plan import Replica
from hetsim.schedule import Action, Kind, Schedule
from hetsim.simulator.prices import Flow, Prices
from hetsim.simulator.sharing import Clockwork, Sharing, Work
from hetsim.timeline import Span, Timeline

Process: TypeAlias = Generator[simpy.Event, Any, None]
MessageKey: TypeAlias = tuple[int, int, bool, int]
"""(replica, receiving stage, whether activations, microbatch)"""


def simulate(schedule: Schedule, prices: Prices, disturbances: Iterable[Disturbance] = ()) -> Timeline:
    """The predicted timeline of one step of `schedule`."""
    with collector_at_rest():
        step = _Step(schedule, prices, tuple(disturbances))
        step.run()
        return step.timeline()


def simulated_step_s(schedule: Schedule, prices: Prices) -> float:
    """Seconds of one step of `schedule`: those of `simulate`, without the timeline."""
    with collector_at_rest():
        step = _Step(schedule, prices, ())
        step.run()
        return max((end_ns for _, _, _, end_ns in step.happened), default=0) / 1e9


@dataclass(slots=True)
class _Message:
    """A message from the posting of either end to its arrival."""

    posted: bool = False
    """Whether its receive is."""

    arrived: bool = False
    waiting: simpy.Event | None = None
    """What the device waits for that needs it now."""

    receive: tuple[str, Action, int] | None = None
    """Receiving device, its action, and when it was posted."""


@dataclass(slots=True)
class _Channel:
    """The activations, or the gradients of such, from one device to another, which travel one after the other in the order in which
    they are posted."""

    queue: deque[tuple[_Message, Flow, str, Action, int]] = field(default_factory=deque)
    busy: bool = False


class _Step:
    """The state of one simulated step."""

    def __init__(self, schedule: Schedule, prices: Prices, disturbances: tuple[Disturbance, ...]) -> None:
        self.schedule = schedule
        self.prices = prices
        self.disturbances = disturbances
        self.env = Clockwork()
        self.sharing = Sharing(self.env)
        self.happened: list[tuple[str, Action, int, int]] = []
        """(device, or the first of its group, action, start, end), as things end."""

        self.messages: dict[MessageKey, _Message] = {}
        self.channels: dict[tuple[str, str, bool], _Channel] = {}
        self.unsent = dict.fromkeys(schedule.actions, 0)
        """Device -> how many of its messages are on their way."""

        self.sending: dict[str, simpy.Event] = {}
        """Device that waits for that -> what happens then."""

        self.ready = {(d, b.index): self.env.event() for b in schedule.buckets for d in b.segment.devices}
        self.reduced = {b.index: self.env.event() for b in schedule.buckets}
        self.buckets_of: dict[str, list[int]] = {device: [] for device in schedule.actions}
        for bucket in schedule.buckets:
            for device in bucket.segment.devices:
                self.buckets_of[device].append(bucket.index)
        self.reduce_of = {(d, a.item): a for d, row in schedule.actions.items() for a in row if a.kind is Kind.REDUCE}
        self.group_of = {s.device: s.group for r in schedule.plan.replicas for s in r.stages}
        self.pace = dict.fromkeys(schedule.actions, 1.0)
        self.computing: dict[str, Work] = {}

    def run(self) -> None:
        """Play the step. Raises PlanError where the schedule waits for itself (deadlock)."""
        for disturbance in self.disturbances:
            for leader, group in self.group_of.items():
                if disturbance.device in group:  # all of a group wait for its slowest
                    self.env.process(self._disturb(disturbance, leader))
        for number, replica in enumerate(self.schedule.plan.replicas):
            for device in replica.leaders:
                self.env.process(self._device(device, number, replica))
        for bucket in self.schedule.buckets:
            self.env.process(self._exchange(bucket.index))
        self.env.run()
        missing = sum(map(len, self.schedule.actions.values())) - len(self.happened)
        if missing:
            raise PlanError(f"the schedule waits for itself: {missing} of its actions never end\n{self.schedule}")

    def timeline(self) -> Timeline:
        """What happened, on each device of a group."""
        return Timeline.of(
            Span(member, action.kind, text, start_ns, end_ns)
            for device, action, start_ns, end_ns in self.happened
            for text in (str(action),)
            for member in self.group_of[device]
        )

    # --- a device ----------------------------------------------------------------------------------------------------

    def _device(self, device: str, number: int, replica: Replica) -> Process:
        """Walk the device's list."""
        prices, last_stage = self.prices, len(replica.stages) - 1
        actions = self.schedule.actions[device]
        left = Counter(action.stage for action in actions if action.kind is Kind.BACKWARD)
        whole = dict(left)
        yield self.env.timeout(prices.start_ns[device])
        for action in actions:
            stage, kind, item = action
            if kind is Kind.FORWARD:
                if stage > 0:
                    yield from self._await((number, stage, True, item))
                yield from self._compute(device, action, prices.compute_ns[device, stage, kind])
            elif kind is Kind.BACKWARD:
                if stage < last_stage:
                    yield from self._await((number, stage, False, item))
                left[stage] -= 1
                if not left[stage]:
                    yield from self._last_backward(device, action)
                elif left[stage] == whole[stage] - 1:
                    yield from self._compute(device, action, prices.first_backward_ns[device, stage])
                else:
                    yield from self._compute(device, action, prices.compute_ns[device, stage, kind])
            elif kind is Kind.UPDATE:
                mine = [self.reduced[b] for b in self.buckets_of[device]]
                yield self.env.all_of(mine)
                yield from self._all_sent(device)
                yield from self._compute(device, action, prices.compute_ns[device, stage, kind])
            elif kind is not Kind.REDUCE:  # which runs beside the computation, in _exchange
                if post_ns := prices.post_ns[device, stage, kind]:
                    yield self.env.timeout(post_ns)
                if kind is Kind.SEND_F or kind is Kind.SEND_B:
                    self._send(device, action, number, replica)
                else:
                    self._receive(device, action, number)

    def _await(self, key: MessageKey) -> Process:
        """Wait until a message is there."""
        message = self._message(key)
        if not message.arrived:
            message.waiting = self.env.event()
            yield message.waiting

    def _all_sent(self, device: str) -> Process:
        """Wait until all messages of the device have arrived."""
        if self.unsent[device]:
            self.sending[device] = self.env.event()
            yield self.sending[device]

    def _compute(self, device: str, action: Action, duration_ns: int) -> Process:
        start_ns = self.env.now
        yield self._work(device, duration_ns)
        self._record(device, action, start_ns)

    def _last_backward(self, device: str, action: Action) -> Process:
        start_ns = self.env.now
        for part in self.prices.last_backward[device, action.stage]:
            yield self._work(device, part.duration_ns)
            for bucket in part.ready:
                self.ready[device, bucket].succeed()
        self._record(device, action, start_ns)

    def _work(self, device: str, duration_ns: int) -> simpy.Event:
        """What happens when the device has computed for `duration_ns`, or as long as that takes on a processor that is shared."""
        cores = self.prices.cores.get(device)
        if cores is None and not self.disturbances:
            return self.env.timeout(duration_ns)
        done = self.env.event()

        def end() -> None:
            del self.computing[device]
            done.succeed()

        self.computing[device] = self.sharing.start(duration_ns, cores or {}, 1.0, end, self.pace[device])
        return done

    def _disturb(self, disturbance: Disturbance, leader: str) -> Process:
        from_ns = round(disturbance.from_s * 1e9)
        yield self.env.timeout(from_ns)
        self._set_pace(leader, 1 / disturbance.slowdown)
        if disturbance.until_s is not None:
            yield self.env.timeout(max(0, round(disturbance.until_s * 1e9) - from_ns))
            self._set_pace(leader, disturbance.slowdown)

    def _set_pace(self, device: str, factor: float) -> None:
        self.pace[device] *= factor
        if device in self.computing:
            self.sharing.set_pace(self.computing[device], self.pace[device])

    # --- what travels ------------------------------------------------------------------------------------------------

    def _message(self, key: MessageKey) -> _Message:
        message = self.messages.get(key)
        if message is None:
            message = self.messages[key] = _Message()
        return message

    def _receive(self, device: str, action: Action, number: int) -> None:
        """Post a receive."""
        message = self._message((number, action.stage, action.kind is Kind.RECV_F, action.item))
        message.posted = True
        message.receive = (device, action, self.env.now)
        source_stage = action.stage + (-1 if action.kind is Kind.RECV_F else 1)
        source = self.schedule.plan.replicas[number].stages[source_stage].device
        self._advance(self._channel(source, device, action.kind is Kind.RECV_F))

    def _send(self, device: str, action: Action, number: int, replica: Replica) -> None:
        """Post a send."""
        forward = action.kind is Kind.SEND_F
        target = action.stage + (1 if forward else -1)
        message = self._message((number, target, forward, action.item))
        flow = self.prices.send[device, action.stage, action.kind]
        channel = self._channel(device, replica.stages[target].device, forward)
        channel.queue.append((message, flow, device, action, self.env.now))
        self.unsent[device] += 1
        self._advance(channel)

    def _channel(self, source: str, target: str, forward: bool) -> _Channel:
        key = source, target, forward
        channel = self.channels.get(key)
        if channel is None:
            channel = self.channels[key] = _Channel()
        return channel

    def _advance(self, channel: _Channel) -> None:
        """Let the next message of the channel travel, if it can."""
        if channel.busy or not channel.queue or not channel.queue[0][0].posted:
            return
        channel.busy = True
        self._travel(channel.queue[0][1], lambda: self._arrive(channel))

    def _arrive(self, channel: _Channel) -> None:
        message, _, device, action, start_ns = channel.queue.popleft()
        channel.busy = False
        message.arrived = True
        if message.waiting is not None:
            message.waiting.succeed()
        assert message.receive is not None
        self._record(device, action, start_ns)
        self._record(*message.receive)
        self.unsent[device] -= 1
        if not self.unsent[device] and device in self.sending:
            self.sending.pop(device).succeed()
        self._advance(channel)

    def _travel(self, flow: Flow, done: Callable[[], None]) -> None:
        """Call `done` when `flow`, which sets off now, has arrived."""
        if not flow.load:
            self._after(flow.duration_ns, done)
        elif flow.latency_ns:
            self._after(flow.latency_ns, lambda: self._share(flow, done))
        else:
            self._share(flow, done)

    def _share(self, flow: Flow, done: Callable[[], None]) -> None:
        self.sharing.start(flow.transfer_ns, flow.load, flow.bytes_per_s, done)

    def _after(self, delay_ns: int, do: Callable[[], None]) -> None:
        self.env.timeout(delay_ns).callbacks.append(lambda _event: do())

    # --- gradients ---------------------------------------------------------------------------------------------------

    def _exchange(self, index: int) -> Process:
        """One bucket's exchange, from the first device that is ready to the end, which is the same for all."""
        devices = self.schedule.buckets[index].segment.devices
        phases = self.prices.exchange[index]
        starts_ns: dict[str, int] = {}
        own = [flow for phase in phases[:1] for flow in phase if flow.owner]
        yield self.env.all_of([self.env.process(self._push(index, flow, starts_ns)) for flow in own])
        yield self.env.all_of([self.ready[device, index] for device in devices])
        yield self.env.all_of([event for device in devices for event in self._earlier(device, index)])
        start_ns = self.env.now
        for phase in phases[1:] if own else phases:
            yield self._all(phase)
        self.reduced[index].succeed()
        for device in devices:
            self._record(device, self.reduce_of[device, index], starts_ns.get(device, start_ns))

    def _push(self, index: int, flow: Flow, starts_ns: dict[str, int]) -> Process:
        """What one device sends to parameter servers, without waiting for the others."""
        yield self.ready[flow.owner, index]
        yield self.env.all_of(self._earlier(flow.owner, index))
        starts_ns[flow.owner] = self.env.now
        yield self._all((flow,))

    def _earlier(self, device: str, index: int) -> list[simpy.Event]:
        """The exchange of the device's bucket before `index`."""
        place = self.buckets_of[device].index(index)
        return [self.reduced[b] for b in self.buckets_of[device][max(0, place - 1) : place]]

    def _all(self, flows: Sequence[Flow]) -> simpy.Event:
        """Set off `flows`; what comes back happens when all have arrived."""
        done = self.env.event()
        left = len(flows)

        def one() -> None:
            nonlocal left
            left -= 1
            if not left:
                done.succeed()

        for flow in flows:
            self._travel(flow, one)
        return done

    def _record(self, device: str, action: Action, start_ns: int) -> None:
        self.happened.append((device, action, start_ns, self.env.now))
