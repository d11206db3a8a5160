"""Reads a profile of any kind, and tells the kind where the file gives it away."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal

from hetsim.costs.profiles import pipedream
from hetsim.costs.profiles.curve import COLUMNS, read_curve
from hetsim.costs.profiles.pipedream import read_pipedream
from hetsim.costs.profiles.profile import Profile, Wanted
from hetsim.costs.profiles.sailor import read_sailor
from hetsim.errors import CostError, InputError, Problem
from hetsim.reading import read_text

ProfileFormat = Literal["pipedream", "sailor", "curve"]


def read_profile(path: Path, kind: ProfileFormat | None, wanted: Wanted, sizes: Path | None = None) -> Profile:
    """The profile in the file at `path`, of the `kind` given or recognised; `sizes`: Sailor's `llm_info.json`.

    Raises CostError with every fault and its place, InputError where something is missing that only the user knows.
    """
    kind = kind or detect(path)
    if kind == "pipedream":
        return read_pipedream(path, wanted)
    if kind == "sailor":
        return read_sailor(path, wanted, sizes)
    return read_curve(path, wanted)


def detect(path: Path) -> ProfileFormat:
    """What kind of profile the file at `path` is. Raises CostError where nothing gives it away."""
    text = read_text(path, CostError)
    if pipedream.looks_like(text):
        return "pipedream"
    if text.lstrip().startswith("{"):
        return "sailor"
    header = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    if set(COLUMNS) <= {cell.strip() for cell in next(csv.reader([header]), [])}:
        return "curve"
    if text.startswith("# hetsim costs"):
        raise InputError(Problem(str(path), "is a cost table already", "Use it as it is: costs: FILE in the scenario"))
    what = "is no profile that can be recognised: neither PipeDream's graph.txt, Sailor's JSON, nor CSV with batch,seconds"
    raise CostError(Problem(f"{path}:1:1", what, "Say what it is: --as pipedream, sailor or curve"))
