"""What plans are chosen by: the least of one figure, with none of the figures beyond its limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from hetsim.errors import InputError, Problem
from hetsim.units import format_seconds, parse_seconds

Figure = Literal["time", "money", "energy"]
"""Seconds of a step; money, and kilowatt-hours, for a million samples."""

FIGURES: tuple[Figure, ...] = get_args(Figure)

LIMITS: Mapping[str, Figure] = {"step": "time", "money_per_million": "money", "kwh_per_million": "energy"}
"""What limits are called, in scenarios and on the command line."""


@dataclass(frozen=True, slots=True)
class Objective:
    """The least of `least`, within the limits; None: no limit."""

    least: Figure = "time"
    step_s: float | None = None
    money_per_million: float | None = None
    kwh_per_million: float | None = None

    @property
    def limits(self) -> dict[Figure, float]:
        """The limits that there are."""
        every: dict[Figure, float | None] = {
            "time": self.step_s,
            "money": self.money_per_million,
            "energy": self.kwh_per_million,
        }
        return {figure: limit for figure, limit in every.items() if limit is not None}

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All that it asks for."""
        return tuple(figure for figure in FIGURES if figure == self.least or figure in self.limits)

    @property
    def is_time_alone(self) -> bool:
        """Whether it asks for nothing but the shortest step, so that money and energy need not be known."""
        return self.figures == ("time",)


SHORTEST_STEP = Objective()


def with_limits(objective: Objective, texts: Sequence[str]) -> Objective:
    """`objective` with limits such as `step=0.5s` put in place of its own; `step=none` lifts one.

    Raises InputError with each that cannot be read.
    """
    found: dict[str, float | None] = {}
    problems = []
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        key = "step_s" if name == "step" else name
        if key in found:
            problems.append(Problem(f"--limit {text}", f"{name} has been given a limit before", "Give it one"))
        try:
            found[key] = _limit(name, value)
        except ValueError as error:
            problems.append(Problem(f"--limit {text}", str(error), "Write it as step=0.5s or money_per_million=3.2"))
    if problems:
        raise InputError(problems)
    return replace(objective, **found)  # type: ignore[arg-type]  # names that were looked up


def _limit(name: str, text: str) -> float | None:
    if name not in LIMITS:
        raise ValueError(f'got no limit called "{name}", expected one of {", ".join(LIMITS)}')
    if text == "none":
        return None
    try:
        value = parse_seconds(text) if name == "step" else float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        kind = "a duration such as 0.5s" if name == "step" else "a number"
        raise ValueError(f'got "{text}", expected {kind}, more than 0')
    return value


def limit_name(figure: Figure) -> str:
    """What its limit is called."""
    return next(name for name, limited in LIMITS.items() if limited == figure)


def format_figure(figure: Figure, value: float, currency: str) -> str:
    """`480 ms a step`, `3.21 USD` or `41.5 kWh per million samples`."""
    if figure == "time":
        return f"{format_seconds(value)} a step"
    return f"{format_amount(value)} {currency if figure == 'money' else 'kWh'} per million samples"


def format_amount(value: float) -> str:
    """Money or energy in four significant figures, without an exponent where that is readable."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.4g}"
