"""`hetsim import`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hetsim.cli.options import OutputFormat
from hetsim.cli.output import print_json, print_table, talk
from hetsim.costs.export import check_free
from hetsim.costs.files import write_layer_costs
from hetsim.costs.profiles.profile import NAME, Profile, Wanted
from hetsim.costs.profiles.reading import ProfileFormat, read_profile
from hetsim.costs.profiles.scenario_text import scenario_text
from hetsim.errors import InputError, Problem
from hetsim.files import slug, write_text
from hetsim.units import format_seconds

SCHEMA_VERSION = 1

_DEVICE_TYPE = re.compile(r"\w[\w .()+-]{0,59}")
_LACKS_SIZES = {
    "sailor": "Name Sailor's file of sizes: --sizes llm_info.json",
    "curve": "Say how many parameters the network has: --parameters N",
}


def import_profile(
    path: Path,
    kind: ProfileFormat | None,
    wanted: Wanted,
    sizes: Path | None,
    out: Path | None,
    scenario: Path | None,
    output: OutputFormat,
) -> None:
    """Read the profile at `path`, write its cost table to `out`, and a scenario around it to `scenario`.

    Raises CostError where the profile is faulty, InputError where something is missing that only the user knows, or where a file
    to write is there already.
    """
    profile = read_profile(path, kind, wanted, sizes)
    _check_names(path, profile)
    out = out or Path("costs") / f"{profile.network}.csv"
    for file in (out, scenario):
        if file is not None:
            check_free(file)
    text = _scenario(path, profile, out, scenario) if scenario else ""
    try:
        write_layer_costs(out, profile.rows, profile.notes)
        if scenario:
            write_text(scenario, text)
    except OSError as cause:
        raise InputError(Problem(str(out), f"cannot be written: {cause.strerror or cause}")) from None
    _show(profile, out, scenario, output)


def _check_names(path: Path, profile: Profile) -> None:
    """Raise InputError where a name could not stand in a scenario."""
    problems = []
    if not NAME.fullmatch(profile.network):
        what = f'got the network "{profile.network}", expected letters, digits, dots, dashes and underscores, 60 at most'
        problems.append(Problem(str(path), what, "Call it otherwise: --network NAME"))
    for kind in profile.device_types:
        if not _DEVICE_TYPE.fullmatch(kind):
            what = f'got the device type "{kind}", expected letters, digits, spaces and . ( ) + - _, 60 at most'
            problems.append(Problem(str(path), what, "Call it otherwise: --device-type NAME"))
    if problems:
        raise InputError(problems)


def _scenario(path: Path, profile: Profile, out: Path, scenario: Path) -> str:
    """The text of the scenario; its costs are named as seen from its folder."""
    if profile.chain is None:
        what = "does not say how large the network is, so a plan would exchange its gradients for nothing"
        mend = _LACKS_SIZES["curve" if profile.rows[0].layer == "whole" else "sailor"]
        raise InputError(Problem(str(path), what, mend))
    costs = os.path.relpath(out.resolve(), scenario.resolve().parent)
    return scenario_text(profile, slug(scenario.stem) or profile.network, costs)


def _show(profile: Profile, out: Path, scenario: Path | None, output: OutputFormat) -> None:
    rows = [(kind, size, *_total(profile, kind, size)) for kind in profile.device_types for size in _sizes(profile, kind)]
    if output == "json":
        table = [
            {"device_type": kind, "microbatch": size, "layers": layers, "forward_s": forward, "backward_s": backward}
            for kind, size, layers, forward, backward in rows
        ]
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "network": profile.network,
                "out": str(out),
                "scenario": str(scenario) if scenario else None,
                "rows": len(profile.rows),
                "notes": list(profile.notes),
                "warnings": list(profile.warnings),
                "totals": table,
            }
        )
    else:
        cells = [(kind, str(size), str(n), format_seconds(f), format_seconds(b)) for kind, size, n, f, b in rows]
        title = f"{profile.network}: {len(profile.rows)} rows in {out}"
        print_table(title, ("device type",), ("microbatch", "layers", "forward", "backward"), cells)
        for note in profile.notes:
            talk(f"note: {note}")
    for warning in profile.warnings:
        talk(f"warning: {warning}")
    if scenario:
        talk(f"its cluster is a stand-in: write your own into {scenario}, then: hetsim plan {scenario}")


def _sizes(profile: Profile, kind: str) -> list[int]:
    rows = (row for row in profile.rows if row.device_type == kind and row.tensor_parallel == 1)
    return sorted({row.microbatch for row in rows})


def _total(profile: Profile, kind: str, size: int) -> tuple[int, float, float]:
    """Layers, forward and backward of the whole network, on one device."""
    mine = [
        row
        for row in profile.rows
        if row.device_type == kind and row.microbatch == size and row.tensor_parallel == 1 and not row.layer.startswith("@")
    ]
    return len(mine), sum(row.forward_s for row in mine), sum(row.backward_s for row in mine)
