"""Makes a process be one device: environment, cores, threads, and the `torch.device` it computes on.

A CPU device of a mixed cluster is a process whose instruction set is capped and which is pinned to its own cores. The caps
are read when torch and its libraries are loaded, so `environment` has to be in place before torch is imported:
calibration and executor both bind their workers here, so that what was measured is what runs.
"""

from __future__ import annotations

import os
import platform
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from hetsim.errors import InputError, Problem
from hetsim.hardware.devices import Device, DeviceType, Isa

if TYPE_CHECKING:
    import torch

ISA_ENVIRONMENT: Final = MappingProxyType(
    {
        "full": MappingProxyType[str, str]({}),
        "avx2": MappingProxyType(
            {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
        ),
        "sse4.2": MappingProxyType(
            {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
        ),
    }
)
"""Cap on the instruction set -> what holds torch's own kernels, oneDNN and MKL to it; oneDNN knows SSE4.1, not SSE4.2."""

KEEP_MEMORY: Final = MappingProxyType({"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)})
"""Makes glibc keep the memory that a step frees for the next one, as the allocators of accelerators do. Otherwise it depends on
what happens to lie on top of the heap whether a step gets its memory from the kernel anew, which was seen to cost 6 %."""

_ATEN_CAPABILITY: Final[dict[Isa, str]] = {"avx2": "AVX2", "sse4.2": "DEFAULT"}
"""What torch says of itself under each cap."""

_X86: Final = ("x86_64", "AMD64", "i386", "i686")


def environment(device: Device, device_type: DeviceType) -> dict[str, str]:
    """The environment variables that a process of `device` needs before it imports torch.

    Raises InputError where no process can be that device: it is on paper only, or its instruction set cannot be capped here.
    """
    where = f'device "{device.name}"'
    if device_type.backend == "paper":
        what = f'its type "{device_type.name}" is on paper only, so it can be planned with, but neither measured nor run'
        raise InputError(Problem(where, what, "Set backend to cpu or cuda where this machine has such a device"))
    if device_type.backend == "cuda":
        # The ordinal then means the same piece of hardware to every process, and to nvidia-smi.
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if device_type.isa != "full" and platform.machine() not in _X86:
        what = f'the cap "{device_type.isa}" works on x86 processors only, and this is {platform.machine()}'
        raise InputError(Problem(where, what, "Make its type slower by fewer threads instead"))
    threads = str(device_type.threads)
    return {**ISA_ENVIRONMENT[device_type.isa], **KEEP_MEMORY, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}


def pin(device: Device, device_type: DeviceType) -> None:
    """Hold this process, which has the device's `environment`, to its cores and threads, or to its accelerator.

    Imports torch. Raises InputError where this machine lacks the cores or the accelerator, or where the environment came too
    late for the cap on the instruction set.
    """
    if device.cores:
        _pin_cores(device)
    import torch

    where = f'device "{device.name}"'
    if device_type.backend == "cuda":
        count = torch.cuda.device_count()
        if device.index >= count:
            raise InputError(Problem(where, f"is accelerator {device.index} of its node, but torch sees {count} here"))
        torch.cuda.set_device(device.index)
        return
    torch.set_num_threads(device_type.threads)
    expected, got = _ATEN_CAPABILITY.get(device_type.isa), torch.backends.cpu.get_cpu_capability()
    if expected is not None and got != expected:
        what = f'its instruction set is capped to "{device_type.isa}", but torch runs with {got}, expected {expected}'
        raise InputError(
            Problem(where, what, "Torch was imported before the environment was set, or the processor lacks it")
        )


def torch_device(device: Device, device_type: DeviceType) -> torch.device:
    """Where tensors of `device` live. Imports torch."""
    import torch

    return torch.device("cuda", device.index) if device_type.backend == "cuda" else torch.device("cpu")


def _pin_cores(device: Device) -> None:
    where = f'device "{device.name}"'
    if not hasattr(os, "sched_setaffinity"):
        raise InputError(Problem(where, f"{platform.system()} cannot pin a process to cores", "Leave cores out"))
    if absent := sorted(set(device.cores) - set(os.sched_getaffinity(0))):
        here = sorted(os.sched_getaffinity(0))
        raise InputError(Problem(where, f"has cores {absent}, which this process may not use; it may use {here}"))
    os.sched_setaffinity(0, device.cores)
