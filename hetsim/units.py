"""Quantities with units, parsed once at the door and printed for people.

Inside hetsim every number is in SI base units and says so in its name: `_s`, `_bytes`, `_bytes_per_s`, `_flops`.
Decimal prefixes are powers of 1000 (`GB`), binary ones of 1024 (`GiB`); a small `bit` is an eighth of a byte.
"""

from __future__ import annotations

import math
import re

_DECIMAL = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "µs": 1e6, "ns": 1e9, "min": 1 / 60, "h": 1 / 3600}
_DAYS = {"day": 1, "days": 1, "year": 365.25, "years": 365.25}
"""Units of time in a second: a decimal fraction divided by a power of ten comes out exact."""
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\s\d]\S*)?\s*")

Quantity = str | int | float


def _split(text: Quantity, expected: str) -> tuple[float, str]:
    if isinstance(text, int | float) and not isinstance(text, bool):
        number, unit = float(text), ""
    elif match := _NUMBER.fullmatch(str(text)):
        number, unit = float(match[1]), match[2] or ""
    else:
        raise ValueError(f"got {text!r}, expected {expected}")
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"got {text!r}, expected {expected}, finite and not negative")
    return number, unit


def _prefixed(unit: str, suffix: str) -> float | None:
    """The factor of a prefix before `suffix`, or None where `unit` is not such a unit."""
    if not unit.endswith(suffix):
        return None
    prefix = unit.removesuffix(suffix)
    return (_DECIMAL | _BINARY).get(prefix)


def parse_bytes(text: Quantity) -> int:
    """Bytes of `"60 GiB"`, `"512 MB"` or a bare number of bytes. Raises ValueError on anything else."""
    expected = 'a size such as "12 GiB"'
    number, unit = _split(text, expected)
    factor = 1.0 if unit == "" else _prefixed(unit, "B")
    if factor is None:
        raise ValueError(f"got {text!r}, expected {expected}")
    return round(number * factor)


def parse_bytes_per_s(text: Quantity) -> float:
    """Bytes per second of `"25 Gbit/s"`, `"12 GB/s"` or a bare number. Raises ValueError on anything else."""
    expected = 'a bandwidth such as "10 Gbit/s" or "12 GB/s"'
    number, unit = _split(text, expected)
    if unit == "":
        return number
    bits, whole = _prefixed(unit, "bit/s"), _prefixed(unit, "B/s")
    if bits is not None:
        return number * bits / 8
    if whole is not None:
        return number * whole
    raise ValueError(f"got {text!r}, expected {expected}")


def parse_seconds(text: Quantity) -> float:
    """Seconds of `"50 us"`, `"1.5 ms"`, `"2 min"` or a bare number of seconds. Raises ValueError on anything else."""
    expected = 'a duration such as "50 us"'
    number, unit = _split(text, expected)
    if unit in _DAYS:
        return number * _DAYS[unit] * 86_400
    if unit and unit not in _PER_SECOND:
        raise ValueError(f"got {text!r}, expected {expected}")
    return number / _PER_SECOND.get(unit, 1.0)


def parse_flops_per_s(text: Quantity) -> float:
    """FLOP per second of `"14 TFLOP/s"` or a bare number. Raises ValueError on anything else."""
    expected = 'a rate such as "14 TFLOP/s"'
    number, unit = _split(text, expected)
    factor = 1.0 if unit == "" else _prefixed(unit, "FLOP/s")
    if factor is None:
        raise ValueError(f"got {text!r}, expected {expected}")
    return number * factor


def parse_watts(text: Quantity) -> float:
    """Watts of `"250 W"`, `"1.2 kW"` or a bare number. Raises ValueError on anything else."""
    expected = 'a power such as "250 W"'
    number, unit = _split(text, expected)
    factor = 1.0 if unit == "" else _prefixed(unit, "W")
    if factor is None:
        raise ValueError(f"got {text!r}, expected {expected}")
    return number * factor


def format_seconds(seconds: float) -> str:
    """A duration in three significant figures with the unit that suits it, e.g. `12.3 ms`."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= scale:
            return f"{seconds / scale:#.3g}".rstrip(".") + f" {unit}"
    return "0 s" if seconds == 0 else f"{seconds / 1e-9:.0f} ns"


def format_bytes(size_bytes: float) -> str:
    """A size in three significant figures with a binary prefix, e.g. `1.50 GiB`."""
    for unit, scale in (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10)):
        if abs(size_bytes) >= scale:
            value = size_bytes / scale
            return (f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}") + f" {unit}"
    return f"{size_bytes:.0f} B"


def format_bandwidth(bytes_per_s: float) -> str:
    """A rate in decimal units and three significant figures, e.g. `12.5 GB/s`."""
    unit, scale = next(
        ((u, s) for u, s in (("TB/s", 1e12), ("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3)) if bytes_per_s >= s), ("B/s", 1.0)
    )
    return f"{bytes_per_s / scale:.3g} {unit}"


def format_percent(share: float, *, sign: bool = False) -> str:
    """A share as a percentage with one decimal, e.g. `0.031` as `3.1 %`; with `sign`, `+3.1 %`."""
    return f"{share * 100:{'+' if sign else ''}.1f} %"
