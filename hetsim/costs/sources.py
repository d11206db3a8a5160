"""Cost tables with all that is known of where they come from: one CSV file, the folder of a calibration, or an export.

An *export* is a cost table that left its machine: the CSV files and raw samples of a cost folder with a manifest that says
what they are, as a folder or a zip archive. Reading one runs no code: it is CSV and JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from hetsim.costs.archive import SUFFIX, unpacked
from hetsim.costs.files import TRANSFERS_FILE, CostFile, read_layer_file, read_transfer_file
from hetsim.costs.manifest import MANIFEST_FILE, Manifest, read_manifest
from hetsim.costs.samples import SAMPLES_FILE, Fingerprint, Sample, fingerprints_of, read_samples
from hetsim.costs.table import CostTable, LayerCost, TransferCost
from hetsim.errors import CostError, Problem
from hetsim.reading import did_you_mean

Row = TypeVar("Row", LayerCost, TransferCost)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Placed(Generic[Row]):
    """A row, and where it stands."""

    row: Row
    where: str
    """`file:line:1`."""


@dataclass(frozen=True, slots=True)
class NetworkCosts:
    """What the layers of one network cost."""

    network: str
    rows: tuple[Placed[LayerCost], ...]
    notes: tuple[str, ...] = ()
    fingerprints: Mapping[str, tuple[Fingerprint, ...]] = field(default_factory=dict)
    """Device type -> under which its rows were timed; more than one where they were mixed, none where nobody knows."""

    path: str = ""
    """Of the file, as messages show it."""

    @property
    def device_types(self) -> tuple[str, ...]:
        """In the order in which they first stand in the file."""
        return tuple(dict.fromkeys(placed.row.device_type for placed in self.rows))


@dataclass(frozen=True, slots=True)
class CostSource:
    """The cost tables of some networks on the same devices."""

    name: str
    """Of the scenario; of a single file, its stem."""

    path: str
    """As messages show it."""

    networks: tuple[NetworkCosts, ...]
    transfers: tuple[Placed[TransferCost], ...] = ()
    transfer_notes: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    measured_utc: str | None = None
    """When the last sample was taken; None: nobody knows."""

    def only(self, network: str) -> CostSource:
        """The same with no network but `network`. Raises CostError where it is not there."""
        chosen = tuple(costs for costs in self.networks if costs.network == network)
        if not chosen:
            names = [costs.network for costs in self.networks]
            raise CostError(Problem(self.path, f"has no costs of the network {network}", did_you_mean(network, names)))
        samples = tuple(sample for sample in self.samples if sample.network in (network, ""))
        return CostSource(self.name, self.path, chosen, self.transfers, self.transfer_notes, samples, self.measured_utc)

    def table(self, network: str) -> CostTable:
        """The cost table of `network`, as the cost model takes it."""
        (costs,) = self.only(network).networks
        rows = tuple(placed.row for placed in costs.rows)
        return CostTable(network, rows, tuple(placed.row for placed in self.transfers), costs.path, costs.notes)


def read_source(path: Path) -> CostSource:
    """The cost tables at `path`: a CSV file, a folder of them, or an export as a folder or zip archive.

    Raises CostError with every fault of every file, and where an export was changed after it was written.
    """
    if path.suffix == SUFFIX and not path.is_dir():
        with unpacked(path) as folder, _errors_of(folder, shown_as=path):
            return _read_folder(folder, str(path), must_be_export=True)
    if path.is_dir():
        return _read_folder(path, str(path))
    return _read_single(path)


def _read_single(path: Path) -> CostSource:
    """One CSV file. What lies beside it may know under which fingerprints it was measured."""
    folder = path.parent
    faults = Faults()
    manifest = faults.of(lambda: read_manifest(folder))
    samples = faults.of(lambda: () if manifest else read_samples(folder / SAMPLES_FILE)) or ()
    costs = faults.of(lambda: _network_costs(path, str(folder), manifest, samples))
    faults.raise_any()
    assert costs is not None
    known = (manifest.measured_utc if manifest else _modified_utc(folder / SAMPLES_FILE)) if costs.fingerprints else None
    return CostSource(path.stem, str(path), (costs,), measured_utc=known)


def _read_folder(folder: Path, shown: str, *, must_be_export: bool = False) -> CostSource:
    manifest = read_manifest(folder)
    if manifest is not None:
        manifest.check_files(folder)
    elif must_be_export:
        raise CostError(Problem(shown, f"has no {MANIFEST_FILE} of hetsim's, expected an export"))
    files = [folder / name for name in manifest.csv_files] if manifest else sorted(folder.glob("*.csv"))
    tables = [file for file in files if file.name != TRANSFERS_FILE]
    if not tables:
        raise CostError(Problem(shown, "has no cost tables", "Measure some: hetsim calibrate SCENARIO"))
    faults = Faults()
    samples = faults.of(lambda: read_samples(folder / SAMPLES_FILE)) or ()
    networks = [faults.of(partial(_network_costs, file, shown, manifest, samples)) for file in tables]
    transfers = faults.of(lambda: _transfers(folder / TRANSFERS_FILE, shown)) or ((), ())
    faults.raise_any()
    return CostSource(
        name=manifest.name if manifest else folder.resolve().name,
        path=shown,
        networks=tuple(costs for costs in networks if costs is not None),
        transfers=transfers[0],
        transfer_notes=transfers[1],
        samples=samples,
        measured_utc=manifest.measured_utc if manifest else _modified_utc(folder / SAMPLES_FILE),
    )


def _network_costs(path: Path, shown: str, manifest: Manifest | None, samples: tuple[Sample, ...]) -> NetworkCosts:
    file = read_layer_file(path)
    where = str(Path(shown) / path.name)
    if manifest is not None:
        prints = manifest.fingerprints.get(path.stem, {})
    else:  # a calibration writes the table from the fingerprint that it measured under last
        prints = {kind: found[-1:] for kind, found in fingerprints_of(samples, path.stem).items()}
    kinds = {row.device_type for row in file.rows}
    known = {kind: found for kind, found in prints.items() if kind in kinds}
    return NetworkCosts(path.stem, _placed(file, where), file.notes, known, where)


def _transfers(path: Path, shown: str) -> tuple[tuple[Placed[TransferCost], ...], tuple[str, ...]]:
    if not path.exists():
        return (), ()
    file = read_transfer_file(path)
    return _placed(file, str(Path(shown) / path.name)), file.notes


def _placed(file: CostFile[Row], where: str) -> tuple[Placed[Row], ...]:
    return tuple(Placed(row, f"{where}:{line}:1") for row, line in zip(file.rows, file.lines, strict=True))


def _modified_utc(path: Path) -> str | None:
    """When the file at `path` was written last; None where there is none."""
    return format_utc(datetime.fromtimestamp(path.stat().st_mtime, UTC)) if path.exists() else None


def format_utc(moment: datetime) -> str:
    """A moment as files write it: `2026-11-23T05:14:22Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Faults:
    """Collects what several readers find wrong, so that all of it is told at once."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def of(self, read: Callable[[], T]) -> T | None:
        """What `read` returns; None, with its faults kept, where it raises CostError."""
        try:
            return read()
        except CostError as error:
            self.problems += error.problems
            return None

    def raise_any(self) -> None:
        """Raise CostError where there were faults."""
        if self.problems:
            raise CostError(self.problems)


@contextmanager
def _errors_of(folder: Path, *, shown_as: Path) -> Iterator[None]:
    """Where an error inside names the unpacked `folder`, it names the archive instead."""
    try:
        yield
    except CostError as error:
        told = (Problem(p.where.replace(str(folder), str(shown_as)), p.what, p.help) for p in error.problems)
        raise CostError(told) from None
