"""`hetsim costs export` and `hetsim costs merge`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hetsim.cli.costs_source import find_source
from hetsim.cli.options import OutputFormat
from hetsim.cli.output import print_json, print_table, talk
from hetsim.costs.export import check_free, write_export
from hetsim.costs.files import write_layer_costs
from hetsim.costs.merge import Prefer
from hetsim.costs.merge import merge as united
from hetsim.costs.samples import digest
from hetsim.costs.sources import CostSource, Faults, read_source
from hetsim.errors import InputError
from hetsim.report.text import NONE

SCHEMA_VERSION = 1


def export(which: str, out: Path, networks: Sequence[str] | None, costs: Path, output: OutputFormat) -> None:
    """Write the costs that `which` names to `out`. Raises InputError where `out` is taken, CostError where tables are faulty."""
    check_free(out)
    source = find_source(which, costs, networks)
    write_export(out, source, [source.path])
    _show(source, out, output, replaced=0)
    talk(f"look at them with: hetsim costs show {out}")


def merge(out: Path, inputs: Sequence[Path], prefer: Prefer | None, *, allow_mismatch: bool, output: OutputFormat) -> None:
    """Unite the tables in `inputs` and write them to `out`.

    Raises InputError where `out` is taken, CostError where tables are faulty or tell the same point differently.
    """
    if len(inputs) < 2:
        raise InputError("got one table to merge, expected two or more: hetsim costs merge OUT IN1 IN2")
    check_free(out)
    faults = Faults()
    sources = [source for path in inputs if (source := faults.of(lambda path=path: read_source(path)))]  # type: ignore[misc]
    faults.raise_any()
    if out.suffix == ".csv":
        sources = [_single(source, out) for source in sources]
    merged = united(sources, out.stem, prefer=prefer, allow_mismatch=allow_mismatch)
    if out.suffix == ".csv":
        (costs,) = merged.source.networks
        write_layer_costs(out, (placed.row for placed in costs.rows), costs.notes)
    else:
        write_export(out, merged.source, [source.path for source in sources])
    _show(merged.source, out, output, replaced=merged.replaced)
    for sentence in _unlike_layers(merged.source):
        talk(sentence)
    for sentence in merged.accepted:
        talk(f"accepted: {sentence}")
    for kind in merged.unchecked:
        talk(f"not checked: {kind} stands in several tables, and what it was measured on is not known of all of them")
    if merged.replaced:
        talk(f"{merged.replaced} points were told differently; the {prefer} counts")


def _single(source: CostSource, out: Path) -> CostSource:
    """The one table of `source`, called as `out` is. Raises InputError where there are several."""
    if len(source.networks) > 1:
        names = ", ".join(costs.network for costs in source.networks)
        what = f"{source.path} has the networks {names}, and {out} holds one"
        raise InputError(f"{what}. Name one of its files, or a folder or .zip to write to")
    if source.transfers:
        talk(f"left out: {len(source.transfers)} transfers of {source.path}; name a folder or .zip to keep them")
    (costs,) = source.networks
    known = tuple(
        f"{kind}: fingerprint {' '.join(map(digest, prints))} in {costs.path}" for kind, prints in costs.fingerprints.items()
    )
    return replace(source, networks=(replace(costs, network=out.stem, notes=(*costs.notes, *known)),), transfers=())


def _unlike_layers(source: CostSource) -> Iterator[str]:
    """A sentence for each network whose device types do not have the same layers: tables of different networks, perhaps."""
    for costs in source.networks:
        layers: dict[str, set[str]] = {}
        for placed in costs.rows:
            if not placed.row.layer.startswith("@"):
                layers.setdefault(placed.row.device_type, set()).add(placed.row.layer)
        every = set().union(*layers.values())
        lacking = {kind: sorted(every - mine) for kind, mine in layers.items() if mine != every}
        if lacking:
            told = "; ".join(
                f"{kind} lacks {', '.join(names[:3])}{' …' if len(names) > 3 else ''}" for kind, names in lacking.items()
            )
            yield f"warning: not every device type of {costs.network} has all its layers, as where networks are mixed up: {told}"


def _show(source: CostSource, out: Path, output: OutputFormat, *, replaced: int) -> None:
    tables: list[dict[str, Any]] = [
        {
            "network": costs.network,
            "device_type": kind,
            "points": sum(placed.row.device_type == kind for placed in costs.rows),
            "fingerprints": [digest(fingerprint) for fingerprint in costs.fingerprints.get(kind, ())],
        }
        for costs in source.networks
        for kind in costs.device_types
    ]
    if output == "json":
        counts = {"transfers": len(source.transfers), "samples": len(source.samples), "settled_points": replaced}
        print_json({"schema_version": SCHEMA_VERSION, "out": str(out), "tables": tables, **counts})
        return
    rows = [(t["network"], t["device_type"], " ".join(t["fingerprints"]) or NONE, str(t["points"])) for t in tables]
    kept = f"{len(source.transfers)} transfers, {len(source.samples)} raw samples"
    print_table(f"{out}: {kept}", ("network", "device type", "fingerprint"), ("points",), rows)
