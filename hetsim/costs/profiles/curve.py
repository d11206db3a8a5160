"""A batch curve of a whole model: CSV with the columns batch, seconds and perhaps device.

It becomes a network of one layer, `whole`. How its seconds divide into forward and backward the curve does not say; for data
parallelism over such a layer the division does not matter, and the rows are marked as specified.
"""

from __future__ import annotations

from pathlib import Path

from hetsim.costs.profiles.profile import LARGEST_COUNT, Profile, Wanted
from hetsim.costs.sheet import Row, read_sheet
from hetsim.costs.table import LayerCost
from hetsim.errors import CostError, InputError, Problem
from hetsim.reading import did_you_mean
from hetsim.workload import Chain, Layer

COLUMNS = ("batch", "seconds")
OPTIONAL_COLUMNS = ("device",)
LAYER = "whole"


def read_curve(path: Path, wanted: Wanted) -> Profile:
    """The curve in the file at `path`.

    Raises CostError with every fault and its place, InputError where nothing says which device it is of.
    """
    sheet = read_sheet(path, title=None, required=COLUMNS, optional=OPTIONAL_COLUMNS)
    named = any(row.text("device") for row in sheet.rows)
    if not named and wanted.device_type is None:
        raise InputError(Problem(str(path), "does not say which device it is of", "Say it: --device-type NAME"))
    rows = [(row, _cost(row, wanted, named=named)) for row in sheet.rows]
    first: dict[tuple[str, int], int] = {}
    for row, cost in rows:
        if row.line in sheet.faulty_lines:
            continue
        key = cost.device_type, cost.microbatch
        if first.setdefault(key, row.line) != row.line:
            sheet.fault(row.line, 1, f"the row repeats the batch of line {first[key]}", "Remove one of them")
    if sheet.problems:
        raise CostError(sheet.problems)
    kept = _of_wanted(path, [cost for _, cost in rows], wanted.device_type if named else None)
    share = wanted.backward_share
    notes = (
        f"A batch curve of the whole network, imported from {path.name}: seconds of a forward and backward.",
        f"Their division, {1 - share:.3g} : {share:.3g}, is an assumption: the curve does not tell it.",
    )
    chain = None
    network = wanted.network or path.stem
    if wanted.parameters is not None:
        chain = Chain(network, (Layer(LAYER, (wanted.parameters,)),))
    return Profile(network, tuple(kept), notes, chain)


def _cost(row: Row, wanted: Wanted, *, named: bool) -> LayerCost:
    seconds = row.number("seconds")
    batch = row.whole("batch", least=1)
    if seconds == 0 and row.line not in row.sheet.faulty_lines:
        row.fault("seconds", 'got "0", expected more: a step that takes no time was not measured')
    return LayerCost(
        device_type=row.required_text("device") if named else wanted.device_type or "",
        layer=LAYER,
        microbatch=min(batch, LARGEST_COUNT),
        forward_s=seconds * (1 - wanted.backward_share),
        backward_s=seconds * wanted.backward_share,
        spread=wanted.spread,
        provenance="specified",
    )


def _of_wanted(path: Path, rows: list[LayerCost], device_type: str | None) -> list[LayerCost]:
    if device_type is None:
        return rows
    kept = [row for row in rows if row.device_type == device_type]
    if not kept:
        known = dict.fromkeys(row.device_type for row in rows)
        raise InputError(Problem(str(path), f"has no device {device_type}", did_you_mean(device_type, known)))
    return kept
