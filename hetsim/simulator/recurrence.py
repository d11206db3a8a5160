"""The closed recurrence: when each action starts and ends, by the longest path through what it waits for.

It states the rules of the event model (see `engine`) as equations and solves them by one walk over the actions, which
is faster. The two are written apart and must agree to the nanosecond; the tests hold them to that.
Because every start has one last cause, the walk also yields the critical path.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from hetsim.errors import PlanError
from hetsim.schedule import Action, Kind, Schedule
from hetsim.simulator.prices import Prices


class Node(NamedTuple):
    """One thing that takes time: an action of a device."""

    device: str
    action: Action


@dataclass(slots=True)
class Solution:
    """Start, end and last cause of everything that happens in a step."""

    start_ns: dict[Node, int] = field(default_factory=dict)
    end_ns: dict[Node, int] = field(default_factory=dict)
    cause: dict[Node, Node | None] = field(default_factory=dict)

    @property
    def step_ns(self) -> int:
        """Nanoseconds from the start of the step to its last end."""
        return max(self.end_ns.values(), default=0)

    def critical_path(self) -> list[Node]:
        """The chain of causes that ends last, from the start of the step to its end."""
        node: Node | None = max(self.end_ns, key=lambda n: self.end_ns[n])
        path = []
        while node is not None:
            path.append(node)
            node = self.cause[node]
        return path[::-1]


def step_ns(schedule: Schedule, prices: Prices) -> int:
    """Nanoseconds of one step of `schedule`."""
    return solve(schedule, prices).step_ns


def solve(schedule: Schedule, prices: Prices) -> Solution:
    """Start and end of every action. Raises PlanError where the schedule waits for itself (deadlock)."""
    return _Walk(schedule, prices).run()


class _BlockedError(Exception):
    """Raised inside the walk where an action needs something that is not known yet."""


class _Walk:
    """One pass over the lists of all devices, each as far as it goes before it needs another."""

    def __init__(self, schedule: Schedule, prices: Prices) -> None:
        self.schedule = schedule
        self.prices = prices
        self.solution = Solution()
        self.stage_device = {
            (device, other): replica.stages[other].device
            for replica in schedule.plan.replicas
            for device in replica.devices
            for other in range(len(replica.stages))
        }
        self.free_ns: dict[str, int] = {}
        """Device -> when it has finished its latest computation."""

        self.last: dict[str, Node | None] = {}
        """Device -> its latest computation."""

        self.posted_ns: dict[Node, tuple[int, Node | None]] = {}
        """Receives and sends: when posted, and after which computation."""

        self.channel: dict[tuple[str, str], Node] = {}
        """Directed pair of devices -> the latest message on it."""

        self.ready_ns: dict[tuple[str, int], tuple[int, Node]] = {}
        """(device, bucket) -> when its gradients are packed, and by which backward."""

        self.reduced: dict[int, Node] = {}
        self.backwards_left = {
            device: sum(action.kind is Kind.BACKWARD for action in row) for device, row in schedule.actions.items()
        }
        self.begun: set[str] = set()
        """Devices that hold gradients."""

    def run(self) -> Solution:
        position = dict.fromkeys(self.schedule.actions, 0)
        for device in position:
            self.free_ns[device] = self.prices.start_ns[device]
            self.last[device] = None
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
        return self.solution

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
                self.free_ns[device] += self.prices.post_ns[device, action.stage, action.kind]
                self.posted_ns[Node(device, action)] = (self.free_ns[device], self.last[device])
            case Kind.FORWARD | Kind.BACKWARD:
                self._compute(device, action, self._message(device, action))
            case Kind.UPDATE:
                self._compute(device, action, *self._all_done(device))
            case Kind.REDUCE:
                self._reduce(action.item)

    def _compute(self, device: str, action: Action, *needs: Node | None) -> None:
        key = (device, action.stage)
        node = Node(device, action)
        start_ns, cause = self._latest((self.free_ns[device], self.last[device]), *needs)
        if action.kind is Kind.BACKWARD:
            end_ns = self._backward_end_ns(node, start_ns)
        else:
            end_ns = start_ns + self.prices.compute_ns[*key, action.kind]
        self._settle(node, start_ns, end_ns, cause)
        self.free_ns[device], self.last[device] = end_ns, node

    def _backward_end_ns(self, node: Node, start_ns: int) -> int:
        device, action = node
        key = (device, action.stage)
        self.backwards_left[device] -= 1
        if self.backwards_left[device]:
            adds = device in self.begun
            self.begun.add(device)
            return start_ns + (self.prices.compute_ns[*key, Kind.BACKWARD] if adds else self.prices.first_backward_ns[key])
        end_ns = start_ns
        for part in self.prices.last_backward[key]:
            end_ns += part.duration_ns
            for bucket in part.ready:
                self.ready_ns[device, bucket] = (end_ns, node)
        return end_ns

    def _message(self, device: str, action: Action) -> Node | None:
        """The receive that `action` waits for, solved together with its send; None where it needs none."""
        forward = action.kind is Kind.FORWARD
        received = Node(device, action._replace(kind=Kind.RECV_F if forward else Kind.RECV_B))
        if received not in self.posted_ns:
            return None
        source_stage = action.stage + (-1 if forward else 1)
        source = self.stage_device[device, source_stage]
        sent = Node(source, Action(source_stage, Kind.SEND_F if forward else Kind.SEND_B, action.item))
        if sent not in self.solution.end_ns:
            self._transfer(sent, received)
        return received

    def _transfer(self, sent: Node, received: Node) -> None:
        if sent not in self.posted_ns:
            raise _BlockedError
        pair = (sent.device, received.device)
        send_posted, receive_posted = self.posted_ns[sent], self.posted_ns[received]
        earlier = self.channel.get(pair)
        start_ns, cause = self._latest(send_posted, earlier)
        if receive_posted[0] > start_ns:
            start_ns, cause = receive_posted
        end_ns = start_ns + self.prices.send_ns[sent.device, sent.action.stage, sent.action.kind]
        self._settle(sent, send_posted[0], end_ns, cause)
        self._settle(received, receive_posted[0], end_ns, sent)
        self.channel[pair] = sent

    def _reduce(self, index: int) -> None:
        """Solve bucket `index` for its whole group, when the last of its devices comes to it."""
        if index in self.reduced:
            return
        bucket = self.schedule.buckets[index]
        devices = bucket.segment.devices
        if any((device, index) not in self.ready_ns for device in devices):
            raise _BlockedError
        earlier = [b.index for b in self.schedule.buckets[:index] if set(b.segment.devices) & set(devices)]
        if any(b not in self.reduced for b in earlier):
            raise _BlockedError
        last_ready = max((self.ready_ns[device, index] for device in devices), key=lambda pair: pair[0])
        start_ns, cause = self._latest(last_ready, *(self.reduced[b] for b in earlier))
        for device in devices:
            action = next(a for a in self.schedule.actions[device] if a.kind is Kind.REDUCE and a.item == index)
            node = Node(device, action)
            self._settle(node, start_ns, start_ns + self.prices.reduce_ns[index], cause)
            self.reduced[index] = node

    def _all_done(self, device: str) -> list[Node]:
        """The reduces and sends that must end before the device's UPDATE."""
        needs = []
        for action in self.schedule.actions[device]:
            node = Node(device, action)
            if action.kind in (Kind.REDUCE, Kind.SEND_F, Kind.SEND_B):
                if node not in self.solution.end_ns:
                    raise _BlockedError
                needs.append(node)
        return needs

    def _latest(self, first: tuple[int, Node | None], *others: Node | None) -> tuple[int, Node | None]:
        """The latest of `first` and the ends of `others`; the first one on a tie."""
        latest = first
        for node in others:
            if node is not None and self.solution.end_ns[node] > latest[0]:
                latest = (self.solution.end_ns[node], node)
        return latest

    def _settle(self, node: Node, start_ns: int, end_ns: int, cause: Node | None) -> None:
        self.solution.start_ns[node] = start_ns
        self.solution.end_ns[node] = end_ns
        self.solution.cause[node] = cause
