"""Quantities with units."""

import math

import pytest

from hetsim import units


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (units.parse_bytes, "60 GiB", 60 * 2**30),
        (units.parse_bytes, "1.5kB", 1500),
        (units.parse_bytes, 4096, 4096),
        (units.parse_bytes_per_s, "25 Gbit/s", 25e9 / 8),
        (units.parse_bytes_per_s, "12 GB/s", 12e9),
        (units.parse_seconds, "50 us", 50e-6),
        (units.parse_seconds, "2 min", 120.0),
        (units.parse_seconds, 0.5, 0.5),
        (units.parse_flops_per_s, "14 TFLOP/s", 14e12),
    ],
)
def test_parses(parse, text, value):
    assert parse(text) == pytest.approx(value)


@pytest.mark.parametrize("parse", [units.parse_bytes, units.parse_bytes_per_s, units.parse_seconds, units.parse_flops_per_s])
@pytest.mark.parametrize(
    "text", ["", "sixty", "-1", "nan", "inf", "1e999", "5 parsecs", "GiB", True, None, float("nan"), -3]
)
def test_refuses_with_an_example(parse, text):
    with pytest.raises(ValueError, match=r"expected a (size|bandwidth|duration|rate) such as"):
        parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.412, "412 ms"), (1.5, "1.50 s"), (12.3e-6, "12.3 µs"), (3e-9, "3 ns"), (0.0, "0 s"), (123.4, "123 s")],
)
def test_formats_seconds(seconds, text):
    assert units.format_seconds(seconds) == text


def test_formats_sizes_and_shares():
    assert units.format_bytes(1.5 * 2**30) == "1.50 GiB"
    assert units.format_bytes(300 * 2**20) == "300 MiB"
    assert units.format_bytes(12) == "12 B"
    assert units.format_percent(0.031) == "3.1 %"
    assert units.format_percent(-0.031, sign=True) == "-3.1 %"
    assert math.isclose(units.parse_bytes(units.format_bytes(2**30).replace(" ", "")), 2**30)
