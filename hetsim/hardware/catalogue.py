"""The catalogue of accelerators: what datasheets and published measurements say of a device, read from `accelerators.csv`.

A device a row, with its sources in the row. A blank is unknown, never zero.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from hetsim.errors import InputError, Problem
from hetsim.reading import did_you_mean, read_text

Format = Literal["float32", "tf32", "float16", "bfloat16"]
"""What matrix products are computed in. `float32` is without TF32, which torch has off for matrix products unless asked."""

FILE: Final = Path(__file__).with_name("accelerators.csv")
TITLE: Final = "# hetsim accelerators 1"

_PEAKS: Final[dict[Format, str]] = {
    "float32": "peak_fp32_tflops",
    "tf32": "peak_tf32_tflops",
    "float16": "peak_fp16_tflops",
    "bfloat16": "peak_bf16_tflops",
}
_MEASURED: Final[dict[Format, str]] = {
    "float32": "measured_fp32_tflops",
    "float16": "measured_fp16_tflops",
    "bfloat16": "measured_bf16_tflops",
}
_FIGURES: Final = (
    *_PEAKS.values(),
    *_MEASURED.values(),
    "peak_fp64_tflops",
    "peak_fp16_vector_tflops",
    "memory_gb",
    "memory_bandwidth_gb_per_s",
    "measured_bandwidth_gb_per_s",
    "l2_cache_mb",
    "compute_units",
    "boost_mhz",
    "device_link_gb_per_s",
    "power_w",
    "purchase_usd",
)
_TEXTS: Final = (
    "name", "vendor", "architecture", "chip", "form_factor", "launch_date", "host_bus", "measured_source", "purchase_source",
    "cloud_usd_per_h", "cloud_source", "source", "tensor_source", "link_source", "notes",
)  # fmt: skip
COLUMNS: Final = (*_TEXTS, *_FIGURES)


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What is known of one kind of accelerator. None: unknown."""

    name: str
    vendor: str
    architecture: str
    chip: str
    """The silicon, such as GV100: variants of one chip differ in clocks and memory alone; "" where unknown."""

    peak_flops_per_s: Mapping[Format, float]
    """By format; a format that is missing is unknown or not there. Dense, from the datasheet."""

    measured_flops_per_s: Mapping[Format, float]
    """The best that somebody published of large matrix products."""

    memory_bytes: int | None
    memory_bandwidth_bytes_per_s: float | None
    measured_bandwidth_bytes_per_s: float | None
    """What a program got of the memory bandwidth."""

    device_link_bytes_per_s: float | None
    """NVLink or the like to its neighbours, both directions together."""

    l2_cache_bytes: int | None
    compute_units: int | None
    """Streaming multiprocessors, or what the vendor calls them."""

    boost_hz: float | None
    power_w: float | None
    """The board's limit."""

    purchase_usd: float | None
    cloud_usd_per_h: str
    """As sellers have it: several, each with its name."""

    form_factor: str
    host_bus: str
    launch_date: str
    sources: tuple[str, ...]
    """Of the specification, the matrix peaks, the link, what was measured, and the prices."""

    notes: str


def accelerator(name: str) -> Accelerator:
    """The accelerator called `name`, capitals or not. Raises InputError with the nearest names where there is none."""
    known = accelerators()
    folded = {entry.casefold(): entry for entry in known}
    if name.casefold() in folded:
        return known[folded[name.casefold()]]
    raise InputError(Problem("", f'got "{name}", which is not in the catalogue of accelerators', suggestion(name)))


def suggestion(name: str) -> str:
    """A sentence that offers the variants of `name`, or the nearest name, or all."""
    words = name.casefold().split()
    if words and (variants := [entry for entry in accelerators() if entry.casefold().split()[: len(words)] == words]):
        return f"It has {', '.join(variants)}"
    return did_you_mean(name, accelerators())


@cache
def accelerators() -> Mapping[str, Accelerator]:
    """All accelerators by name, in the order of the file. Raises InputError with every fault of the file and its line."""
    return MappingProxyType(read_accelerators(FILE))


def read_accelerators(path: Path) -> dict[str, Accelerator]:
    """The accelerators in the file at `path` by name. Raises InputError with every fault and its line."""
    lines = read_text(path, InputError).splitlines()
    if lines[0].rstrip(",") != TITLE:
        raise InputError(Problem(f"{path}:1:1", f'got "{lines[0]}", expected {TITLE}'))
    notes = sum(1 for line in lines if line.startswith("#"))
    reader = csv.DictReader((line for line in lines if not line.startswith("#")), restkey="more")
    if set(reader.fieldnames or ()) != set(COLUMNS):
        odd = ", ".join(sorted(set(reader.fieldnames or ()) ^ set(COLUMNS)))
        raise InputError(Problem(f"{path}:{notes + 1}:1", f"the columns differ from those expected: {odd}"))
    found: dict[str, Accelerator] = {}
    problems: list[Problem] = []
    for row in reader:
        where = f"{path}:{notes + reader.line_num}:1"
        faults = [Problem(where, what) for what in _faults(row, found)]
        problems += faults
        if not faults:
            found[row["name"]] = _entry(row)
    if problems:
        raise InputError(problems)
    return found


def _faults(row: Mapping[str, str], found: Mapping[str, Accelerator]) -> Iterator[str]:
    """What is wrong with a row, in words."""
    if None in row.values() or "more" in row:
        yield f"got another number of cells than the {len(COLUMNS)} of the header"
        return
    if not row["name"] or not row["source"]:
        yield "a name or a source is missing"
    if row["name"] in found:
        yield f"{row['name']} stands twice"
    bad = [column for column in _FIGURES if row[column] and not _positive(row[column])]
    for column in bad:
        yield f'{column}: got "{row[column]}", expected a finite number above 0, or a blank'
    peak, got = row["memory_bandwidth_gb_per_s"], row["measured_bandwidth_gb_per_s"]
    if not bad and peak and got and float(got) > float(peak):
        yield f"measured_bandwidth_gb_per_s: got {got}, expected no more than the specified {peak}"
    if any(row[column] for column in (*_MEASURED.values(), "measured_bandwidth_gb_per_s")) and not row["measured_source"]:
        yield "what was measured has no measured_source"


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _entry(row: Mapping[str, str]) -> Accelerator:
    def figure(column: str, unit: float = 1.0) -> float | None:
        return float(row[column]) * unit if row[column] else None

    def whole(column: str, unit: float = 1.0) -> int | None:
        value = figure(column, unit)
        return None if value is None else round(value)

    sources = ("source", "tensor_source", "link_source", "measured_source", "purchase_source", "cloud_source")
    return Accelerator(
        name=row["name"],
        vendor=row["vendor"],
        architecture=row["architecture"],
        chip=row["chip"],
        peak_flops_per_s=_rates(row, _PEAKS),
        measured_flops_per_s=_rates(row, _MEASURED),
        memory_bytes=whole("memory_gb", 1e9),
        memory_bandwidth_bytes_per_s=figure("memory_bandwidth_gb_per_s", 1e9),
        measured_bandwidth_bytes_per_s=figure("measured_bandwidth_gb_per_s", 1e9),
        device_link_bytes_per_s=figure("device_link_gb_per_s", 1e9),
        l2_cache_bytes=whole("l2_cache_mb", 1e6),
        compute_units=whole("compute_units"),
        boost_hz=figure("boost_mhz", 1e6),
        power_w=figure("power_w"),
        purchase_usd=figure("purchase_usd"),
        cloud_usd_per_h=row["cloud_usd_per_h"],
        form_factor=row["form_factor"],
        host_bus=row["host_bus"],
        launch_date=row["launch_date"],
        sources=tuple(row[column] for column in sources if row[column]),
        notes=row["notes"],
    )


def _rates(row: Mapping[str, str], columns: Mapping[Format, str]) -> Mapping[Format, float]:
    return MappingProxyType({kind: float(row[column]) * 1e12 for kind, column in columns.items() if row[column]})
