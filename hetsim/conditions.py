"""The conditions under which a step is simulated, beside its costs: what varies from step to step, and what disturbs it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A device that computes `slowdown` times as long for a time, or for the whole step: a straggler."""

    device: str
    slowdown: float
    from_s: float = 0.0
    """Since the start of the step."""

    until_s: float | None = None
    """None: to the end of the step."""

    chance: float = 1.0
    """In which share of the steps it happens, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a step is simulated under."""

    jitter: float = 0.0
    """Standard deviation of the logarithm of each forward, backward and update from step to step."""

    disturbances: tuple[Disturbance, ...] = ()

    @property
    def certain(self) -> tuple[Disturbance, ...]:
        """The disturbances that happen in every step."""
        return tuple(row for row in self.disturbances if row.chance >= 1)

    @property
    def possible(self) -> tuple[Disturbance, ...]:
        """Those that happen in some steps alone."""
        return tuple(row for row in self.disturbances if row.chance < 1)


USUAL = Conditions()
"""Nothing varies and nothing disturbs."""
