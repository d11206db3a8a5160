"""The raw samples beside a cost table, read without touching them: another process may be writing to the file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hetsim.errors import CostError, Problem
from hetsim.reading import read_text, shown

SAMPLES_FILE = "samples.jsonl"
SCHEMA_VERSION = 1

Fingerprint = Mapping[str, Any]
"""What the timings of a device type depend on besides the network: machine, device, software, settings."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of `samples.jsonl`, as far as those need it who do not time anything."""

    line: int
    """In its file, from 1."""

    text: str
    """The line as it stands."""

    key: str
    """A digest of all that the timing depends on."""

    kind: str
    """`layers`: the layers of a network at one point. `links`: the links of the cluster. Others are passed on unread."""

    network: str = ""
    """Of `layers`."""

    device_type: str = ""
    """Of `layers`."""

    fingerprint: Fingerprint | None = None
    """Of the device that was timed; of `layers` alone."""


def read_samples(path: Path) -> tuple[Sample, ...]:
    """The samples in the file at `path`, in its order; none where there is no such file or nothing in it.

    A torn last line, as a calibration that is killed or still at work leaves it, is passed over.
    Raises CostError with the place of every other line that is no sample.
    """
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        return ()
    text = read_text(path, CostError)
    lines = text.split("\n")
    torn = lines.pop()
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    problems: list[Problem] = []
    rows = [row for number, line in numbered if (row := _sample(path, number, line, problems)) is not None]
    if torn and not rows and not problems:
        problems.append(Problem(f"{path}:1:1", "is not a sample of hetsim's"))
    if problems:
        raise CostError(problems)
    return tuple(rows)


def fingerprints_of(samples: tuple[Sample, ...], network: str) -> dict[str, tuple[Fingerprint, ...]]:
    """Device type -> the fingerprints under which `network` was timed on it, each once, the latest last."""
    found: dict[str, dict[str, Fingerprint]] = {}
    for sample in samples:
        if sample.network == network and sample.fingerprint is not None:
            mine = found.setdefault(sample.device_type, {})
            mine.pop(name := digest(sample.fingerprint), None)
            mine[name] = sample.fingerprint
    return {device_type: tuple(prints.values()) for device_type, prints in found.items()}


def digest(fingerprint: Fingerprint) -> str:
    """A short name of a fingerprint by its content: eight hexadecimal digits."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:8]


def finite_json(text: str) -> Any:
    """The value that the JSON `text` writes. Raises ValueError or RecursionError where there is none that can be used."""
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def differences(one: Fingerprint, other: Fingerprint) -> list[tuple[str, str, str]]:
    """Where two fingerprints differ: the key, nested ones joined by dots, and the two values as texts."""
    mine, theirs = dict(_flat(one)), dict(_flat(other))
    keys = [*mine, *(key for key in theirs if key not in mine)]
    return [(k, mine.get(k, "nothing"), theirs.get(k, "nothing")) for k in keys if mine.get(k) != theirs.get(k)]


def _flat(fingerprint: Fingerprint, before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in fingerprint.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value if isinstance(value, str) else json.dumps(value)


def _sample(path: Path, number: int, line: str, problems: list[Problem]) -> Sample | None:
    """The sample in `line`; None, with the fault noted, where it is none."""
    mend = "Remove the line: its point is then measured again"
    where = f"{path}:{number}:1"
    try:
        row = finite_json(line)
    except json.JSONDecodeError as cause:
        problems.append(Problem(f"{path}:{number}:{cause.colno}", f"is not JSON: {cause.msg}", mend))
        return None
    except (ValueError, RecursionError) as cause:
        problems.append(Problem(where, f"is no JSON that can be read: {cause}", mend))
        return None
    if not isinstance(row, dict) or not isinstance(row.get("key"), str) or not isinstance(row.get("kind"), str):
        problems.append(Problem(where, "is not a sample of hetsim's", mend))
        return None
    version = row.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        problems.append(Problem(where, f"got schema_version {shown(version)}, expected {SCHEMA_VERSION}", mend))
        return None
    if row["kind"] != "layers":
        return Sample(number, line, row["key"], row["kind"])
    network, device_type, fingerprint = row.get("network"), row.get("device_type"), row.get("fingerprint")
    if not (isinstance(network, str) and isinstance(device_type, str) and isinstance(fingerprint, dict)):
        problems.append(Problem(where, "does not say its network, device_type and fingerprint", mend))
        return None
    return Sample(number, line, row["key"], row["kind"], network, device_type, fingerprint)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"got {text}, expected a finite number")
    return number
