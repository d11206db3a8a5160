"""Dataclasses as plain JSON values and back."""

import json
from pathlib import Path

import pytest

from calibration.protocol import Setup
from hetsim.hardware import Device, DeviceType
from hetsim.plain import from_plain, to_plain
from hetsim.plan import Plan
from hetsim.scenario.types import InputSpec, Measure, NetworkSpec
from hetsim.workload import Chain, Layer, Training

SPEC = NetworkSpec(
    "own",
    Training(64, optimizer="adamw"),
    module="nets:build",
    arguments={"depth": 3, "act": "relu"},
    input=InputSpec((3, 32, 32), classes=7),
    costs=Path("a/b.csv"),
)


@pytest.mark.parametrize(
    "value",
    [
        SPEC,
        Setup(Device("d0", "t", "n", 1, (2, 3)), DeviceType("t", "cpu", isa="sse4.2"), None, (SPEC,), 5),
        Chain("net", (Layer("a", (1, 2), 3, 4, 5.0), Layer("b")), 6),
        Plan.parse("a[0:2] > b[2:4] 8/4; 1f1b"),
        Measure(),
    ],
)
def test_comes_back_the_same_through_json(value):
    assert from_plain(type(value), json.loads(json.dumps(to_plain(value)))) == value


def test_foreign_data_is_refused():
    with pytest.raises((KeyError, TypeError)):
        from_plain(Setup, {"device": {}})
