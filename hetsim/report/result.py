"""Rows as JSON: what `result.json` and `plans.json` of a run directory hold beside the cases.

Each row becomes a flat object with the row's fields by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from hetsim.report.rows import BatchCurve, CandidateRow, CostSummary, DeviceRow

SCHEMA_VERSION = 1


def evidence_document(
    devices: Iterable[DeviceRow], curves: Iterable[BatchCurve], costs: Iterable[CostSummary]
) -> dict[str, Any]:
    """What stands behind the cases: how devices spend the step, the batch curves, where the costs come from."""
    return {
        "devices": [asdict(row) for row in devices],
        "curves": [asdict(row) for row in curves],
        "costs": [asdict(row) for row in costs],
    }


def plans_document(candidates: Iterable[CandidateRow]) -> dict[str, Any]:
    """What `plans.json` holds."""
    return {"schema_version": SCHEMA_VERSION, "candidates": [asdict(row) for row in candidates]}
