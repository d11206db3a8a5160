"""What devices draw: told where a driver tells, None elsewhere, and taken for what-ifs that say nothing of it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hetsim.cli.session import Session
from hetsim.economics import Power
from hetsim.hardware.power import drawn_w
from hetsim.scenario import load_scenario

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def test_a_processor_does_not_tell():
    assert drawn_w(torch.device("cpu")) is None


def test_a_driver_that_is_not_there_does_not_tell(monkeypatch):
    def fail(_device):
        raise ModuleNotFoundError("pynvml does not seem to be installed or it can't be imported.")

    monkeypatch.setattr(torch.cuda, "power_draw", fail)
    assert drawn_w(torch.device("cuda", 0)) is None


def test_milliwatts_are_told_in_watts(monkeypatch):
    monkeypatch.setattr(torch.cuda, "power_draw", lambda _device: 222_000)
    assert drawn_w(torch.device("cuda", 0)) == pytest.approx(222.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.cuda
def test_a_real_device_tells_a_sane_power_or_none():
    told = drawn_w(torch.device("cuda", 0))
    assert told is None or 5 < told < 2000


class Measured:
    """A session whose calibration has heard the power of some types."""

    def __init__(self, powers):
        self.live = True
        self.calibration = self
        self.powers = powers
        self.scenario = load_scenario(SCENARIOS / "buy_under_budget.yaml")


def test_what_was_measured_is_taken_where_nothing_is_said():
    session = Measured({"V100": Power(222.0, 40.0), "A100": Power(330.0, 50.0)})
    types = dict(session.scenario.cluster.device_types)
    types["A100"] = replace(types["A100"], power=Power(400.0, assumed=True))
    session.scenario = replace(session.scenario, cluster=replace(session.scenario.cluster, device_types=types))
    found = Session.with_powers(session).cluster.device_types
    assert found["A100"].power == Power(330.0, 50.0), "the board's limit was only assumed"
    assert found["V100"].power == Power(300.0, 45.0), "what the scenario says counts"
    assert found["K80"].power == types["K80"].power
