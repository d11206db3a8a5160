"""What the families of plans that are searched have in common: how far to go, what comes of it, and how plans are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hetsim.costs import CostModel
from hetsim.errors import InputError
from hetsim.memory import MemoryUse
from hetsim.planner.kinds import kinds_of
from hetsim.planner.result import Proposal, Rejection
from hetsim.planner.shortest_cut import Shape
from hetsim.units import format_bytes

MOST_CELLS = 500_000
"""Stages that are priced one by one for each size of a microbatch: some hundred bytes each."""

WORTH_A_LOOK = 1.03
"""Plans whose estimate is no more than so many times the best step are evaluated: estimates may be too long by so much."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How far the search goes where bounds and plans do not meet before."""

    gap: float = 0.01
    """Relative: no more is looked for where the best possible is at most so much faster."""

    pipelines: int = 80
    """Pipelines that are solved exactly."""

    replicas: int = 1200
    """Cuts of single replicas that are looked for."""

    neighbours: int = 100
    """Drafts near the best one that are tried."""

    arrangements: int = 20_000
    """Where devices can be arranged in so few ways, all of them are looked at."""

    listed: int = 2000
    """Plans that are evaluated of those."""

    sets: int = 48
    """Sets of devices on which the shortest step is searched, where plans are chosen by what they cost."""


@dataclass(slots=True)
class Family:
    """What was found of one family of plans."""

    name: str
    bound_s: float
    """None of its plans has a shorter step; infinite where there are none."""

    considered: int = 0
    solved: int = 0
    """Of those, how many were solved."""

    rejections: list[Rejection] = field(default_factory=list)
    left_open: int = 0
    """How many were neither solved nor ruled out: the search ended before, or did all that is allotted to it."""

    unsearched: str = ""
    """Plans of the family that were not looked for, in words; "" where all were."""

    @property
    def ruled_out(self) -> int:
        """How many a bound showed to be no better than the best plan, without their being solved."""
        return self.considered - self.solved - self.left_open - sum(row.count for row in self.rejections)


def leave_open(families: Iterable[Family], best_s: float, gap: float) -> None:
    """Note what is left open of `families`: all that is unsolved where no bound says that nothing is better than the best."""
    for family in families:
        if family.bound_s < best_s / (1 + gap) * (1 - 1e-9):
            family.left_open = family.ruled_out


def deeper_than(what: str, shapes: Iterable[Shape], deepest: int) -> str:
    """`pipelines of more than 32 stages`, where `shapes` do not go as deep as is possible; else ""."""
    depth = max(map(sum, shapes), default=0)
    return f"{what} of more than {depth} stages" if depth < deepest else ""


BestStep = Callable[[], float]
"""Seconds of the best plan so far; infinite where there is none."""

Take = Callable[[Proposal], float]
"""Evaluates a proposal: the seconds of its step, infinite where it does not fit."""


def overfull(uses: tuple[MemoryUse, ...]) -> MemoryUse | None:
    """The device that is most overfull, relative to what it has; None where all fit."""
    return max((use for use in uses if not use.fits), key=lambda use: use.peak_bytes / (use.limit_bytes or 1), default=None)


def fullness_text(use: MemoryUse) -> str:
    """`fast0 needs 3.1 GiB and has 2.0 GiB`."""
    return f"{use.device} needs {format_bytes(use.peak_bytes)} and has {format_bytes(use.limit_bytes or 0)}"


def check_length(costs: CostModel) -> None:
    layers, kinds = len(costs.chain), len(kinds_of(costs))
    if (cells := kinds * layers**2) > MOST_CELLS:
        what = f"{layers} layers on {kinds} kinds of devices are {cells} stages to price, not {MOST_CELLS} at most"
        raise InputError(f"{what}. Make one layer of several, or search data_parallel alone")
