"""Workers that fall silent are told by name."""

import os
import signal

import pytest

from calibration import workers
from hetsim.errors import CalibrationError
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.scenario.types import NetworkSpec
from hetsim.workload import Training

KIND = DeviceType("cpu", "cpu")
DEVICES = (Device("a", "cpu", "here"), Device("b", "cpu", "here"))
CLUSTER = Cluster((Node("here", DEVICES, Link("bus", 0.0, 1e9)),), {"cpu": KIND}, Link("bus", 0.0, 1e9))
MEASURE = {"do": "measure", "network": "net", "microbatch": 4, "in_flight": 1, "accumulate": False, "precision": 0.0}


def test_the_one_that_was_stopped_is_named_and_not_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "LOOK_S", 0.2)
    monkeypatch.setattr(workers, "STOPPED_S", 1.0)
    spec = NetworkSpec("net", Training(4), "mlp")
    with workers.Workers(DEVICES, CLUSTER, (spec,), 0, tmp_path) as both:
        both.ask({name: {"do": "rest"} for name in ("a", "b")})
        os.kill(both._processes["b"].pid, signal.SIGSTOP)
        with pytest.raises(CalibrationError, match=r"^b was stopped"):
            both.ask({name: {**MEASURE, "budget_s": 0.1} for name in ("a", "b")})
