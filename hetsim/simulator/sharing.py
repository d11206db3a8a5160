"""What is shared: the wires of the topology by the transfers in flight, processor cores by the devices that compute on them.

A piece of work alone takes its duration; its *load* on a resource is the share of it that the work takes then. Where the loads on
a resource add up to more than 1, the work on it is slowed, max-min fair: all get the same bytes a second, but for those that
another resource or their own nature holds below that, whose part the others share (progressive filling; Bertsekas & Gallager,
Data Networks, 1992, section 6.5.2). Shares are worked out anew whenever a piece of work starts or ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import simpy

from hetsim.hardware import Resource

_FULL = 1 + 1e-9
"""A resource is overloaded from here on; the rest is rounding."""


class Clockwork(simpy.Environment):
    """An environment whose time is in whole nanoseconds."""

    @property
    def now(self) -> int:
        """Nanoseconds since the start."""
        return self._now  # type: ignore[return-value]


@dataclass(slots=True, eq=False)
class Work:
    """Something that takes time on resources. Created by `Sharing.start`."""

    remaining_ns: float
    """Of its duration alone, at `since_ns`."""

    load: Mapping[Resource, float]
    weight: float
    """Its rate alone in bytes a second: what fairness is measured in."""

    done: Callable[[], None]
    pace: float
    """How fast it goes where nothing is shared, 1 as a rule; above 1 it is faster than its duration says."""

    since_ns: int
    share: float = 1.0
    """What sharing leaves it, 0 to 1."""

    timer: simpy.Event | None = None
    """What happens when it ends, if its speed stays as it is; an earlier one is passed over."""

    @property
    def speed(self) -> float:
        """Nanoseconds of its duration done in a nanosecond."""
        return self.pace * self.share


@dataclass(slots=True)
class _State:
    total: float = 0.0
    """The loads of all works on it."""

    works: dict[Work, None] = field(default_factory=dict)


class Sharing:
    """All work in progress on shared resources."""

    def __init__(self, env: Clockwork) -> None:
        self._env = env
        self._resources: dict[Resource, _State] = {}
        self._slowed: dict[Work, None] = {}

    def start(
        self, duration_ns: int, load: Mapping[Resource, float], weight: float, done: Callable[[], None], pace: float = 1.0
    ) -> Work:
        """Begin a piece of work now; `done` is called when it ends."""
        work = Work(duration_ns, load, weight, done, pace, self._env.now)
        crowded = False
        for resource, share in load.items():
            state = self._resources.get(resource)
            if state is None:
                state = self._resources[resource] = _State()
            state.total += share
            state.works[work] = None
            if state.total > _FULL:
                crowded = True
        if crowded:
            self._share_out()
        if work.timer is None:
            self._plan_end(work)
        return work

    def set_pace(self, work: Work, pace: float) -> None:
        """Let `work` go at another pace from now on."""
        if pace != work.pace:
            self._settle(work)
            work.pace = pace
            self._plan_end(work)

    def _end(self, work: Work) -> None:
        crowded = False
        for resource, share in work.load.items():
            state = self._resources[resource]
            crowded = crowded or state.total > _FULL
            del state.works[work]
            state.total = state.total - share if state.works else 0.0
        self._slowed.pop(work, None)
        if crowded:
            self._share_out()
        work.done()

    def _share_out(self) -> None:
        """New shares for all work that is on an overloaded resource, or was."""
        crowded = {resource: state for resource, state in self._resources.items() if state.total > _FULL}
        touched = dict(self._slowed)
        for state in crowded.values():
            touched |= state.works
        for work, share in max_min(touched, crowded).items():
            if share != work.share:
                self._settle(work)
                work.share = share
                self._plan_end(work)
            if share < 1:
                self._slowed[work] = None
            else:
                self._slowed.pop(work, None)

    def _settle(self, work: Work) -> None:
        """Take off what was done since the last time."""
        now = self._env.now
        work.remaining_ns -= (now - work.since_ns) * work.speed
        work.since_ns = now

    def _plan_end(self, work: Work) -> None:
        speed = work.pace * work.share
        left_ns = (
            math.ceil(work.remaining_ns / speed - 1e-6) if speed != 1 or work.remaining_ns % 1 else int(work.remaining_ns)
        )
        work.timer = timer = self._env.timeout(left_ns if left_ns > 0 else 0)
        timer.callbacks.append(lambda event: self._end(work) if event is work.timer else None)


def max_min(works: Iterable[Work], resources: Iterable[Resource]) -> dict[Work, float]:
    """Work -> its share, 0 to 1, where only `resources` bind: progressive filling.

    All rates (bytes a second) grow alike until a work is at its own rate or one of its resources is full; then it stands still.
    """
    shares: dict[Work, float] = {}
    left = dict.fromkeys(resources, 1.0)
    growing = dict.fromkeys(works)
    while growing:
        need = dict.fromkeys(left, 0.0)
        for work in growing:
            for resource, load in work.load.items():
                if resource in need:
                    need[resource] += load / work.weight
        rate = min((left[resource] / share for resource, share in need.items() if share > 0), default=math.inf)
        slowest = min(work.weight for work in growing)
        if slowest <= rate:
            stopped = {work: 1.0 for work in growing if work.weight <= rate}
        else:
            full = {
                resource for resource, share in need.items() if share > 0 and left[resource] / share <= rate * (1 + 1e-12)
            }
            stopped = {work: rate / work.weight for work in growing if any(resource in full for resource in work.load)}
        for work, share in stopped.items():
            del growing[work]
            for resource, load in work.load.items():
                if resource in left:
                    left[resource] = max(0.0, left[resource] - share * load)
        shares |= stopped
    return shares
