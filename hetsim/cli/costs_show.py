"""`hetsim costs show`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hetsim.cli.costs_links import link_documents, link_rows, print_links
from hetsim.cli.costs_source import find_source
from hetsim.cli.options import OutputFormat
from hetsim.cli.output import print_json, talk
from hetsim.costs.samples import digest
from hetsim.costs.sources import NetworkCosts
from hetsim.costs.table import LayerCost
from hetsim.errors import InputError, Problem
from hetsim.reading import did_you_mean
from hetsim.report.figures import SUFFIXES
from hetsim.report.text import NONE
from hetsim.units import format_percent, format_seconds

SCHEMA_VERSION = 1


def show(
    which: str,
    networks: Sequence[str] | None,
    layers: Sequence[str] | None,
    device_types: Sequence[str] | None,
    plot: Path | None,
    costs: Path,
    output: OutputFormat,
    *,
    links: bool,
) -> None:
    """Show the costs that `which` names, and draw their curves to `plot`.

    Raises InputError where there is nothing of that name, layer or device type, CostError where tables are faulty.
    """
    if plot is not None:
        _check_suffix(plot)
    source = find_source(which, costs, networks)
    chosen = [_narrowed(table, layers, device_types) for table in source.networks]
    _check_names("layer", layers, [placed.row.layer for table in source.networks for placed in table.rows])
    _check_names("device type", device_types, [kind for table in source.networks for kind in table.device_types])
    shown = [table for table in chosen if table.rows]
    if not shown:
        raise InputError(f"{source.path} has no cost of such a layer on such a device type")
    if plot is not None:
        _draw(shown, plot)
    fits = link_rows(source) if links else []
    if links and not fits:
        talk(f"{source.path} has no timings of communication between devices")
    if output == "json":
        document = {"schema_version": SCHEMA_VERSION, "path": source.path, "tables": [_document(table) for table in shown]}
        print_json(document | ({"links": link_documents(fits)} if links else {}))
    elif links:
        print_links(fits)
    else:
        _print(shown)


def _narrowed(table: NetworkCosts, layers: Sequence[str] | None, device_types: Sequence[str] | None) -> NetworkCosts:
    """The rows that were asked for, layer by layer in the order of the table, so that devices stand side by side."""
    names = list(dict.fromkeys(placed.row.layer for placed in table.rows))
    kinds = list(table.device_types)
    rows = [
        placed
        for placed in table.rows
        if (not layers or placed.row.layer in layers) and (not device_types or placed.row.device_type in device_types)
    ]
    rows.sort(
        key=lambda p: (
            p.row.layer.startswith("@"),
            names.index(p.row.layer),
            kinds.index(p.row.device_type),
            p.row.tensor_parallel,
            p.row.in_flight,
            p.row.microbatch,
        )
    )
    return replace(table, rows=tuple(rows))


def _check_suffix(plot: Path) -> None:
    """Raise InputError where no picture can be written to `plot`, before anything else is done."""
    if plot.suffix not in SUFFIXES:
        raise InputError(Problem(str(plot), f'got the suffix "{plot.suffix}", expected {" or ".join(SUFFIXES)}'))


def _check_names(what: str, asked: Sequence[str] | None, known: Sequence[str]) -> None:
    """Raise InputError where a name was asked for that is nowhere."""
    names = list(dict.fromkeys(known))
    unknown = [name for name in asked or () if name not in names]
    if unknown:
        raise InputError([Problem("", f"there is no {what} {name}", did_you_mean(name, names)) for name in unknown])


def _document(table: NetworkCosts) -> dict[str, Any]:
    return {
        "network": table.network,
        "path": table.path,
        "notes": list(table.notes),
        "fingerprints": {kind: list(prints) for kind, prints in table.fingerprints.items()},
        "rows": [asdict(placed.row) for placed in table.rows],
    }


def _print(tables: Sequence[NetworkCosts]) -> None:
    from hetsim.report.tables import Rows, print_tables

    for table in tables:
        split = any(placed.row.tensor_parallel > 1 for placed in table.rows)
        extra = ("tensor parallel",) if split else ()
        figures = ("microbatch", "in flight", *extra, "forward", "backward", "update", "spread", "samples")
        rows = tuple(_texts(placed.row, split=split) for placed in table.rows)
        about = [_about(kind, table) for kind in table.device_types]
        notes = [f"note: {note}" for note in table.notes]
        title = f"{table.network}: {len(table.rows)} points from {table.path}"
        print_tables(Rows(title, ("layer", "device type", "provenance"), figures, rows), *notes, *about, "")


def _texts(row: LayerCost, *, split: bool) -> tuple[str, ...]:
    """The cells of a row. What was not timed has no spread."""
    timed = row.samples > 0 or row.spread > 0
    return (
        row.layer,
        row.device_type,
        row.provenance,
        str(row.microbatch),
        str(row.in_flight),
        *([str(row.tensor_parallel)] if split else []),
        format_seconds(row.forward_s),
        format_seconds(row.backward_s),
        format_seconds(row.update_s),
        f"± {format_percent(row.spread)}" if timed else NONE,
        str(row.samples) if row.samples else NONE,
    )


def _about(kind: str, table: NetworkCosts) -> str:
    """What is known of what a device type was measured on, as a line."""
    prints = table.fingerprints.get(kind, ())
    if not prints:
        return f"{kind}: nobody knows what it was measured on"
    told = []
    for fingerprint in prints:
        named = ("device", "host_cpu", "isa", "threads", "torch", "cuda")
        facts = [f"{key} {fingerprint[key]}" for key in named if fingerprint.get(key) is not None]
        told.append(f"fingerprint {digest(fingerprint)} ({', '.join(facts)})")
    return f"{kind}: {' and '.join(told)}"


def _draw(tables: Sequence[NetworkCosts], plot: Path) -> None:
    """One file a network; with several networks each has its name in the file's."""
    from hetsim.report.layer_curves import draw_layer_curves

    for table in tables:
        path = plot if len(tables) == 1 else plot.with_name(f"{plot.stem}-{table.network}{plot.suffix}")
        rows = [placed.row for placed in table.rows]
        draw_layer_curves(rows, path, title=f"{table.network}: what a sample costs, layer by layer")
        talk(f"drew {path}")
