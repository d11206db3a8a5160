"""`hetsim costs list`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hetsim.cli.options import OutputFormat
from hetsim.cli.output import print_json, print_table, talk
from hetsim.costs.samples import Fingerprint, differences, digest
from hetsim.costs.sources import CostSource, Faults, NetworkCosts, read_source
from hetsim.errors import HetsimError, InputError, Problem
from hetsim.report.text import NONE

SCHEMA_VERSION = 1


def list_costs(costs: Path, output: OutputFormat) -> None:
    """Show the tables of every folder in `costs`. Raises InputError without such a folder, CostError where tables are faulty."""
    if not costs.is_dir():
        mend = "Measure some: hetsim calibrate SCENARIO. Or say where they are: --costs DIR"
        raise InputError(Problem(str(costs), "there is no such folder of costs", mend))
    faults = Faults()
    sources = [faults.of(lambda path=path: read_source(path)) for path in _places(costs)]  # type: ignore[misc]
    rows = [row for source in sources if source is not None for row in _rows(source)]
    if output == "json":
        print_json({"schema_version": SCHEMA_VERSION, "costs": str(costs), "tables": [row.to_json() for row in rows]})
    elif rows:
        print_table(
            f"cost tables in {costs}",
            ("costs", "network", "device type", "fingerprint", "holds today"),
            ("layers", "points", "microbatches", "measured (UTC)"),
            [row.texts() for row in rows],
        )
    else:
        talk(f"{costs} has no cost tables yet. Measure some: hetsim calibrate SCENARIO")
    for row in rows:
        if row.differs:
            talk(f"{row.directory}, {row.network} on {row.device_type}: {row.why}")
    faults.raise_any()


@dataclass(frozen=True, slots=True)
class _Row:
    """One device type of one table."""

    name: str
    directory: str
    network: str
    device_type: str
    layers: int
    microbatches: tuple[int, ...]
    points: int
    fingerprint: str | None
    matches_today: bool | None
    """None: nobody knows what it was measured on, or this machine has no such device."""

    differs: tuple[tuple[str, str, str], ...]
    measured_utc: str | None

    @property
    def why(self) -> str:
        """What is another today, in words."""
        told = ", ".join(f'{key} is "{now}" today and was "{then}"' for key, then, now in self.differs)
        return f"would be measured anew, because {told}"

    def texts(self) -> tuple[str, ...]:
        """The cells of the table."""
        holds = {True: "yes", False: "no", None: "unknown"}[self.matches_today]
        sizes = sorted(self.microbatches)
        span = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}–{sizes[-1]}"
        when = (self.measured_utc or NONE).replace("T", " ").removesuffix("Z")
        counts = str(self.layers), str(self.points), f"{len(sizes)} ({span})", when
        return (self.name, self.network, self.device_type, self.fingerprint or NONE, holds, *counts)

    def to_json(self) -> dict[str, Any]:
        """The row of the document."""
        differs = [{"key": key, "then": then, "today": now} for key, then, now in self.differs]
        return {
            "name": self.name,
            "directory": self.directory,
            "network": self.network,
            "device_type": self.device_type,
            "layers": self.layers,
            "microbatches": sorted(self.microbatches),
            "points": self.points,
            "fingerprint": self.fingerprint,
            "matches_today": self.matches_today,
            "differs": differs,
            "measured_utc": self.measured_utc,
        }


def _places(costs: Path) -> Iterator[Path]:
    """The folders and archives of costs in `costs`; itself, where the tables lie in it."""
    if any(costs.glob("*.csv")):
        yield costs
    for path in sorted(costs.iterdir()):
        if path.suffix == ".zip" or (path.is_dir() and any(path.glob("*.csv"))):
            yield path


def _rows(source: CostSource) -> Iterator[_Row]:
    for costs in source.networks:
        for kind in costs.device_types:
            yield _row(source, costs, kind)


def _row(source: CostSource, costs: NetworkCosts, kind: str) -> _Row:
    mine = [placed.row for placed in costs.rows if placed.row.device_type == kind]
    prints = costs.fingerprints.get(kind, ())
    matches, differs = _held_against_today(prints)
    return _Row(
        name=source.name,
        directory=source.path,
        network=costs.network,
        device_type=kind,
        layers=len({row.layer for row in mine if not row.layer.startswith("@")}),
        microbatches=tuple({row.microbatch for row in mine if not row.layer.startswith("@")}) or (1,),
        points=len(mine),
        fingerprint=" ".join(map(digest, prints)) or None,
        matches_today=matches,
        differs=tuple(differs),
        measured_utc=source.measured_utc,
    )


def _held_against_today(prints: Sequence[Fingerprint]) -> tuple[bool | None, list[tuple[str, str, str]]]:
    """Whether the fingerprints are those of a like device of this machine today, and where they differ."""
    if not prints:
        return None, []
    today = [_today(json.dumps(fingerprint, sort_keys=True)) for fingerprint in prints]
    for then, now in zip(prints, today, strict=True):
        if now is not None and digest(now) != digest(then):
            return False, differences(then, now)
    return (None if None in today else True), []


@cache
def _today(stored: str) -> Fingerprint | None:
    """The fingerprint that a device like that of `stored` (as JSON) has on this machine today; None where it has none."""
    from calibration.fingerprint import fingerprint
    from hetsim.hardware import Device, DeviceType

    then: Mapping[str, Any] = json.loads(stored)
    if then.get("backend") == "cuda":
        return _today_cuda(then)
    try:
        kind = DeviceType("device", then["backend"], isa=then["isa"], threads=then["threads"])
        return fingerprint(Device("device", "device", "here", cores=tuple(range(then["cores"]))), kind)
    except (HetsimError, KeyError, TypeError):
        return None


def _today_cuda(then: Mapping[str, Any]) -> Fingerprint | None:
    """Of the first CUDA device of the same name."""
    import torch

    from calibration.fingerprint import fingerprint
    from hetsim.hardware import Device, DeviceType

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    prints = [fingerprint(Device("device", "device", "here", i), DeviceType("device", "cuda")) for i in range(count)]
    return next((found for found in prints if found.get("device") == then.get("device")), None)
