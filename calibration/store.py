"""The sample store: raw timings, a JSON line each, durable the moment a point is finished.

A line's `key` is a digest of all that the timing depends on: the device's fingerprint, the network, the microbatch. A key on
file is not measured again. A torn last line, as a kill leaves it, is dropped when the store is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hetsim.costs.samples import finite_json
from hetsim.errors import CalibrationError, CostError, Problem
from hetsim.reading import shown

try:
    import fcntl
except ImportError:  # not on Windows, where nothing keeps two calibrations apart
    fcntl = None  # type: ignore[assignment]

SCHEMA_VERSION = 1


def digest(*parts: Any) -> str:
    """A short name for `parts` (anything JSON can write) by their content."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class SampleStore:
    """`samples.jsonl` of a cost directory."""

    def __init__(self, directory: Path) -> None:
        """Open the store in `directory`, made if need be. Raises CostError naming a line that is no sample."""
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "samples.jsonl"
        self._rows: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            self._drop_torn_line()
            self._rows = {row["key"]: row for row in self._read()}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other calibrations out of the directory meanwhile. Raises CalibrationError where one is at work in it."""
        with self.path.with_name(".lock").open("w") as lock:
            try:
                if fcntl is not None:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                what = "another calibration is at work here, and the two would slow each other"
                raise CalibrationError(Problem(str(self.path.parent), what, "Wait for its end")) from None
            yield

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All rows, in the order in which they were measured."""
        return iter(self._rows.values())

    def add(self, key: str, row: Mapping[str, Any]) -> None:
        """Write `row` under `key`; on return it is on disk."""
        full = {"schema_version": SCHEMA_VERSION, "key": key, **row}
        with self.path.open("a") as file:
            file.write(json.dumps(full) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._rows[key] = full

    def _drop_torn_line(self) -> None:
        content = self.path.read_bytes()
        if content and not content.endswith(b"\n"):
            os.truncate(self.path, content.rfind(b"\n") + 1)

    def _read(self) -> Iterator[dict[str, Any]]:
        problems = []
        for number, line in enumerate(self.path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = finite_json(line)
                fault = _fault(row)
            except (ValueError, RecursionError):
                fault = "is not a sample of hetsim's"
            if fault:
                mend = "Remove the line, or the file: the points in it are then measured again"
                problems.append(Problem(f"{self.path}:{number}:1", fault, mend))
            else:
                yield row
        if problems:
            raise CostError(problems)


_TIMINGS = ("marked_s", "marked_update_s", "whole_s", "whole_update_s", "accumulation_s", "canary_s")


def _fault(row: Any) -> str:
    """What makes `row` none that a cost table can be made from; empty where nothing does."""
    if not isinstance(row, dict) or not isinstance(row.get("key"), str):
        return "is not a sample of hetsim's"
    version = row.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        return f"got schema_version {shown(version)}, expected {SCHEMA_VERSION}"
    try:
        match row["kind"]:
            case "layers" | "alone":
                sound = _is_point(row)
            case "crowd":
                sound = _is_crowd(row)
            case "links" | "runtime":
                sound = all(_is_transfer(transfer) for transfer in row["transfers"]) and isinstance(row["fingerprint"], dict)
                sound = sound and (row["kind"] == "runtime" or _has_sizes(row))
            case "check":
                sound = _are_timings(row["canary_s"]) and isinstance(row["fingerprint"], dict) and _is_number(row["at_s"])
                sound = sound and isinstance(row["device_type"], str)
            case _:
                sound = True
    except (KeyError, TypeError, AttributeError) as cause:
        return f"lacks {cause}" if isinstance(cause, KeyError) else "holds something of another kind than a sample does"
    return "" if sound else "holds timings or names that no calibration writes"


def _is_point(row: Mapping[str, Any]) -> bool:
    words = all(isinstance(row[key], str) for key in ("network", "network_key", "device_type"))
    counts = all(isinstance(row[key], int) and row[key] > 0 for key in ("microbatch", "in_flight", "rounds"))
    steps = all(
        _are_timings(row[key], empty=key not in ("marked_s", "canary_s"), signed=key == "accumulation_s") for key in _TIMINGS
    )
    layers = [layer[part] for layer in row["layers"].values() for part in ("forward_s", "backward_s", "update_s")]
    return (
        words
        and counts
        and steps
        and isinstance(row["fingerprint"], dict)
        and _is_number(row["at_s"])
        and all(map(_are_timings, layers))
        and _are_timings(row.get("power_w", [0.0]))
        and _is_number(row.get("idle_w", 0.0))
    )


def _is_crowd(row: Mapping[str, Any]) -> bool:
    words = all(isinstance(row[key], str) for key in ("network", "network_key", "device_type"))
    rounds = (row["apart_s"], row["crowd_s"])
    known = all(isinstance(mine, list) and mine and all(map(_are_timings, mine)) for mine in rounds)
    sized = isinstance(row["microbatch"], int) and row["microbatch"] > 0
    return words and known and sized and isinstance(row["fingerprint"], dict) and _is_number(row["at_s"])


def _is_transfer(row: Mapping[str, Any]) -> bool:
    names = isinstance(row["operation"], str) and all(isinstance(name, str) for name in row["group"])
    return names and isinstance(row["size_bytes"], int) and _are_timings(row["seconds"])


def _has_sizes(row: Mapping[str, Any]) -> bool:
    """Whether a row of links says at which sizes they were timed; one of an earlier version is passed over later."""
    return "places" not in row or all(isinstance(row["sizes"][what], list) for what in ("send_bytes", "reduce_bytes"))


def _are_timings(values: Any, *, empty: bool = False, signed: bool = False) -> bool:
    known = isinstance(values, list) and all(_is_number(value) and (signed or value >= 0) for value in values)
    return known and (empty or bool(values))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
