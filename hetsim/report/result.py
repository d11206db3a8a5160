"""Rows as JSON and back: `result.json` and `plans.json` of a run directory.

A document holds lists of flat objects, one a row, with the row's fields by name; what follows from them (error, speed-up)
is added for readers and ignored when read back.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from hetsim.errors import Problem, RunDirectoryError
from hetsim.report.rows import BatchCurve, CandidateRow, CaseRow, CostSummary, DeviceRow, speedup

SCHEMA_VERSION = 1

Row = TypeVar("Row", CaseRow, CandidateRow, DeviceRow, BatchCurve, CostSummary)

_BAD = object()


def result_document(
    cases: Sequence[CaseRow],
    devices: Iterable[DeviceRow] = (),
    curves: Iterable[BatchCurve] = (),
    costs: Iterable[CostSummary] = (),
) -> dict[str, Any]:
    """What `result.json` holds."""
    return {
        "schema_version": SCHEMA_VERSION,
        "cases": cases_json(cases),
        "devices": [asdict(row) for row in devices],
        "curves": [asdict(row) for row in curves],
        "costs": [asdict(row) for row in costs],
    }


def plans_document(candidates: Iterable[CandidateRow]) -> dict[str, Any]:
    """What `plans.json` holds."""
    return {"schema_version": SCHEMA_VERSION, "candidates": [asdict(row) for row in candidates]}


def cases_json(cases: Sequence[CaseRow]) -> list[dict[str, Any]]:
    """The cases as plain objects, each with its `error`, whether it is `inside` its interval, and its speed-up `vs_even`."""
    return [asdict(row) | {"error": row.error, "inside": row.inside, "vs_even": speedup(cases, row)} for row in cases]


def read_rows(document: Any, key: str, kind: type[Row], where: str) -> tuple[Row, ...]:
    """The rows of type `kind` under `key` of `document`, which was read from the file `where`.

    Raises RunDirectoryError with every value that is missing or of the wrong type.
    """
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
        raise RunDirectoryError(Problem(where, f'expected an object with "schema_version": {SCHEMA_VERSION}'))
    items = document.get(key)
    if not isinstance(items, list):
        raise RunDirectoryError(Problem(where, f'got {items!r} for "{key}", expected a list'))
    problems: list[Problem] = []
    rows = [_row(item, kind, f"{where}: {key}[{number}]", problems) for number, item in enumerate(items)]
    if problems:
        raise RunDirectoryError(problems)
    return tuple(row for row in rows if row is not None)


def _row(item: Any, kind: type[Row], where: str, problems: list[Problem]) -> Row | None:
    """One row; None, with `problems` longer, where something is wrong with it."""
    if not isinstance(item, dict):
        problems.append(Problem(where, f"got {item!r}, expected an object"))
        return None
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    before = len(problems)
    for field in fields(kind):
        if field.name in item:
            values[field.name] = _value(item[field.name], hints[field.name])
            if values[field.name] is _BAD:
                problems.append(Problem(f"{where}.{field.name}", f"got {item[field.name]!r}, expected {field.type}"))
        elif field.default is MISSING and field.default_factory is MISSING:
            problems.append(Problem(f"{where}.{field.name}", f"is missing, expected {field.type}"))
    return kind(**values) if len(problems) == before else None


def _value(value: Any, hint: Any) -> Any:
    """`value` as the type `hint` wants it, or `_BAD`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        found = (_value(value, option) for option in arguments)
        return next((good for good in found if good is not _BAD), _BAD)
    if origin is tuple:
        items = [_value(item, arguments[0]) for item in value] if isinstance(value, list) else [_BAD]
        return _BAD if _BAD in items else tuple(items)
    if origin is Mapping:
        good = isinstance(value, dict) and all(_value(item, arguments[1]) is not _BAD for item in value.values())
        return value if good else _BAD
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value if type(value) is hint else _BAD
