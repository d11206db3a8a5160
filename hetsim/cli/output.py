"""What goes to stdout: one JSON document, or tables."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def print_json(document: Any) -> None:
    """Write `document` as indented JSON. NaN and infinity are refused (ValueError): JSON has no such numbers."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def talk(message: str) -> None:
    """Write a line for people to stderr."""
    with contextlib.suppress(OSError, AttributeError):  # nobody listens: stderr is closed or full
        sys.stderr.write(message + "\n")


def print_table(title: str, words: Sequence[str], figures: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table of texts: columns of `words` on the left, then columns of `figures`, set to the right."""
    from hetsim.report.tables import Rows, print_tables

    print_tables(Rows(title, tuple(words), tuple(figures), tuple(tuple(row) for row in rows)))
