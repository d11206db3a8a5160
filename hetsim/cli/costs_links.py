"""`hetsim costs show --links`: what was measured of communication, as latency and bandwidths."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hetsim.costs.link_fit import LinkFit, fit_link
from hetsim.costs.sources import CostSource
from hetsim.costs.table import Operation
from hetsim.report.text import NONE
from hetsim.units import format_bandwidth, format_bytes, format_percent, format_seconds


@dataclass(frozen=True, slots=True)
class LinkRow:
    """What is known of one operation over one group."""

    operation: Operation
    group: tuple[str, ...]
    sizes: int
    largest_bytes: int
    fit: LinkFit | None
    """None where there are too few sizes for one."""


def link_rows(source: CostSource) -> list[LinkRow]:
    """The fits of all operations between devices that `source` has timings of, in its order."""
    points: dict[tuple[Operation, tuple[str, ...]], list[tuple[int, float]]] = defaultdict(list)
    for placed in source.transfers:
        row = placed.row
        if len(row.group) > 1:
            points[row.operation, row.group].append((row.size_bytes, row.seconds))
    return [
        LinkRow(operation, group, len(mine), max(size for size, _ in mine), _fit(mine))
        for (operation, group), mine in points.items()
    ]


def _fit(points: Sequence[tuple[int, float]]) -> LinkFit | None:
    if len({size for size, _ in points}) < 2 or min(seconds for _, seconds in points) <= 0:
        return None
    return fit_link(points)


def link_documents(rows: Sequence[LinkRow]) -> list[dict[str, Any]]:
    """The rows as the JSON output has them; an infinite bandwidth is null."""
    return [
        {
            "operation": row.operation,
            "group": list(row.group),
            "sizes": row.sizes,
            "latency_s": row.fit.latency_s if row.fit else None,
            "regimes": [
                {"from_bytes": r.from_bytes, "bytes_per_s": r.bytes_per_s if math.isfinite(r.bytes_per_s) else None}
                for r in (row.fit.regimes if row.fit else ())
            ],
            "error": row.fit.error if row.fit else None,
        }
        for row in rows
    ]


def print_links(rows: Sequence[LinkRow]) -> None:
    """The rows as a table."""
    from hetsim.report.tables import Rows, print_tables

    figures = ("sizes", "latency", "bandwidth", "then", "plateau", "error of the fit")
    print_tables(Rows("links", ("operation", "group"), figures, tuple(map(_texts, rows))))


def _texts(row: LinkRow) -> tuple[str, ...]:
    group = ", ".join(row.group)
    if row.fit is None:
        return (row.operation, group, str(row.sizes), *[NONE] * 5)
    first, *later = row.fit.regimes
    middle = later[0] if len(later) > 1 else None
    return (
        row.operation,
        group,
        str(row.sizes),
        format_seconds(row.fit.latency_s),
        _bandwidth(first.bytes_per_s) if later else NONE,
        f"{_bandwidth(middle.bytes_per_s)} from {format_bytes(middle.from_bytes)}" if middle else NONE,
        f"{_bandwidth(row.fit.plateau_bytes_per_s)} from {format_bytes(row.fit.regimes[-1].from_bytes)}",
        format_percent(row.fit.error),
    )


def _bandwidth(bytes_per_s: float) -> str:
    return format_bandwidth(bytes_per_s) if math.isfinite(bytes_per_s) else "no limit seen"
