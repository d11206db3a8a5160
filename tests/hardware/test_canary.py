"""The canary does real work, the same each time."""

import subprocess
import sys
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

import hetsim.hardware.canary
from hetsim.hardware.canary import Canary

CPU = torch.device("cpu")


def test_it_takes_time_and_repeats():
    canary = Canary(CPU)
    timings_s = [canary.time_s() for _ in range(9)]
    assert min(timings_s) > 0


def test_it_is_as_much_work_as_its_size_says(monkeypatch):
    def operations():
        canary = Canary(CPU)
        with FlopCounterMode(display=False) as counter:
            assert canary.time_s() > 0
        return counter.get_total_flops()

    small = operations()
    sizes = hetsim.hardware.canary._SIZES["cpu"]
    larger = replace(sizes, tokens=8 * sizes.tokens, images=8 * sizes.images)
    monkeypatch.setitem(hetsim.hardware.canary._SIZES, "cpu", larger)
    assert small > 1e6
    assert operations() == 8 * small


def test_random_numbers_stay_as_they_were():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    Canary(CPU).time_s()
    assert torch.equal(torch.randn(3), expected)


def test_its_module_needs_no_torch_before_it_is_made():
    code = "import sys, hetsim.hardware.canary; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
