"""The canary does real work, the same each time."""

import statistics
import subprocess
import sys

import torch

from hetsim.hardware.canary import Canary


def test_it_takes_time_and_repeats():
    canary = Canary(torch.device("cpu"))
    timings_s = [canary.time_s() for _ in range(9)]
    assert min(timings_s) > 0


def test_twice_the_work_takes_longer_on_the_same_device(monkeypatch):
    canary = Canary(torch.device("cpu"))
    once, four = [], []
    for _ in range(15):
        monkeypatch.setitem(sys.modules["hetsim.hardware.canary"]._REPEATS, "cpu", 1)
        once.append(canary.time_s())
        monkeypatch.setitem(sys.modules["hetsim.hardware.canary"]._REPEATS, "cpu", 4)
        four.append(canary.time_s())
    assert 2 < statistics.median(four) / statistics.median(once) < 8


def test_its_module_needs_no_torch_before_it_is_made():
    code = "import sys, hetsim.hardware.canary; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
