"""The manifest of an export: what the files are, under which fingerprints they were measured, and their digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hetsim.costs.archive import FILE_NAME
from hetsim.costs.samples import Fingerprint, finite_json
from hetsim.errors import CostError, Problem
from hetsim.reading import read_text, shown

MANIFEST_FILE = "manifest.json"
FORMAT = "hetsim costs"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class FileDigest:
    """One file of an export."""

    path: str
    """Its name in the export."""

    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, path: str, content: bytes) -> FileDigest:
        """The digest of `content`."""
        return cls(path, len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an export says of itself."""

    name: str
    """Of the scenario."""

    created_utc: str
    measured_utc: str | None
    """When the last sample was taken; None: nobody knows."""

    version: str
    """Of the hetsim that wrote it."""

    sources: tuple[str, ...]
    """What it was made from, as its writer called it."""

    fingerprints: Mapping[str, Mapping[str, tuple[Fingerprint, ...]]]
    """Network -> device type -> under which its rows were timed."""

    files: tuple[FileDigest, ...]

    @property
    def csv_files(self) -> tuple[str, ...]:
        """The names of the tables."""
        return tuple(file.path for file in self.files if file.path.endswith(".csv"))

    def to_json(self) -> str:
        """The text of `manifest.json`, which `read_manifest` reads back."""
        networks = [
            {"network": network, "fingerprints": {kind: list(prints) for kind, prints in kinds.items()}}
            for network, kinds in self.fingerprints.items()
        ]
        document = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "created_utc": self.created_utc,
            "measured_utc": self.measured_utc,
            "version": self.version,
            "sources": list(self.sources),
            "networks": networks,
            "files": [{"path": f.path, "size_bytes": f.size_bytes, "sha256": f.sha256} for f in self.files],
        }
        return json.dumps(document, indent=1, allow_nan=False) + "\n"

    def check_files(self, folder: Path) -> None:
        """Hold the files in `folder` against their digests. Raises CostError with all that are missing or were changed."""
        if problems := [fault for file in self.files if (fault := _file_fault(folder, file)) is not None]:
            raise CostError(problems)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of the export in `folder`; None where there is no such file, or it belongs to something else.

    Raises CostError with every fault of it.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return None
    try:
        document = finite_json(read_text(path, CostError))
    except json.JSONDecodeError as cause:
        raise CostError(Problem(f"{path}:{cause.lineno}:{cause.colno}", f"is not JSON: {cause.msg}")) from None
    except (ValueError, RecursionError) as cause:
        raise CostError(Problem(str(path), f"is no JSON that can be read: {cause}")) from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return None
    if problems := [Problem(str(path), what) for what in _faults(document)]:
        raise CostError(problems)
    return Manifest(
        name=document["name"],
        created_utc=document["created_utc"],
        measured_utc=document["measured_utc"],
        version=document["version"],
        sources=tuple(document["sources"]),
        fingerprints={
            entry["network"]: {kind: tuple(prints) for kind, prints in entry["fingerprints"].items()}
            for entry in document["networks"]
        },
        files=tuple(FileDigest(entry["path"], entry["size_bytes"], entry["sha256"]) for entry in document["files"]),
    )


def _file_fault(folder: Path, file: FileDigest) -> Problem | None:
    path = folder / file.path
    mend = "Export again, or copy it again"
    try:
        content = path.read_bytes()
    except OSError as cause:
        return Problem(str(path), f"cannot be read: {cause.strerror or cause}, expected {file.size_bytes} bytes", mend)
    got = FileDigest.of(file.path, content)
    if got == file:
        return None
    what = f"got {got.size_bytes} bytes with SHA-256 {got.sha256[:12]}…, expected {file.size_bytes} with {file.sha256[:12]}…"
    return Problem(
        str(path), f"was changed after the export: {what}", f"{mend}; or remove {MANIFEST_FILE} to read it as it is"
    )


def _faults(document: Mapping[str, Any]) -> Iterator[str]:
    version = document.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        yield f"schema_version: got {shown(version)}, expected {SCHEMA_VERSION}"
        return
    for key in ("name", "created_utc", "version"):
        if not isinstance(document.get(key), str):
            yield f"{key}: got {shown(document.get(key))}, expected a text"
    if not isinstance(document.get("measured_utc"), str | None):
        yield f"measured_utc: got {shown(document['measured_utc'])}, expected a text or null"
    if not _is_list_of(str, document.get("sources")):
        yield f"sources: got {shown(document.get('sources'))}, expected a list of texts"
    for key, faults_of in (("networks", _network_faults), ("files", _entry_faults)):
        entries = document.get(key)
        if not _is_list_of(dict, entries):
            yield f"{key}: got {shown(entries)}, expected a list of mappings"
            continue
        for place, entry in enumerate(cast("list[dict[str, Any]]", entries)):
            yield from (f"{key}.{place}.{what}" for what in faults_of(entry))


def _network_faults(entry: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(entry.get("network"), str):
        yield f"network: got {shown(entry.get('network'))}, expected a text"
    kinds = entry.get("fingerprints")
    if not isinstance(kinds, dict) or not all(_is_list_of(dict, prints) for prints in kinds.values()):
        yield "fingerprints: expected a mapping of device types to lists of mappings"


def _entry_faults(entry: Mapping[str, Any]) -> Iterator[str]:
    name, size, sha256 = entry.get("path"), entry.get("size_bytes"), entry.get("sha256")
    if not isinstance(name, str) or not FILE_NAME.fullmatch(name):
        yield f"path: got {shown(name)}, expected a plain file's name"
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        yield f"size_bytes: got {shown(size)}, expected a whole number of 0 or more"
    if not isinstance(sha256, str):
        yield f"sha256: got {shown(sha256)}, expected a text"


def _is_list_of(kind: type, value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)
