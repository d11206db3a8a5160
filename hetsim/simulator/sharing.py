"""What is shared: the wires of the topology by the transfers in flight, processor cores by the devices that compute on them.

A piece of work alone takes its duration; its *load* on a resource is the share of it that the work takes then. Where the loads on
a resource add up to more than 1, the work on it is slowed, max-min fair: all get the same bytes a second, but for those that
another resource or their own nature holds below that, whose part the others share (progressive filling; Bertsekas & Gallager,
Data Networks, 1992, section 6.5.2). Shares are worked out anew when work starts or ends: once for all that does so at a moment, and
for what is connected with it by resources that are overloaded; the shares of others do not depend on it.
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
    rounding_ns: float
    """By how much `remaining_ns` may be wrong, for want of digits."""

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
        self._changed: dict[Resource, None] = {}
        """Where something started or ended at this moment on a resource that is overloaded, or was."""

    def start(
        self, duration_ns: int, load: Mapping[Resource, float], weight: float, done: Callable[[], None], pace: float = 1.0
    ) -> Work:
        """Begin a piece of work now; `done` is called when it ends."""
        work = Work(duration_ns, load, weight, done, pace, self._env.now, rounding_ns=1e-6 + 1e-14 * duration_ns)
        crowded = False
        for resource, share in load.items():
            state = self._resources.get(resource)
            if state is None:
                state = self._resources[resource] = _State()
            state.total += share
            state.works[work] = None
            crowded = crowded or state.total > _FULL
        if crowded:
            self._change(load)
        else:
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
        if crowded:
            self._change(work.load)
        work.done()

    def _change(self, resources: Iterable[Resource]) -> None:
        """Share out anew, once for all that starts and ends at this moment."""
        if not self._changed:
            self._env.timeout(0).callbacks.append(lambda _event: self._share_out())
        self._changed |= dict.fromkeys(resources)

    def _share_out(self) -> None:
        """New shares for all work on the resources that changed, and for what shares a resource with that, and so on."""
        works = self._connected(self._changed)
        self._changed = {}
        crowded = dict.fromkeys(r for work in works for r in work.load if self._resources[r].total > _FULL)
        for work, share in max_min(works, crowded).items():
            if share != work.share or work.timer is None:
                self._settle(work)
                work.share = share
                self._plan_end(work)

    def _connected(self, resources: Iterable[Resource]) -> dict[Work, None]:
        """All work on `resources`, and on those that are overloaded and have work in common with them, and so on."""
        works: dict[Work, None] = {}
        seen = set(resources)
        waiting = list(resources)
        while waiting:
            for work in self._resources[waiting.pop()].works:
                if work not in works:
                    works[work] = None
                    others = [r for r in work.load if r not in seen and self._resources[r].total > _FULL]
                    seen.update(others)
                    waiting += others
        return works

    def _settle(self, work: Work) -> None:
        """Take off what was done since the last time."""
        now = self._env.now
        work.remaining_ns -= (now - work.since_ns) * work.speed
        work.since_ns = now

    def _plan_end(self, work: Work) -> None:
        left_ns = math.ceil((work.remaining_ns - work.rounding_ns) / work.speed)
        work.timer = timer = self._env.timeout(max(0, left_ns))
        timer.callbacks.append(lambda event: self._end(work) if event is work.timer else None)


def max_min(works: Iterable[Work], resources: Iterable[Resource]) -> dict[Work, float]:
    """Work -> its share, 0 to 1, where only `resources` bind: progressive filling.

    All rates (bytes a second) grow alike until a work is at its own rate or one of its resources is full; then it stands still.
    """
    left = dict.fromkeys(resources, 1.0)
    growing = dict.fromkeys(works)
    on: dict[Resource, dict[Work, float]] = {resource: {} for resource in left}
    """Resource -> work that still grows -> what it takes there at a rate of 1."""

    for work in growing:
        for resource, load in work.load.items():
            if resource in left:
                on[resource][work] = load / work.weight
    limit = {resource: 1.0 / sum(needs.values()) for resource, needs in on.items() if needs}
    """Resource -> the rate at which it is full, if none of its work is held below that."""

    shares: dict[Work, float] = {}
    while growing:
        rate = min(limit.values(), default=math.inf)
        stopped = {work: 1.0 for work in growing if work.weight <= rate}
        if not stopped:
            full = [resource for resource, most in limit.items() if most <= rate * (1 + 1e-12)]
            stopped = {work: rate / work.weight for resource in full for work in on[resource]}
        touched: dict[Resource, None] = {}
        for work, share in stopped.items():
            del growing[work]
            for resource, load in work.load.items():
                if resource in left:
                    del on[resource][work]
                    left[resource] = max(0.0, left[resource] - share * load)
                    touched[resource] = None
        for resource in touched:
            if needs := on[resource]:
                limit[resource] = left[resource] / sum(needs.values())
            else:
                del limit[resource]
        shares |= stopped
    return shares
