"""Tables for the terminal; plain text where there is none.

Nothing is ever cut: a long plan folds inside its column, and where a table does not fit the width at all, each row becomes
a short paragraph.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Literal

from hetsim.objective import format_amount
from hetsim.report.rows import CandidateRow, CaseRow, CauseRow, DeviceRow, networks_of, speedup
from hetsim.report.text import NONE, format_error, format_interval, format_measured, format_speedup, tied_with_best
from hetsim.units import format_seconds

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

PLAIN_WIDTH = 156
"""Columns of text that goes to a file or a pipe, unless the environment sets COLUMNS."""

_FOLDING = {"case": 16, "plan": 24}
"""Columns whose texts may fold, and the least width that they are given."""


NINE_IN_TEN = "9 in 10 under"


@dataclass(frozen=True, slots=True)
class Rows:
    """A titled table of texts that rich can print at any width."""

    title: str
    names: tuple[str, ...]
    """Columns of words, which stand on the left; they name a row where it becomes a paragraph."""

    values: tuple[str, ...]
    """Columns of figures, which follow on the right."""

    rows: tuple[tuple[str, ...], ...]
    emphasised: int | None = None
    """Index of the row in bold."""

    note: str = ""

    def without_empty(self) -> Rows:
        """The same without the columns of figures in which no row has one."""
        first = len(self.names)
        kept = [n for n in range(first, first + len(self.values)) if any(row[n] not in ("", NONE) for row in self.rows)]
        rows = tuple((*row[:first], *(row[n] for n in kept)) for row in self.rows)
        return replace(self, values=tuple(self.values[n - first] for n in kept), rows=rows)

    def without(self, column: str) -> Rows:
        """The same without a column of figures."""
        number = len(self.names) + self.values.index(column)
        rows = tuple((*row[:number], *row[number + 1 :]) for row in self.rows)
        return replace(self, values=tuple(name for name in self.values if name != column), rows=rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.measure import Measurement
        from rich.text import Text

        table = self._table()
        yield Text(self.title, style="bold")
        if Measurement.get(console, options.update(width=10_000), table).minimum <= options.max_width:
            yield table
        else:
            yield from self._paragraphs()
        if self.note:
            yield Text(self.note)

    def _table(self) -> Table:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for number, name in enumerate(self.names + self.values):
            widest = max(len(text) for text in (name, *(row[number] for row in self.rows)))
            side: Literal["left", "right"] = "left" if name in self.names else "right"
            least = min(widest, _FOLDING.get(name, widest))
            table.add_column(name, justify=side, overflow="fold", min_width=least)
        for number, row in enumerate(self.rows):
            table.add_row(*row, style="bold" if number == self.emphasised else None)
        return table

    def _paragraphs(self) -> Iterator[RenderableType]:
        from rich.padding import Padding
        from rich.text import Text

        for number, row in enumerate(self.rows):
            names, values = row[: len(self.names)], row[len(self.names) :]
            told = (f"{name} {value}" for name, value in zip(self.values, values, strict=True) if value != NONE)
            yield Text("  ".join(names), style="bold" if number == self.emphasised else "", overflow="fold")
            yield Padding(Text(", ".join(told), overflow="fold"), (0, 0, 0, 4))


def print_tables(*parts: RenderableType, file: IO[str] | None = None) -> None:
    """Print `parts` (tables or texts) to `file`, by default to standard output; colours only on a terminal."""
    from rich.console import Console

    stream = file or sys.stdout
    if stream.isatty():
        console = Console(file=stream, highlight=False, markup=False, emoji=False)
        with console.capture() as capture:
            for part in parts:
                console.print(part)
        stream.write(_writable(capture.get(), stream))
        return
    width = None if os.environ.get("COLUMNS", "").strip("0").isdecimal() else PLAIN_WIDTH
    console = Console(file=io.StringIO(), highlight=False, markup=False, emoji=False, width=width, color_system=None)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    stream.writelines(_writable(f"{line.rstrip()}\n", stream) for line in capture.get().splitlines())


_PLAIN = str.maketrans({"─": "-", "–": "-", "×": "x", "µ": "u", "·": ";", "…": "...", "≥": ">="})
"""The signs of our tables that are not ASCII -> what stands for them where they cannot be written."""


def _writable(text: str, stream: IO[str]) -> str:
    """`text` with other signs for those that the stream's encoding lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
    return text


def case_tables(cases: Iterable[CaseRow]) -> list[Rows]:
    """Predicted beside measured: one table a network. `*` marks the chosen plan."""
    rows = tuple(cases)
    return [_cases(network, [row for row in rows if row.network == network]) for network in networks_of(rows)]


def candidate_tables(candidates: Iterable[CandidateRow], *, by_p90: bool = False) -> list[Rows]:
    """The planner's candidates by rank: one table a network, and which of them their intervals cannot tell apart.

    `by_p90`: with what each stays under nine times in ten, which they are ranked by.
    """
    rows = sorted(candidates, key=lambda row: row.rank)
    tables = [_candidates(network, [row for row in rows if row.network == network]) for network in networks_of(rows)]
    return tables if by_p90 else [table.without(NINE_IN_TEN) for table in tables]


def device_table(rows: Sequence[DeviceRow], memory: Sequence[str] = ()) -> Rows:
    """How each device spends the step; `memory`: what each row's device holds at most, where that is to be told."""
    return Rows(
        "how the devices spend the step",
        ("network", "case", "timeline", "device"),
        ("computes", "exposed communication", "bubble", "peak memory"),
        tuple(
            (
                row.network,
                row.case,
                row.timeline,
                row.device,
                f"{row.utilisation:.0%}",
                f"{row.exposed_communication:.0%}",
                f"{row.bubble:.0%}",
                held,
            )
            for row, held in zip(rows, memory or [""] * len(rows), strict=True)
        ),
    ).without_empty()


def cause_table(rows: Sequence[CauseRow]) -> Rows:
    """What measured - predicted is made of, in parts of the measured step; they add up to the error, with the other sign."""
    causes = tuple(dict.fromkeys(cause for row in rows for cause in row.seconds))
    return Rows(
        "where reality took longer (+) or less (-) than predicted, of the measured step",
        ("network", "case"),
        (*causes, "together"),
        tuple(
            (
                row.network,
                f"{'*' if row.chosen else ' '} {row.case}",
                *(format_error(row.seconds.get(cause, 0.0) / row.measured_s) for cause in causes),
                format_error(sum(row.seconds.values()) / row.measured_s),
            )
            for row in rows
        ),
    )


def _cases(network: str, cases: Sequence[CaseRow]) -> Rows:
    return Rows(
        network,
        ("case", "plan"),
        ("predicted", "90 % interval", "measured", "error", "without drift", "in interval", "vs even split"),
        tuple(
            (
                f"{'*' if row.chosen else ' '} {row.name}",
                row.plan,
                format_seconds(row.predicted_s),
                format_interval(row.low_s, row.high_s),
                format_measured(row),
                format_error(row.error),
                format_error(row.error_at_run_speed),
                {True: "yes", False: "no", None: NONE}[row.inside],
                format_speedup(speedup(cases, row)),
            )
            for row in cases
        ),
        emphasised=next((number for number, row in enumerate(cases) if row.chosen), None),
    ).without_empty()


def figure_columns(
    bills: Sequence[tuple[float | None, float | None]], currency: str
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(names, texts of each row) of the columns of money and kWh for a million samples, as far as any row knows them."""
    named = [
        (number, name)
        for number, name in enumerate((f"{currency} per million", "kWh per million"))
        if any(row[number] is not None for row in bills)
    ]
    texts = [tuple(NONE if (value := row[number]) is None else format_amount(value) for number, _ in named) for row in bills]
    return tuple(name for _, name in named), texts


def _candidates(network: str, candidates: Sequence[CandidateRow]) -> Rows:
    tied = tied_with_best(candidates)
    bills = [(row.money_per_million, row.kwh_per_million) for row in candidates]
    names, texts = figure_columns(bills, candidates[0].currency if candidates else "")
    return Rows(
        network,
        ("rank", "plan"),
        ("step time", "90 % interval", NINE_IN_TEN, *names, "vs even split", "peak memory", "limited by"),
        tuple(
            (
                str(row.rank),
                row.outline or row.plan,
                format_seconds(row.step_s),
                format_interval(row.low_s, row.high_s),
                NONE if row.p90_s is None else format_seconds(row.p90_s),
                *figures,
                format_speedup(row.vs_even),
                _memory(row),
                row.limited_by or NONE,
            )
            for row, figures in zip(candidates, texts, strict=True)
        ),
        emphasised=0 if candidates else None,
        note="\n".join(_notes(candidates, tied)),
    )


def _memory(row: CandidateRow) -> str:
    if row.peak_memory_share is None:
        return NONE
    return f"{'' if row.activations_known else '≥ '}{row.peak_memory_share:.0%} ({row.peak_memory_device})"


def _notes(candidates: Sequence[CandidateRow], tied: Sequence[int]) -> Iterator[str]:
    """What has to be said of the rows of a table."""
    if tied:
        ranks = ", ".join(map(str, tied))
        yield f"~ plans {ranks} cannot be told apart by what is known of their costs: measure them"
    if any(row.peak_memory_share is not None and not row.activations_known for row in candidates):
        yield "≥ what layers keep for their backwards is not known: memory is at least so full"
    if beyond := [row for row in candidates if row.extrapolated]:
        ranks = ", ".join(str(row.rank) for row in beyond)
        what = "; ".join(dict.fromkeys(row.extrapolated for row in beyond))
        yield f"! plan{'s' if len(beyond) > 1 else ''} {ranks}: costs beyond all that was measured ({what})"
