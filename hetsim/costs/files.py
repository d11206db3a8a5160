"""Cost tables as files: CSV that people write by hand and spreadsheets open, read with all faults at once.

A table is one file with the costs of the layers, or a folder with `<network>.csv` and `transfers.csv` for the communication.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, cast, get_args

from hetsim.costs.sheet import Row, Sheet, read_sheet, sheet_text
from hetsim.costs.table import PSEUDO_LAYERS, CostTable, LayerCost, Operation, Provenance, TransferCost
from hetsim.errors import CostError, Problem
from hetsim.files import write_text
from hetsim.reading import did_you_mean

VERSION = 1
"""Of both kinds of file; stands in their first line."""

LAYERS_TITLE = f"hetsim costs {VERSION}"
TRANSFERS_TITLE = f"hetsim transfers {VERSION}"
TRANSFERS_FILE = "transfers.csv"

LAYER_COLUMNS = ("device_type", "layer", "microbatch", "forward_s", "backward_s")
"""Columns that a file of layer costs must have."""

OPTIONAL_LAYER_COLUMNS = (
    "update_s",
    "accumulate_s",
    "saved_bytes",
    "spread",
    "samples",
    "tensor_parallel",
    "in_flight",
    "provenance",
)
"""Columns that it may have; a blank cell is as good as none."""

TRANSFER_COLUMNS = ("operation", "group", "size_bytes", "seconds")
OPTIONAL_TRANSFER_COLUMNS = ("spread", "samples")

_GROUPS: dict[Operation, tuple[int, float, str]] = {
    "send_recv": (2, 2, "two devices, as a;b"),
    "all_reduce": (2, math.inf, "two devices or more, as a;b;c"),
    "all_gather": (2, math.inf, "two devices or more, as a;b;c"),
    "reduce_scatter": (2, math.inf, "two devices or more, as a;b;c"),
    "broadcast": (2, math.inf, "two devices or more, as a;b;c"),
    "exchange": (2, 2, "two devices, as a;b"),
    "bucket": (1, 1, "one device type"),
    "bucket_tensor": (1, 1, "one device type"),
    "post_send": (1, 1, "one device type"),
    "post_receive": (1, 1, "one device type"),
    "handle_send": (1, 1, "one device type"),
    "handle_receive": (1, 1, "one device type"),
    "hand_over": (1, 1, "one device type"),
    "begin": (1, 1, "one device type"),
    "beside_send": (1, 1, "one device type"),
    "beside_receive": (1, 1, "one device type"),
    "beside_reduce": (1, 1, "one device type"),
}
"""Fewest and most names in the group of an operation, and what they are."""


CostRow = TypeVar("CostRow", LayerCost, TransferCost)


@dataclass(frozen=True, slots=True)
class CostFile(Generic[CostRow]):
    """What one file holds, with the places of its rows, for those who set several files side by side."""

    rows: tuple[CostRow, ...]
    lines: tuple[int, ...]
    """Of each row, from 1."""

    notes: tuple[str, ...]


def read_cost_table(path: Path, network: str) -> CostTable:
    """The cost table of `network` at `path`: one CSV file, or a folder with `<network>.csv` and perhaps `transfers.csv`.

    Raises CostError with every fault of the files and its line and column.
    """
    file, *transfer_files = cost_files(path, network)
    sheet, layers = _read_layers(file)
    problems = list(sheet.problems)
    transfers: tuple[TransferCost, ...] = ()
    for transfer_file in transfer_files:
        transfer_sheet, transfers = _read_transfers(transfer_file)
        problems += transfer_sheet.problems
    if problems:
        raise CostError(problems)
    return CostTable(network, layers, transfers, str(file), sheet.notes)


def cost_files(path: Path, network: str) -> tuple[Path, ...]:
    """The files that `read_cost_table` reads. Raises CostError where a folder has none of the network."""
    transfers = path / TRANSFERS_FILE
    return (_layers_file(path, network), *([transfers] if path.is_dir() and transfers.exists() else []))


def read_layer_costs(path: Path, network: str) -> tuple[LayerCost, ...]:
    """The costs of the layers of `network`, from the file at `path` or `<network>.csv` in that folder, in the file's order.

    Raises CostError with every fault and its line and column.
    """
    sheet, rows = _read_layers(_layers_file(path, network))
    if sheet.problems:
        raise CostError(sheet.problems)
    return rows


def read_transfer_costs(path: Path) -> tuple[TransferCost, ...]:
    """The costs of communication in the file at `path`, in its order. Raises CostError with every fault and its place."""
    sheet, rows = _read_transfers(path)
    if sheet.problems:
        raise CostError(sheet.problems)
    return rows


def read_layer_file(path: Path) -> CostFile[LayerCost]:
    """The costs of layers in the file at `path` with their lines. Raises CostError with every fault and its place."""
    sheet, rows = _read_layers(path)
    return _cost_file(sheet, rows)


def read_transfer_file(path: Path) -> CostFile[TransferCost]:
    """The costs of communication in the file at `path` with their lines. Raises CostError with every fault and its place."""
    sheet, rows = _read_transfers(path)
    return _cost_file(sheet, rows)


def layer_costs_text(rows: Iterable[LayerCost], notes: Iterable[str] = ()) -> str:
    """The text of a file with the costs of layers, below `notes` (where the figures come from)."""
    columns = (*LAYER_COLUMNS, *OPTIONAL_LAYER_COLUMNS)
    cells = [[getattr(row, column) for column in columns] for row in rows]
    return sheet_text(LAYERS_TITLE, notes, columns, cells)


def transfer_costs_text(rows: Iterable[TransferCost], notes: Iterable[str] = ()) -> str:
    """The text of a file with the costs of communication, below `notes`."""
    columns = (*TRANSFER_COLUMNS, *OPTIONAL_TRANSFER_COLUMNS)
    cells = [[row.operation, ";".join(row.group), row.size_bytes, row.seconds, row.spread, row.samples] for row in rows]
    return sheet_text(TRANSFERS_TITLE, notes, columns, cells)


def write_layer_costs(path: Path, rows: Iterable[LayerCost], notes: Iterable[str] = ()) -> None:
    """Write the costs of layers to `path`, whole or not at all, below `notes` (where the figures come from)."""
    write_text(path, layer_costs_text(rows, notes))


def write_transfer_costs(path: Path, rows: Iterable[TransferCost], notes: Iterable[str] = ()) -> None:
    """Write the costs of communication to `path`, whole or not at all, below `notes`."""
    write_text(path, transfer_costs_text(rows, notes))


def _cost_file(sheet: Sheet, rows: tuple[CostRow, ...]) -> CostFile[CostRow]:
    if sheet.problems:
        raise CostError(sheet.problems)
    return CostFile(rows, tuple(row.line for row in sheet.rows), sheet.notes)


def _layers_file(path: Path, network: str) -> Path:
    if not path.is_dir():
        return path
    file = path / f"{network}.csv"
    if not file.exists():
        known = sorted(entry.stem for entry in path.glob("*.csv") if entry.name != TRANSFERS_FILE)
        raise CostError(
            Problem(str(path), f"the folder has no costs of the network {network}", did_you_mean(network, known))
        )
    return file


def _read_layers(path: Path) -> tuple[Sheet, tuple[LayerCost, ...]]:
    sheet = read_sheet(path, title=LAYERS_TITLE, required=LAYER_COLUMNS, optional=OPTIONAL_LAYER_COLUMNS)
    rows = tuple(_layer_cost(row) for row in sheet.rows)
    _check_unique(sheet, [(row.device_type, row.layer, row.tensor_parallel, row.in_flight, row.microbatch) for row in rows])
    return sheet, rows


def _read_transfers(path: Path) -> tuple[Sheet, tuple[TransferCost, ...]]:
    sheet = read_sheet(path, title=TRANSFERS_TITLE, required=TRANSFER_COLUMNS, optional=OPTIONAL_TRANSFER_COLUMNS)
    rows = tuple(_transfer_cost(row) for row in sheet.rows)
    _check_unique(sheet, [(row.operation, row.group, row.size_bytes) for row in rows])
    return sheet, rows


def _layer_cost(row: Row) -> LayerCost:
    """A row as a LayerCost. Without `provenance` it is measured where it has samples, and written by somebody where not."""
    layer = row.required_text("layer")
    if layer.startswith("@") and layer not in PSEUDO_LAYERS:
        row.fault("layer", f'got "{layer}"; of the names that begin with @ there are only {", ".join(PSEUDO_LAYERS)}')
    samples = row.whole("samples", 0)
    likely: Provenance = "measured" if samples else "specified"
    return LayerCost(
        device_type=row.required_text("device_type"),
        layer=layer,
        microbatch=row.whole("microbatch", least=1),
        forward_s=row.number("forward_s"),
        backward_s=row.number("backward_s"),
        update_s=row.number("update_s", 0.0),
        accumulate_s=row.number("accumulate_s") if row.text("accumulate_s") else None,
        saved_bytes=row.whole("saved_bytes") if row.text("saved_bytes") else None,
        spread=row.number("spread", 0.0),
        samples=samples,
        tensor_parallel=row.whole("tensor_parallel", 1, least=1),
        in_flight=row.whole("in_flight", 1, least=1),
        provenance=cast("Provenance", row.choice("provenance", get_args(Provenance), likely)),
    )


def _transfer_cost(row: Row) -> TransferCost:
    operation = cast("Operation", row.choice("operation", get_args(Operation)))
    group = tuple(row.text("group").split(";"))
    fewest, most, expected = _GROUPS[operation]
    fits = fewest <= len(group) <= most and len(set(group)) == len(group) and "" not in group
    if not fits and row.text("operation") == operation:
        row.fault("group", f'got "{";".join(group)}", expected {expected}')
    return TransferCost(
        operation,
        tuple(sorted(group)),
        size_bytes=row.whole("size_bytes"),
        seconds=row.number("seconds"),
        spread=row.number("spread", 0.0),
        samples=row.whole("samples", 0),
    )


def _check_unique(sheet: Sheet, keys: Iterable[Hashable]) -> None:
    first: dict[Hashable, int] = {}
    faulty = sheet.faulty_lines
    for key, row in zip(keys, sheet.rows, strict=True):
        if row.line not in faulty and first.setdefault(key, row.line) != row.line:
            sheet.fault(row.line, 1, f"the row repeats that of line {first[key]}", "Remove one of them")
