"""Measurements: their interval against the theory of order statistics, and their file form."""

import json
import math
from dataclasses import replace

import pytest

from hetsim.errors import RunDirectoryError
from hetsim.measurement import SCHEMA_VERSION, Measurement, span
from hetsim.plan import Plan
from hetsim.timeline import Timeline

PLAN = Plan.parse("a[0:2] > b[2:3] 8/2; 1f1b")


def measurement(step_s=(0.5, 0.4, 0.6)):
    spans = [span("b", "1F0", 10, 30), span("a", "0F0", 0, 10), span("b", "1UPDATE", 30, 500_000_000)]
    return Measurement(PLAN, tuple(step_s), (2.0, 1.9, 1.8), Timeline.of(spans), {"a": 1 << 30})


def test_it_reads_back_what_it_wrote():
    assert Measurement.from_json(measurement().to_json()) == measurement()
    assert json.loads(measurement().to_json())["schema_version"] == SCHEMA_VERSION


def test_its_figures_follow_from_the_steps():
    assert measurement().median_s == 0.5
    assert measurement().interval_s == (0.4, 0.6)
    assert measurement().samples_per_s == 16.0


def test_a_loss_that_is_no_number_is_null_in_json():
    diverged = replace(measurement(), losses=(2.0, math.inf, math.nan))
    text = diverged.to_json()
    assert json.loads(text, parse_constant=pytest.fail)["losses"] == [2.0, None, None]
    finite, *others = Measurement.from_json(text).losses
    assert finite == 2.0
    assert all(map(math.isnan, others))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 100_000, "[]", "null", '{"schema_version": 2}', measurement().to_json().replace("1UPDATE", "1SLEEP")],
)
def test_what_is_no_measurement_is_refused(text):
    with pytest.raises(RunDirectoryError, match="not a measurement of a run"):
        Measurement.from_json(text)


def test_a_later_schema_is_refused_by_its_number():
    text = measurement().to_json().replace('"schema_version": 2', '"schema_version": 7')
    with pytest.raises(RunDirectoryError, match="schema version 7, expected 2"):
        Measurement.from_json(text)
