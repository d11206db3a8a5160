"""Numbers and sentences for people, the same in the terminal, in pictures and on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from hetsim.report.rows import EVEN_SPLIT, CandidateRow, CaseRow, speedup
from hetsim.units import format_percent, format_seconds

DASH, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"

NONE = DASH
"""What stands where there is no value."""

WORTH_TELLING = 1.1
"""From this factor on that a machine drifted between calibration and run, it is told."""

TIED_CHANCE = 0.05
"""From this chance on that a plan is as fast as the first, the two are not told apart."""


def format_interval(low_s: float, high_s: float) -> str:
    """Two durations in the unit of the longer, to as many decimals as its three significant figures, e.g. `192-206 ms`."""
    unit, scale = next(((u, s) for u, s in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)) if high_s >= s), ("ns", 1e-9))
    decimals = max(0, 2 - math.floor(math.log10(high_s / scale))) if high_s > 0 else 0
    return f"{low_s / scale:.{decimals}f}{DASH}{high_s / scale:.{decimals}f} {unit}"


def format_speedup(times: float | None) -> str:
    """A factor in two significant figures, e.g. `2.3x`."""
    return NONE if times is None else f"{times:.{1 if times < 9.95 else 0}f}{TIMES}"


def format_error(error: float | None) -> str:
    """A relative error with its sign, e.g. `+2.5 %`."""
    return NONE if error is None else format_percent(error, sign=True)


def format_measured(case: CaseRow) -> str:
    """The measured step of `case`, or a dash."""
    return NONE if case.measured_s is None else format_seconds(case.measured_s)


def answer(cases: Sequence[CaseRow]) -> str:
    """What the cases of one network come to, in one or two sentences; the answer that a report starts with."""
    chosen = next((case for case in cases if case.chosen), None)
    if chosen is None:
        return "No plan was chosen."
    even = next((case for case in cases if case.name == EVEN_SPLIT), None)
    measured = chosen.measured_s is not None and (even is None or even.measured_s is not None)
    sentences = _comparison(cases, chosen, even), _prediction(chosen) if measured else _not_measured(chosen), drift(cases)
    return " ".join(filter(None, sentences))


def drift(cases: Sequence[CaseRow]) -> str:
    """That the machine was slower or faster while plans ran than when it was measured, as a sentence; empty where it hardly was."""
    known = [(case.error, case.error_at_run_speed) for case in cases]
    ratios = [
        (1 + at_run_speed) / (1 + error) for error, at_run_speed in known if error is not None and at_run_speed is not None
    ]
    if not ratios or 1 / WORTH_TELLING < (ratio := median(ratios)) < WORTH_TELLING:
        return ""
    times, again = (
        (f"{format_speedup(ratio)} as slow", "run") if ratio > 1 else (f"{format_speedup(1 / ratio)} as fast", "measure")
    )
    return (
        f"While the plans ran the machine was {times} as when it was measured, by what its devices took for a fixed piece of work: "
        f"close other programs and {again} again."
    )


def regret(cases: Sequence[CaseRow]) -> str:
    """Whether the chosen plan was also measured fastest, as a sentence; empty where fewer than two cases were measured."""
    measured = [(case.measured_s, case) for case in cases if case.measured_s is not None]
    chosen_s = next((seconds for seconds, case in measured if case.chosen), None)
    if chosen_s is None or len(measured) < 2:
        return ""
    best_s, best = min(measured, key=lambda row: row[0])
    if best_s >= chosen_s:
        return f"It was also the fastest of the {len(measured)} plans that were measured."
    lost = format_percent(chosen_s / best_s - 1)
    return f'Of the {len(measured)} plans that were measured, "{best.name}" was faster: the choice costs {lost}.'


def tied_with_best(candidates: Sequence[CandidateRow]) -> tuple[int, ...]:
    """Ranks that may well be as fast as the first, the first's included; empty where no other is."""
    ranks = tuple(sorted(row.rank for row in candidates if row.rank == 1 or row.chance >= TIED_CHANCE))
    return ranks if len(ranks) > 1 else ()


def _comparison(cases: Sequence[CaseRow], chosen: CaseRow, even: CaseRow | None) -> str:
    measured = chosen.measured_s is not None and (even is None or even.measured_s is not None)
    step_s = chosen.measured_s if measured and chosen.measured_s is not None else chosen.predicted_s
    times = speedup(cases, chosen)
    if times is None or even is None:
        return f"The chosen plan takes {format_seconds(step_s)} a step."
    even_s = even.measured_s if measured and even.measured_s is not None else even.predicted_s
    told = f"{format_seconds(step_s)} instead of {format_seconds(even_s)} a step"
    if chosen.plan == even.plan:
        return f"The even split is the best plan found: {format_seconds(step_s)} a step."
    if times >= 1.005:
        factor = f"{times:.2f}" if times < 1.1 else format_speedup(times).removesuffix(TIMES)
        return f"The chosen plan is {factor} times as fast as the even split: {told}."
    return f"The chosen plan is not faster than the even split: {told}."


def _prediction(chosen: CaseRow) -> str:
    error = chosen.error
    assert error is not None
    off = f"{format_percent(abs(error))} {'above' if error >= 0 else 'below'} the measurement"
    where = f"{'inside' if chosen.inside else 'outside'} the 90 % interval of {format_interval(chosen.low_s, chosen.high_s)}"
    return f"The prediction was {format_seconds(chosen.predicted_s)}, {off}, which lies {where}."


def _not_measured(chosen: CaseRow) -> str:
    return f"This is a prediction (90 % interval {format_interval(chosen.low_s, chosen.high_s)}); it has not been measured."
