"""A study as JSON: what `result.json` of a what-if holds, and `--format json` prints. Unknown figures are null."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from hetsim.study.estimate import Estimate
from hetsim.study.study import Study

SCHEMA_VERSION = 1


def study_document(study: Study) -> dict[str, Any]:
    """The documented JSON form; units in the names or beside the figures."""
    found = study.found
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario": study.scenario.name,
        "currency": study.scenario.economics.currency,
        "as_it_is": _estimate(study.whole),
        "variants": [{**_estimate(row), "figures": _figures(study, row)} for row in study.variants],
        "worth": [_finite(asdict(row)) for row in study.worths],
        "retire_in_this_order": [asdict(row) for row in study.retirements],
        "purchases": None
        if found is None
        else {
            "considered": found.considered,
            "ruled_out": found.ruled_out,
            "infeasible": found.infeasible,
            "ended_early": found.ended_early,
            "planned": [
                {"spent": row.spent, "samples_per_s": row.samples_per_s, "kwh_per_million": row.kwh_per_million}
                for row in found.purchases
            ],
            "best": asdict(found.best),
            "front": [asdict(row) for row in found.front],
            "energy_front": [asdict(row) for row in found.energy_front],
        },
        "advantage": study.advantage,
        "hinges": [asdict(row) for row in study.hinges],
    }


def _estimate(row: Estimate) -> dict[str, Any]:
    return {
        "name": row.variant.name,
        "edits": list(row.variant.edits),
        "samples_per_s": row.samples_per_s,
        "per_million": row.per_million,
        "kwh_per_million": row.kwh_per_million,
        "networks": [
            {
                "network": answer.network,
                "plan": answer.plan,
                "step_s": answer.prediction.step_s,
                "low_s": answer.prediction.low_s,
                "high_s": answer.prediction.high_s,
                "gap": answer.gap,
                "transferred": list(answer.transferred),
                "limited_by": answer.prediction.limited_by,
                "shares": dict(answer.causes),
            }
            for answer in row.answers
        ],
    }


def _figures(study: Study, row: Estimate) -> list[dict[str, Any]]:
    return [_finite({**asdict(figure), "change": figure.change}) for figure in study.figures(row)]


def _finite(value: Any) -> Any:
    """JSON has no infinity: a figure that never comes is told as text."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return "never" if isinstance(value, float) and math.isinf(value) else value
