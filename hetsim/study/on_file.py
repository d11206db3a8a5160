"""Runs on file that say how far the predictions of a study may be off: plans that were predicted first and then run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hetsim.errors import RunDirectoryError
from hetsim.files import slug
from hetsim.runs import MANIFEST, RunDirectory
from hetsim.timeline import Timeline

Document = Mapping[str, Any]


def validations(runs: Path, scenario: str, networks: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """The cases of finished validations below `runs` of the networks of `scenario`, the newest run first.

    `networks`: those whose costs are measured, with the digest of the scenario's file. Cases of plans that the costs were corrected
    by are left out: what is predicted of them proves nothing.
    """
    return [case for folder in sorted(_folders(runs), reverse=True) for case in _cases(folder, scenario, networks)]


def measured_step(runs: Path, case: Document) -> Timeline | None:
    """The measured timeline of a case of `validations`; None where the run is not whole any more."""
    try:
        run = RunDirectory.open(runs / case["run"])
        return run.timeline(f"{slug(case['network'] + '-' + case['case'])}-measured")
    except RunDirectoryError:
        return None


def _folders(runs: Path) -> Iterator[Path]:
    if runs.is_dir():
        yield from (path.parent for path in runs.glob(f"*/{MANIFEST}") if not path.parent.name.endswith(".partial"))


def _cases(folder: Path, scenario: str, networks: Mapping[str, str | None]) -> Iterator[dict[str, Any]]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        if manifest["scenario"] != scenario:
            return
        digests = {row["sha256"] for row in manifest["inputs"]}
        for case in result.get("cases", ()):
            if case["network"] not in networks or case["fitted"]:
                continue
            yield {
                "run": folder.name,
                "made": manifest["created_utc"],
                "same_scenario": networks[case["network"]] in digests,
                "network": case["network"],
                "case": case["name"].partition("/")[2],
                "plan": case["plan"],
                "predicted_s": case["predicted_step_s"],
                "measured_s": case["measured_step_s"],
                "error": case["error"],
                "inside": case["inside_interval"],
            }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # not of a validation, or of another version
