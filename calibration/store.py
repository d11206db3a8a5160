"""The sample store: raw timings, a JSON line each, durable the moment a point is finished.

A line's `key` is a digest of all that the timing depends on: the device's fingerprint, the network, the microbatch. A key on
file is not measured again. A torn last line, as a kill leaves it, is dropped when the store is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hetsim.errors import CostError, Problem

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
        for number, line in enumerate(self.path.read_text(errors="replace").splitlines(), 1):
            where = f"{self.path}:{number}:1"
            mend = "Remove the line, or the file: the points in it are then measured again"
            try:
                row = json.loads(line)
                known = row["schema_version"] == SCHEMA_VERSION and isinstance(row["key"], str)
            except (ValueError, TypeError, KeyError):
                raise CostError(Problem(where, "is not a sample of hetsim's", mend)) from None
            if not known:
                got = row["schema_version"]
                raise CostError(Problem(where, f"got schema_version {got!r}, expected {SCHEMA_VERSION}", mend))
            yield row
