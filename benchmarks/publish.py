"""Puts what a benchmark measured into a document: between the comments that mark its place."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from hetsim.errors import InputError
from hetsim.files import write_text
from hetsim.runs import Host


def add_option(parser: argparse.ArgumentParser) -> None:
    """The option with which a benchmark is told where to publish."""
    parser.add_argument("--publish", type=Path, help="put the result into this document, too: docs/accuracy.md")


def publish(document: Path | None, place: str, text: str) -> None:
    """Replace what stands in `document` between `<!-- place: begin -->` and `<!-- place: end -->`; nothing where it is None.

    Raises InputError where the document has no such place.
    """
    if document is None:
        return
    begin, end = f"<!-- {place}: begin -->\n", f"<!-- {place}: end -->\n"
    before, marked, rest = document.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not marked or not closed:
        raise InputError(f"{document} has no place for {place}: no lines {begin.strip()} and {end.strip()}")
    write_text(document, f"{before}{begin}{text.strip()}\n{end}{after}")


def machine() -> str:
    """Where and when something was measured, as a sentence of Markdown."""
    host = Host.here()
    return f"Measured on {datetime.now(UTC):%d %B %Y} on {host.cores} cores of an {host.cpu_model} ({host.kernel})."
