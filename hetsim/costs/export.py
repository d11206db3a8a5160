"""Writing an export: the CSV files and raw samples of a cost table, with a manifest, as a folder or a zip archive."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from hetsim import __version__
from hetsim.costs.archive import FILE_NAME, SUFFIX, write_archive
from hetsim.costs.files import TRANSFERS_FILE, layer_costs_text, transfer_costs_text
from hetsim.costs.manifest import MANIFEST_FILE, FileDigest, Manifest
from hetsim.costs.samples import SAMPLES_FILE
from hetsim.costs.sources import CostSource, format_utc
from hetsim.errors import CostError, InputError, Problem


def write_export(path: Path, source: CostSource, made_from: Sequence[str]) -> None:
    """Write `source` to `path`, whole or not at all: to a zip archive where it ends in `.zip`, else to a new folder.

    `made_from` says in the manifest what it was made from. What `hetsim.costs.sources.read_source` reads back equals what
    was written. Raises InputError where there is something at `path` already, or it cannot be written.
    """
    check_free(path)
    files = _contents(source, made_from)
    try:
        if path.suffix == SUFFIX:
            write_archive(path, files)
        else:
            _write_folder(path, files.items())
    except OSError as cause:
        raise InputError(Problem(str(path), f"cannot be written: {cause.strerror or cause}")) from None


def check_free(path: Path) -> None:
    """Raise InputError where there is something at `path` already: no costs are written over."""
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(Problem(str(path), "is there already", "Name another, or remove it first"))


def _contents(source: CostSource, made_from: Sequence[str]) -> dict[str, bytes]:
    """The files of an export, by name; the manifest first."""
    files: dict[str, bytes] = {}
    for costs in source.networks:
        name = f"{costs.network}.csv"
        if not FILE_NAME.fullmatch(name) or name == TRANSFERS_FILE:
            raise CostError(
                Problem(costs.path, f'got a network called "{costs.network}", expected a plain name', "Rename the file")
            )
        files[name] = layer_costs_text((placed.row for placed in costs.rows), costs.notes).encode()
    if source.transfers:
        files[TRANSFERS_FILE] = transfer_costs_text((p.row for p in source.transfers), source.transfer_notes).encode()
    if source.samples:
        files[SAMPLES_FILE] = "".join(f"{sample.text}\n" for sample in source.samples).encode()
    manifest = Manifest(
        name=source.name,
        created_utc=format_utc(datetime.now(UTC)),
        measured_utc=source.measured_utc,
        version=__version__,
        sources=tuple(made_from),
        fingerprints={costs.network: costs.fingerprints for costs in source.networks},
        files=tuple(FileDigest.of(name, content) for name, content in files.items()),
    )
    return {MANIFEST_FILE: manifest.to_json().encode(), **files}


def _write_folder(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.mkdir(parents=True)
        for name, content in files:
            (partial / name).write_bytes(content)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
