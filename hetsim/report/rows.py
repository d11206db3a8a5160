"""What reports show, as rows: the plain figures that tables, pictures, the page and `result.json` are made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

EVEN_SPLIT = "even batch split"
"""Name of the baseline case that the others are held against."""


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One plan of a validation: what was predicted for its step, and what was measured."""

    network: str
    name: str
    """What the plan is in the comparison, e.g. `even split` or `chosen`."""

    plan: str
    """The plan's one-line text."""

    predicted_s: float
    low_s: float
    """Lower end of the 90 % interval of the prediction."""

    high_s: float
    """Upper end of it."""

    measured_s: float | None = None
    """Median of the measured steps; None: not run."""

    measured_low_s: float | None = None
    """Lower end of the interval of the measured median."""

    measured_high_s: float | None = None
    """Upper end of it."""

    chosen: bool = False
    """Whether it is the plan that the planner chose."""

    error_at_run_speed: float | None = None
    """The error without the drift of the machine between calibration and run; None: unknown."""

    @property
    def error(self) -> float | None:
        """predicted / measured - 1: positive where the prediction is too slow; None where nothing was measured."""
        return None if self.measured_s is None else self.predicted_s / self.measured_s - 1

    @property
    def inside(self) -> bool | None:
        """Whether the measured median lies in the predicted interval; None where nothing was measured."""
        return None if self.measured_s is None else self.low_s <= self.measured_s <= self.high_s


@dataclass(frozen=True, slots=True)
class CauseRow:
    """What the error of one case is made of."""

    network: str
    case: str
    measured_s: float
    seconds: Mapping[str, float]
    """Cause -> its part of measured - predicted: positive where reality took longer."""

    chosen: bool = False


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """One plan that the planner considered worth showing."""

    network: str
    rank: int
    plan: str
    step_s: float
    low_s: float
    """Lower end of the 90 % interval of the prediction."""

    high_s: float
    """Upper end of it."""

    vs_even: float | None = None
    """How many times faster than the even split; None where there is no even split to compare with."""

    peak_memory_share: float | None = None
    """Bytes at the fullest device's worst moment over what it has; None: no device's memory is known."""

    peak_memory_device: str = ""
    limited_by: str = ""
    """What a shorter step would have to speed up, e.g. `compute on fast0`."""

    chance: float = 0.0
    """How likely it is at least as good as the first plan, given what is known of the costs; 0 to 1."""

    money_per_million: float | None = None
    """What a million samples cost, of the devices and nodes that the plan uses; None: unknown."""

    kwh_per_million: float | None = None
    """The energy that they take; None: unknown."""

    currency: str = "USD"
    activations_known: bool = True
    """Whether the peak has what layers keep for their backwards; without, it is the least."""

    extrapolated: str = ""
    """Costs that lie beyond all that was measured, as `k80-0 at 40 samples, k80-1 at 12 samples`; empty: none."""

    outline: str = ""
    """The plan in a shorter line, where it has many devices."""

    p90_s: float | None = None
    """What the step stays under nine times in ten, given what is known of the costs; None: nobody worked it out."""


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """How one device spends one step. The three shares add up to 1."""

    network: str
    case: str
    timeline: str
    """`predicted` or `measured`."""

    device: str
    utilisation: float
    """Share of the step in which it computes."""

    exposed_communication: float
    """Share in which it does not compute while a message or an exchange of its own is under way."""

    bubble: float
    """Share in which it does neither: it waits for others."""


@dataclass(frozen=True, slots=True)
class BatchCurve:
    """Seconds that one device type takes for a whole forward and backward, against the microbatch."""

    network: str
    device_type: str
    microbatches: tuple[int, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CostSummary:
    """Where a prediction's costs come from."""

    network: str
    source: str
    device_types: tuple[str, ...]
    layers: int
    points: Mapping[str, int] = field(default_factory=dict)
    """Provenance -> number of layer costs that have it."""

    transfers: int = 0
    """Communication costs in the table."""

    notes: tuple[str, ...] = ()


def speedup(cases: Sequence[CaseRow], case: CaseRow) -> float | None:
    """How many times faster `case` is than the even split of its network.

    Of measured times where both have one, else of predicted ones; None where `cases` has no even split.
    """
    for even in cases:
        if even.network == case.network and even.name == EVEN_SPLIT:
            if even.measured_s is not None and case.measured_s is not None:
                return even.measured_s / case.measured_s
            return even.predicted_s / case.predicted_s if case.predicted_s else None
    return None


def networks_of(rows: Iterable[CaseRow | CandidateRow]) -> tuple[str, ...]:
    """Names of the networks in `rows`, each once, in order."""
    return tuple(dict.fromkeys(row.network for row in rows))
