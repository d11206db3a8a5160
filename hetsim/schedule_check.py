"""Whether a schedule is one: every piece of work in it once, in an order that can be gone through. For grids written by hand.

What `make_schedule` makes passes; the tests hold it to that. The fault is told with the grid, in which it stands between >> and <<.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hetsim.errors import PlanError, Problem
from hetsim.plan import Replica
from hetsim.schedule import Action, Kind, Schedule, grid, make_schedule
from hetsim.workload import Chain

_ANSWER = {Kind.RECV_F: (Kind.SEND_F, -1), Kind.RECV_B: (Kind.SEND_B, 1)}
"""Kind of a receive -> kind of its send, and where the sending stage stands from the receiving one."""


def check_schedule(schedule: Schedule, chain: Chain) -> None:
    """Raise PlanError with every piece of work that is missing, strange or twice there, or else with the deadlock."""
    problems = [*_miscounted(schedule, chain)]
    if not problems:
        problems = [*_deadlocked(schedule)]
    if problems:
        raise PlanError(problems)


def _miscounted(schedule: Schedule, chain: Chain) -> Iterator[Problem]:
    """Held against the actions that the plan needs, whatever their order."""
    needed = make_schedule(schedule.plan, chain)
    for device, row in schedule.actions.items():
        there, wanted = Counter(row), Counter(needed.actions[device])
        for place, action in enumerate(row):
            if action not in wanted:
                yield _problem(schedule, f"{action} is no work of {device}", {device: place})
            elif row.index(action) < place:
                yield _problem(schedule, f"{action} stands twice in the list of {device}", {device: place})
        for action in wanted - there:
            yield _problem(schedule, f"{action} is missing in the list of {device}", {device: len(row)})


def _deadlocked(schedule: Schedule) -> Iterator[Problem]:
    """Go through all lists as far as they go; what is left waits for itself."""
    walk = _Walk(schedule)
    stuck = walk.run()
    if stuck:
        waits = "; ".join(
            f"{device} waits before {schedule.actions[device][place]} for {walk.wants(device)}"
            for device, place in stuck.items()
        )
        yield _problem(schedule, f"the schedule waits for itself: {waits}", stuck)


class _Walk:
    """How far each list goes, when F and B need their messages and their own forward, and messages need both their ends."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.replica_of = {d: (n, r) for n, r in enumerate(schedule.plan.replicas) for d in r.leaders}
        self.done: set[tuple[int, Action]] = set()
        """(replica, action)"""

        self.place = dict.fromkeys(schedule.actions, 0)

    def run(self) -> dict[str, int]:
        """Device -> where it is stuck; empty where all lists come to their ends."""
        moved = True
        while moved:
            moved = False
            for device, row in self.schedule.actions.items():
                while self.place[device] < len(row) and not self.wants(device):
                    number, _ = self.replica_of[device]
                    self.done.add((number, row[self.place[device]]))
                    self.place[device] += 1
                    moved = True
        return {device: place for device, place in self.place.items() if place < len(self.schedule.actions[device])}

    def wants(self, device: str) -> str:
        """The actions that the device's next one waits for, as text; empty where it can be done."""
        action = self.schedule.actions[device][self.place[device]]
        number, replica = self.replica_of[device]
        if action.kind is Kind.REDUCE:
            return self._unready(action.item)
        needs = [need for need in _needs(action, replica) if (number, need) not in self.done]
        return ", ".join(map(str, needs))

    def _unready(self, index: int) -> str:
        """The last backwards that bucket `index` waits for."""
        bucket = self.schedule.buckets[index]
        late = []
        for device in bucket.segment.devices:
            number, replica = self.replica_of[device]
            stage = next(n for n, s in enumerate(replica.stages) if bucket.first_layer in s.layers)
            backwards = [Action(stage, Kind.BACKWARD, m) for m in range(replica.microbatches)]
            late += [f"{device} {b}" for b in backwards if (number, b) not in self.done]
        return ", ".join(late)


def _needs(action: Action, replica: Replica) -> Iterator[Action]:
    """What must stand before `action`, on its own device or another."""
    stage, kind, item = action
    match kind:
        case Kind.FORWARD:
            if stage > 0:
                yield from _message(Action(stage, Kind.RECV_F, item))
        case Kind.BACKWARD:
            yield Action(stage, Kind.FORWARD, item)
            if stage < len(replica.stages) - 1:
                yield from _message(Action(stage, Kind.RECV_B, item))
        case Kind.SEND_F:
            yield Action(stage, Kind.FORWARD, item)
        case Kind.SEND_B:
            yield Action(stage, Kind.BACKWARD, item)
        case Kind.UPDATE:
            yield from (Action(stage, Kind.BACKWARD, m) for m in range(replica.microbatches))


def _message(receive: Action) -> Iterator[Action]:
    kind, step = _ANSWER[receive.kind]
    yield receive
    yield Action(receive.stage + step, kind, receive.item)


def _problem(schedule: Schedule, what: str, marked: dict[str, int]) -> Problem:
    return Problem(f'plan "{schedule.plan}"', f"{what}\n{grid(schedule.actions, marked)}")
