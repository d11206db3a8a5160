"""What the planner answers with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hetsim.economics import Bill
from hetsim.memory import MemoryUse
from hetsim.objective import Figure, Objective
from hetsim.plan import Plan
from hetsim.scenario.types import Strategy

Reason = Literal["memory", "batch", "devices", "costs", "limits"]
"""Why plans are infeasible: a device would have to hold more than it can; the batch cannot be cut so; there are too
few devices or layers; layers are not priced where they would have to lie; a limit on time, money or energy rules them out."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan that a solver found, before it is evaluated."""

    plan: Plan
    objective_s: float
    """What the solver minimised: its own estimate of the step."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan that fits, with its predicted step."""

    name: str
    """Of the plan; of a baseline, the idea that it stands for."""

    strategy: Strategy
    plan: Plan
    step_s: float
    memory: tuple[MemoryUse, ...]
    bill: Bill | None = None
    """Of a step, for what the plan uses alone; None: nobody asked."""

    def figure(self, figure: Figure) -> float:
        """One of the figures that plans are chosen by; infinite where it is unknown."""
        return figure_of(figure, self.step_s, self.bill)

    def excess(self, objective: Objective) -> float:
        """By how much it misses the limits, relative to that which it misses most; 0 where it keeps them."""
        return max((0.0, *(self.figure(figure) / limit - 1 for figure, limit in objective.limits.items())))

    @property
    def headroom(self) -> float | None:
        """Share of its memory that the fullest device has left, 0 to 1; None where no device's memory is known."""
        free = [1 - use.peak_bytes / use.limit_bytes for use in self.memory if use.limit_bytes]
        return min(free, default=None)


def figure_of(figure: Figure, step_s: float, bill: Bill | None) -> float:
    """A figure of a step of `step_s` with that bill; infinite where it is unknown."""
    if figure == "time":
        return step_s
    known = None if bill is None else bill.per_million if figure == "money" else bill.kwh_per_million
    return float("inf") if known is None else known


@dataclass(frozen=True, slots=True)
class Rejection:
    """Plans that are infeasible for one reason."""

    what: str
    """The plan, or the family of plans."""

    reason: Reason
    detail: str
    """What binds, with its numbers."""

    count: int = 1
    """How many of the cases that were considered this covers."""


@dataclass(frozen=True, slots=True)
class PlanningResult:
    """The answer to: how should this network be split over this cluster?"""

    candidates: tuple[Candidate, ...]
    """The plans that were evaluated, best first."""

    baselines: tuple[Candidate, ...]
    """What one would do without a planner, best plan of each idea; all of them are among the candidates too."""

    corners: tuple[Candidate, ...]
    """The best plan of one device type alone, of pure data parallelism and of one pipeline, under these names; see `corners`."""

    objective: Objective
    """What they are in order of."""

    lower_bound: float
    """No plan of the searched strategies, within the limits, has less of what the objective asks for."""

    lower_bound_s: float
    """No plan of the searched strategies takes a shorter step, but for those `unsearched`; each family's module tells why."""

    considered: int
    """Cases looked at: sets of devices (data parallel), shapes of replicas with numbers of microbatches (pipelines) or their sizes
    (hybrids), sets of devices that differ in what they cost (where plans are chosen by that), baselines."""

    ruled_out: int
    """Cases that a bound showed to be no better than the best, without their being solved."""

    left_open: int
    """Cases that were neither solved nor ruled out: the search ended before, or did all that is allotted to it."""

    evaluated: int
    """Plans whose step was worked out."""

    unsearched: tuple[str, ...]
    """Plans of the searched strategies that were not looked for, which the lower bound does not speak of."""

    infeasible: tuple[Rejection, ...]
    unpriceable: tuple[str, ...]
    """Layers on device types that the cost table lacks; such a device gets none of these layers."""

    plain_bound_s: float | None = None
    """The same of plans with one stage a device and rings alone, where others are searched, too; None: they are not."""

    explanation: tuple[str, ...] = ()
    """Why the chosen plan, one sentence each."""

    ended_early: bool = False
    """Whether the search was ended by a limit of time or by Ctrl-C."""

    @property
    def chosen(self) -> Candidate:
        """The best candidate."""
        return self.candidates[0]

    @property
    def gap(self) -> float | None:
        """By how much the chosen plan may at most miss the best possible one, relative to the lower bound; None where that is 0."""
        value = self.chosen.figure(self.objective.least)
        return value / self.lower_bound - 1 if self.lower_bound > 0 else 0.0 if value == 0 else None

    @property
    def solved(self) -> int:
        """Cases that were solved: those that are not infeasible, ruled out or left open."""
        return self.considered - self.ruled_out - self.left_open - sum(self.infeasible_counts.values())

    @property
    def infeasible_counts(self) -> Mapping[Reason, int]:
        """How many of the considered cases are infeasible, by reason."""
        counts: Counter[Reason] = Counter()
        for row in self.infeasible:
            counts[row.reason] += row.count
        return counts
