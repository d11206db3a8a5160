"""A small CSV file that people edit: `#` lines on top, a header, rows of cells that remember their place.

A cell lies on one line. It is quoted as usual where it holds a comma or a quote, or begins with `#` or a space.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hetsim.errors import CostError, Problem
from hetsim.reading import did_you_mean, read_text, shown

_CELL = re.compile(r'[ \t]*+(?:"(?P<quoted>(?:[^"]|"")*)"[ \t]*|(?P<bare>(?!")[^,]*))(?P<end>,|$)')
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LARGEST = 1e6
"""Of a number, which is a time in seconds or a share; far beyond use, and small enough to reckon with in floats."""
_LARGEST_WHOLE = 10**12
"""Of a whole number, which is a count or a number of bytes."""
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands between two commas, and where."""

    text: str
    column: int
    """Of its first character, counted from 1."""


@dataclass(slots=True)
class Sheet:
    """The rows of one file, and all that is found wrong with them."""

    path: Path
    notes: tuple[str, ...] = ()
    """The `#` lines below the first, without the `#`."""

    rows: list[Row] = field(default_factory=list)
    _faults: list[tuple[int, int, Problem]] = field(default_factory=list)

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with the file, in its order."""
        return [problem for _, _, problem in sorted(self._faults, key=lambda fault: fault[:2])]

    @property
    def faulty_lines(self) -> set[int]:
        """The lines in which something is wrong."""
        return {line for line, _, _ in self._faults}

    def fault(self, line: int, column: int, what: str, mend: str = "") -> None:
        """Note that something is wrong at a place."""
        self._faults.append((line, column, Problem(f"{self.path}:{line}:{column}", what, mend)))


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its cells by the name of their column. Readers return a harmless value where they note a fault."""

    sheet: Sheet
    line: int
    cells: Mapping[str, Cell]

    def text(self, column: str) -> str:
        """The cell as it stands; "" where it is blank or the file has no such column."""
        cell = self.cells.get(column)
        return cell.text if cell else ""

    def required_text(self, column: str) -> str:
        """The cell as it stands, which must not be blank."""
        if not self.text(column):
            self.fault(column, "got nothing, expected a name")
        return self.text(column)

    def number(self, column: str, default: float | None = None) -> float:
        """The number from 0 to a million in the cell; `default` where it is blank, unless that is None."""
        text = self.text(column)
        if not text and default is not None:
            return default
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not (math.isfinite(value) and value >= 0):
            self.fault(column, f"got {_got(text)}, expected a finite number, not negative")
            return 0.0
        if value > _LARGEST:
            self.fault(column, f"got {_got(text)}, expected {_LARGEST:.0f} at most")
        return value

    def whole(self, column: str, default: int | None = None, *, least: int = 0) -> int:
        """The whole number from `least` to 10^12 in the cell; `default` where it is blank, unless that is None."""
        text = self.text(column)
        if not text and default is not None:
            return default
        if not _WHOLE.fullmatch(text) or len(text) > 18 or int(text) < least:
            self.fault(column, f"got {_got(text)}, expected a whole number of {least} or more")
            return least
        if int(text) > _LARGEST_WHOLE:
            self.fault(column, f"got {_got(text)}, expected {_LARGEST_WHOLE} at most")
        return int(text)

    def choice(self, column: str, known: Sequence[str], default: str | None = None) -> str:
        """The cell, which must be one of the `known` words; `default` where it is blank, unless that is None."""
        text = self.text(column)
        if not text and default is not None:
            return default
        if text not in known:
            self.fault(column, f"got {_got(text)}, which is unknown", did_you_mean(text, known))
            return known[0]
        return text

    def fault(self, column: str, what: str, mend: str = "") -> None:
        """Note that the cell in `column` is wrong."""
        cell = self.cells.get(column)
        self.sheet.fault(self.line, cell.column if cell else 1, f"{column}: {what}", mend)


def read_sheet(path: Path, *, title: str | None, required: Sequence[str], optional: Sequence[str]) -> Sheet:
    """The sheet in the file at `path`, whose first line is `# title` and whose columns have these names, in any order.

    Without a `title` it is a file that others wrote, which begins with its header or with `#` lines.

    Raises CostError where the file is none of this kind; faults of single rows are noted in the sheet.
    """
    lines = read_text(path, CostError).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if title is not None:
        _check_title(path, lines[0], title)
    sheet = Sheet(path)
    comments = [line for line in lines[title is not None :] if line.startswith("#")]
    sheet.notes = tuple(_bare_note(line) for line in comments)
    numbered = [(i, line) for i, line in enumerate(lines, 1) if line.strip(" \t,") and not line.startswith("#")]
    if not numbered:
        raise CostError(Problem(f"{path}:{len(lines)}:1", "the file has no header", f"Write {','.join(required)}"))
    header = _split(sheet, *numbered[0])
    _check_header(sheet, numbered[0][0], header, required, optional)
    names = [cell.text for cell in header]
    for line, text in numbered[1:]:
        cells = _split(sheet, line, text)
        if len(cells) == len(names):
            sheet.rows.append(Row(sheet, line, dict(zip(names, cells, strict=True))))
        elif cells:
            mend = "The row was cut off" if len(cells) < len(names) else "Write decimals with a point"
            sheet.fault(line, cells[-1].column, f"got {len(cells)} cells, expected {len(names)}, as in the header", mend)
    if not sheet.rows and not sheet.problems:
        sheet.fault(numbered[0][0], 1, "the file has a header and no rows")
    return sheet


def sheet_text(title: str, notes: Iterable[str], columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The text of a sheet that `read_sheet` reads back as the same values. Floats are written in full (`repr`)."""
    lines = [f"# {title}", *(f"# {note}".rstrip() for note in notes), ",".join(columns)]
    lines += [",".join(_cell_text(value) for value in row) for row in rows]
    return "\n".join(lines) + "\n"


def _got(text: str) -> str:
    return shown(text or None)


def _check_title(path: Path, line: str, title: str) -> None:
    name = title.rpartition(" ")[0]
    got = _bare_note(line)
    if not line.startswith("#") or got.rpartition(" ")[0] != name:
        raise CostError(Problem(f"{path}:1:1", f"got {shown(line)}, expected the first line to be # {title}"))
    if got != title:
        raise CostError(
            Problem(f"{path}:1:1", f"got version {got.rpartition(' ')[2]} of {name}, expected {title[len(name) + 1 :]}")
        )


def _bare_note(line: str) -> str:
    """A `#` line without the `#` and the commas with which a spreadsheet pads it."""
    return line.removeprefix("#").rstrip(",").strip()


def _check_header(sheet: Sheet, line: int, header: Sequence[Cell], required: Sequence[str], optional: Sequence[str]) -> None:
    """Raise CostError where the columns are not those of the sheet: every row would be wrong then."""
    names = [cell.text for cell in header]
    for place, cell in enumerate(header):
        if cell.text not in (*required, *optional):
            mend = did_you_mean(cell.text, (*required, *optional))
            if ";" in cell.text:
                mend = "Separate cells by commas"
            sheet.fault(line, cell.column, f"got the column {shown(cell.text)}, which is unknown", mend)
        elif cell.text in names[:place]:
            sheet.fault(line, cell.column, f"the column {cell.text} stands twice")
    for name in required:
        if name not in names:
            sheet.fault(line, 1, f"the column {name} is missing")
    if sheet.problems:
        raise CostError(sheet.problems)


def _split(sheet: Sheet, line: int, text: str) -> list[Cell]:
    """The cells of a line; none, with a fault noted, where its quotes do not match."""
    cells: list[Cell] = []
    place, more = 0, True
    while more:
        match = _CELL.match(text, place)
        if match is None:
            sheet.fault(line, place + 1, "a quoted cell does not end before the next comma", 'Write "" for a quote inside')
            return []
        quoted = match["quoted"]
        value = quoted.replace('""', '"') if quoted is not None else match["bare"].strip()
        start = match.start("quoted") - 1 if quoted is not None else match.start("bare")
        cells.append(Cell(value, start + 1))
        place, more = match.end(), match["end"] == ","
    return cells


def _cell_text(value: object) -> str:
    text = "" if value is None else repr(float(value)) if isinstance(value, float) else str(value)
    if any(character in text for character in "\n\r\0"):
        raise CostError(f"got {text!r}, expected a name on one line of text")
    return '"' + text.replace('"', '""') + '"' if re.search(r'[,"]|^[#\s]|\s$', text) else text
