"""Progress on stderr: a bar where a person watches, nothing where stderr goes into a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from hetsim.units import format_seconds


class Report(Protocol):
    """Moves the bar."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """What is going on, parts done, parts in all."""


class SearchReport(Protocol):
    """Renews the line."""

    def __call__(self, what: str, best_s: float, bound_s: float) -> None:
        """What is searched, the best step and the bound so far."""


@contextmanager
def progress(title: str, *, quiet: bool) -> Iterator[Report]:
    """A bar called `title` for the length of the block; yields the function that moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        if not quiet:
            console.print(f"{title} …", highlight=False)
        yield _unseen
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as bar:
        task = bar.add_task(title, total=None, what="", count="")

        def report(what: str, done: int, total: int) -> None:
            bar.update(task, what=what, completed=done, total=total, count=f"{done:,}/{total:,}")

        yield report


@contextmanager
def search_progress(network: str, *, quiet: bool) -> Iterator[SearchReport]:
    """A line with the best step so far and the bound, for the length of the block; yields the function that renews it."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield _unheard
        return
    with console.status(f"planning {network}") as status:

        def report(what: str, best_s: float, bound_s: float) -> None:
            best = format_seconds(best_s) if best_s < float("inf") else "none yet"
            under = f", none of these under {format_seconds(bound_s)}" if bound_s > 0 else ""
            status.update(f"planning {network}: {what}, best step {best}{under}")

        yield report


def _unheard(what: str, best_s: float, bound_s: float) -> None:
    """Nobody watches."""


def _unseen(what: str, done: int, total: int) -> None:
    """Nobody watches."""
