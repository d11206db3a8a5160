"""The canary does real work, the same each time."""

import statistics
import subprocess
import sys

import torch

import hetsim.hardware.canary
from hetsim.hardware.canary import Canary


def test_it_takes_time_and_repeats():
    canary = Canary(torch.device("cpu"))
    timings_s = [canary.time_s() for _ in range(9)]
    assert min(timings_s) > 0


def test_it_is_work_whose_time_follows_from_its_size(monkeypatch):
    small = Canary(torch.device("cpu"))
    monkeypatch.setitem(hetsim.hardware.canary._WIDTH, "cpu", 256)
    large = Canary(torch.device("cpu"))
    ratios = [large.time_s() / small.time_s() for _ in range(15)]
    assert 4 < statistics.median(ratios) < 16, "8 times the multiplications"


def test_its_module_needs_no_torch_before_it_is_made():
    code = "import sys, hetsim.hardware.canary; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
