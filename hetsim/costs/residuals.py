"""What real runs say of the costs: by how much each device type computed slower than predicted, and how that scatters.

A calibration times layers; a run trains plans, in which caches are colder and neighbours busier. The median ratio of a device
type's measured to its predicted computing corrects its costs, and the scatter of the ratios widens them. The plans of such a run
are fitted from then on: what is predicted of them proves nothing, and they are marked.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hetsim.costs.table import CANARY, CostTable
from hetsim.errors import CostError, Problem, RunDirectoryError
from hetsim.files import write_text
from hetsim.reading import read_text

FILE = "residuals.json"
SCHEMA_VERSION = 1
_FORMAT = "hetsim residuals"

FEWEST = 3
"""Cases that a device type has to have computed in before its costs are corrected."""

SIGMA_OF_MAD = 1.4826
"""Standard deviation over median absolute deviation, of normally distributed numbers."""


@dataclass(frozen=True, slots=True)
class Residual:
    """One device type in one case of a run."""

    run: str
    """Name of the run directory."""

    network: str
    plan: str
    device_type: str
    ratio: float
    """Seconds of computing measured, over those that the calibration alone predicts."""


@dataclass(frozen=True, slots=True)
class Correction:
    """What the residuals of one device type come to."""

    factor: float
    """By which its times are multiplied."""

    spread: float
    """Half the 95 % interval of a single case's ratio around that, relative."""

    cases: int


def corrections(rows: Iterable[Residual]) -> dict[str, Correction]:
    """Device type -> its correction; a type with too few cases is left out."""
    logs: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        logs[row.device_type].append(math.log(row.ratio))
    found = {}
    for kind, values in logs.items():
        if len(values) >= FEWEST:
            middle = statistics.median(values)
            scatter = SIGMA_OF_MAD * statistics.median(abs(value - middle) for value in values)
            found[kind] = Correction(math.exp(middle), 1.96 * scatter, len(values))
    return found


def corrected(table: CostTable, found: Mapping[str, Correction]) -> CostTable:
    """`table` with the forwards and backwards of the device types in `found` corrected, and their spreads widened."""
    layers = []
    for row in table.layers:
        told = found.get(row.device_type)
        if told is not None and row.layer != CANARY:
            row = replace(
                row,
                forward_s=row.forward_s * told.factor,
                backward_s=row.backward_s * told.factor,
                spread=math.hypot(row.spread, told.spread),
            )
        layers.append(row)
    notes = [f"{kind}: times {c.factor:.4f} after {c.cases} cases of real runs" for kind, c in found.items()]
    return replace(table, layers=tuple(layers), notes=(*table.notes, *notes)) if notes else table


def residuals_of_run(name: str, document: Mapping[str, Any], types: Mapping[str, str]) -> list[Residual]:
    """The residuals in the result of a validation; `types`: device -> its type. Raises RunDirectoryError where it holds none."""
    rows = []
    used: Mapping[str, float] = document.get("corrections", {})
    try:
        for case in document["cases"]:
            predicted_s: dict[str, float] = defaultdict(float)
            measured_s: dict[str, float] = defaultdict(float)
            for phase in case["phases"]:
                if phase["phase"] in ("forward", "backward"):
                    kind = types[phase["device"]]
                    predicted_s[kind] += phase["predicted_s"]
                    measured_s[kind] += phase["measured_s"]
            for kind, seconds in predicted_s.items():
                if seconds > 0 and measured_s[kind] > 0:
                    ratio = measured_s[kind] / seconds * used.get(kind, 1.0)
                    rows.append(Residual(name, case["network"], case["plan"], kind, ratio))
    except (KeyError, TypeError) as error:
        what = f"its result is not that of a validation of this cluster: {error} is missing"
        raise RunDirectoryError(Problem(name, what, "Name a run directory of hetsim validate")) from None
    return rows


def read_residuals(folder: Path) -> tuple[Residual, ...]:
    """What is kept in the cost folder; nothing where there is no such file. Raises CostError where it is damaged."""
    path = folder / FILE
    if not path.exists():
        return ()
    try:
        document = json.loads(read_text(path, CostError))
        known = (document["format"], document["schema_version"]) == (_FORMAT, SCHEMA_VERSION)
        rows = [Residual(**row) for row in document["residuals"]]
        sound = all(math.isfinite(row.ratio) and row.ratio > 0 for row in rows)
    except (ValueError, KeyError, TypeError):
        known = sound = False
    if not (known and sound):
        mend = "Remove it, and give the runs again: hetsim calibrate --from-run"
        raise CostError(Problem(str(path), "is no file of residuals that can be read", mend))
    return tuple(rows)


def add_residuals(folder: Path, rows: Iterable[Residual]) -> tuple[Residual, ...]:
    """Keep `rows` in place of what the same runs said before; all that is kept now."""
    new = list(rows)
    runs = {row.run for row in new}
    kept = [row for row in read_residuals(folder) if row.run not in runs] + new
    document = {"format": _FORMAT, "schema_version": SCHEMA_VERSION, "residuals": [asdict(row) for row in kept]}
    write_text(folder / FILE, json.dumps(document, indent=1) + "\n")
    return tuple(kept)
