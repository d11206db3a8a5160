"""The timeline file: one row an action, in nanoseconds, so that what is read back equals what was written.

::

    # hetsim timeline 1: nanoseconds after the start of the step
    device,kind,action,start_ns,end_ns
    fast0,F,0F0,0,81250000
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hetsim.errors import PlanError, Problem, RunDirectoryError
from hetsim.files import write_text
from hetsim.reading import read_text
from hetsim.schedule import Action
from hetsim.timeline import Span, Timeline

HEAD = "# hetsim timeline 1: nanoseconds after the start of the step"
COLUMNS = ("device", "kind", "action", "start_ns", "end_ns")

_MOST_PROBLEMS = 20
"""A file that is wrong throughout is wrong in the same way; more lines say no more."""


def write_timeline(path: Path, timeline: Timeline) -> None:
    """Write `timeline` to `path`, whole or not at all."""
    rows = [f"{s.device},{s.kind},{s.action},{s.start_ns},{s.end_ns}" for s in timeline.spans]
    write_text(path, "\n".join([HEAD, ",".join(COLUMNS), *rows]) + "\n")


def read_timeline(path: Path) -> Timeline:
    """The timeline in `path`, in the order of the file. Raises RunDirectoryError with every fault and its place."""
    lines = read_text(path, RunDirectoryError).splitlines()
    if lines[:1] != [HEAD] or lines[1:2] != [",".join(COLUMNS)]:
        place = 1 if lines[:1] != [HEAD] else 2
        got = lines[place - 1] if len(lines) >= place else "the end of the file"
        expected = HEAD if place == 1 else ",".join(COLUMNS)
        raise RunDirectoryError(Problem(f"{path}:{place}:1", f'got "{got[:80]}", expected "{expected}"'))
    spans: list[Span] = []
    problems: list[Problem] = []
    for number, line in enumerate(lines[2:], start=3):
        found = list(_faults(line))
        problems += [Problem(f"{path}:{number}:{column}", what) for column, what in found]
        if not found:
            spans.append(_span(line.split(",")))
    if problems:
        hidden = len(problems) - _MOST_PROBLEMS
        rest = [Problem(str(path), f"and {hidden} more faults")] if hidden > 0 else []
        raise RunDirectoryError(problems[:_MOST_PROBLEMS] + rest)
    return Timeline(tuple(spans))


def _span(fields: list[str]) -> Span:
    device, _, action, start, end = fields
    return Span(device, Action.parse(action).kind, action, int(start), int(end))


def _faults(line: str) -> Iterator[tuple[int, str]]:
    """(column, what is wrong) for each fault of a row."""
    fields = line.split(",")
    if len(fields) != len(COLUMNS):
        yield 1, f"got {len(fields)} fields, expected {len(COLUMNS)}: {','.join(COLUMNS)}"
        return
    device, kind, action, start, end = fields
    columns = [1 + sum(len(field) + 1 for field in fields[:place]) for place in range(len(fields))]
    if not device:
        yield columns[0], "got no device, expected its name"
    try:
        expected = str(Action.parse(action).kind)
    except PlanError as error:
        yield columns[2], str(error)
    else:
        if kind != expected:
            yield columns[1], f'got kind "{kind}", expected "{expected}" as action {action} says'
    wrong = [(column, text) for column, text in ((columns[3], start), (columns[4], end)) if not _is_integer(text)]
    for column, text in wrong:
        yield column, f'got "{text}", expected whole nanoseconds'
    if not wrong and int(end) < int(start):
        yield columns[4], f"got an end of {end} ns, expected one not before the start at {start} ns"


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and text.isascii()
