"""A measurement: what happened when a plan was run for real. No torch."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hetsim.errors import PlanError, RunDirectoryError
from hetsim.medians import median_interval
from hetsim.plan import Plan
from hetsim.schedule import Action
from hetsim.timeline import Span, Timeline

SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class Measurement:
    """The timed steps of one plan."""

    plan: Plan
    step_s: tuple[float, ...]
    """Seconds of each step, from the instant at which all devices start it to the end of the last device's update."""

    losses: tuple[float, ...]
    """Of each step, averaged over the global batch. Training that diverges has NaN or infinity here, and in JSON null."""

    timeline: Timeline
    """Of the step whose total is the median (the lower one of the middle two)."""

    peak_bytes: Mapping[str, int] = field(default_factory=dict)
    """The most memory that each device needed; devices that do not tell are left out."""

    canary_s: Mapping[str, float] = field(default_factory=dict)
    """Device -> the median of its canaries, one ahead of each timed step: how fast it was meanwhile."""

    @property
    def median_s(self) -> float:
        """The median of the steps' seconds."""
        return statistics.median(self.step_s)

    @property
    def interval_s(self) -> tuple[float, float]:
        """A 95 % interval of the median step, in seconds."""
        return median_interval(self.step_s)

    @property
    def samples_per_s(self) -> float:
        """Samples trained in a second, at the median step."""
        return self.plan.global_batch / self.median_s

    def to_json(self) -> str:
        """The measurement as JSON text that `from_json` reads back."""
        return json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                "plan": str(self.plan),
                "step_s": self.step_s,
                "losses": [loss if math.isfinite(loss) else None for loss in self.losses],
                "timeline": [[s.device, s.action, s.start_ns, s.end_ns] for s in self.timeline.spans],
                "peak_bytes": dict(self.peak_bytes),
                "canary_s": dict(self.canary_s),
                "median_s": self.median_s,
                "interval_s": self.interval_s,
            },
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> Measurement:
        """The measurement that `to_json` wrote. Raises RunDirectoryError where `text` is no such thing."""
        try:
            row: dict[str, Any] = json.loads(text)
            version = row["schema_version"]
            if version != SCHEMA_VERSION:
                raise RunDirectoryError(f"a measurement of schema version {version}, expected {SCHEMA_VERSION}; run again")
            return cls(
                plan=Plan.parse(row["plan"]),
                step_s=tuple(row["step_s"]),
                losses=tuple(math.nan if loss is None else loss for loss in row["losses"]),
                timeline=Timeline.of(span(*columns) for columns in row["timeline"]),
                peak_bytes=row["peak_bytes"],
                canary_s=row["canary_s"],
            )
        except (PlanError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
            raise RunDirectoryError(f"not a measurement of a run: {type(cause).__name__}: {cause}") from cause


def span(device: str, action: str, start_ns: int, end_ns: int) -> Span:
    """The span of `device` doing the action that `action` writes."""
    return Span(device, Action.parse(action).kind, action, start_ns, end_ns)
