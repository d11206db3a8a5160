"""A process bound to a device is that device: asked of torch itself, in a process of its own."""

import json
import os
import platform
import subprocess
import sys

import pytest

from hetsim.errors import InputError
from hetsim.hardware import Device, DeviceType
from hetsim.hardware.binding import KEEP_MEMORY, environment, pin, torch_device

CORE = min(os.sched_getaffinity(0))
BOUND = """
import json, os, sys
from hetsim.hardware import Device, DeviceType
from hetsim.hardware.binding import KEEP_MEMORY, pin, torch_device
assert "torch" not in sys.modules
device = Device("d", "t", "n", cores=(int(sys.argv[2]),))
kind = DeviceType("t", "cpu", isa=sys.argv[1], threads=int(sys.argv[3]))
pin(device, kind)
import torch
print(json.dumps([torch.backends.cpu.get_cpu_capability(), sorted(os.sched_getaffinity(0)), torch.get_num_threads(),
                  str(torch_device(device, kind))]))
"""

x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86 processors can be capped")


def bound(isa, threads, variables):
    command = [sys.executable, "-c", BOUND, isa, str(CORE), str(threads)]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)


@x86
@pytest.mark.parametrize(("isa", "capability"), [("avx2", "AVX2"), ("sse4.2", "DEFAULT")])
def test_a_bound_process_is_capped_pinned_and_threaded(isa, capability):
    variables = environment(Device("d", "t", "n", cores=(CORE,)), DeviceType("t", "cpu", isa=isa, threads=1))
    result = bound(isa, 1, variables)
    assert json.loads(result.stdout) == [capability, [CORE], 1, "cpu"]


@x86
def test_a_cap_that_came_too_late_is_an_error_and_not_a_fast_slow_device():
    result = bound("sse4.2", 1, {})
    assert result.returncode != 0
    assert 'device "d": its instruction set is capped to "sse4.2", but torch runs with' in result.stderr


def test_an_uncapped_device_sets_its_threads_and_its_allocator_alone():
    variables = environment(Device("d", "t", "n"), DeviceType("t", "cpu", threads=3))
    assert variables == {**KEEP_MEMORY, "OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}


def test_a_paper_device_cannot_be_bound():
    with pytest.raises(InputError, match='device "x": its type "a100" is on paper only'):
        environment(Device("x", "a100", "n"), DeviceType("a100"))


def test_a_core_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r'device "x": has cores \[99999\]'):
        pin(Device("x", "t", "n", cores=(99999,)), DeviceType("t", "cpu"))


def test_an_accelerator_is_known_by_its_ordinal_on_the_bus():
    gpu = DeviceType("gpu", "cuda")
    assert environment(Device("g", "gpu", "n", index=1), gpu) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert str(torch_device(Device("g", "gpu", "n", index=1), gpu)) == "cuda:1"


def test_an_accelerator_that_is_not_there_is_named():
    with pytest.raises(InputError, match='device "g": is accelerator 4096 of its node, but torch sees'):
        pin(Device("g", "gpu", "n", index=4096), DeviceType("gpu", "cuda"))
