"""What a device physically is, as the machine that it is in tells it: what timings depend on, and how one is told from another."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hetsim.hardware.devices import Device, DeviceType


def identity(device: Device, device_type: DeviceType) -> dict[str, Any]:
    """Of `device`, which is in this machine: a JSON-able mapping that is equal for devices of the same kind and software."""
    import psutil

    common: dict[str, Any] = {
        "backend": device_type.backend,
        "torch": version("torch"),
        "python": platform.python_version(),
        "host_cpu": _processor(),
        "host_cores": psutil.cpu_count(),
    }
    if device_type.backend == "cpu":
        return common | {"isa": device_type.isa, "threads": device_type.threads, "cores": len(device.cores)}
    return common | _cuda(device.index)


def host_identity() -> str:
    """The same for processes that share a kernel and its clocks, different for others: its last start, the clocks' namespace."""
    boot, clocks = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/time")
    started = boot.read_text().strip() if boot.exists() else ""
    return f"{platform.node()} {started} {clocks.readlink() if clocks.is_symlink() else ''}".strip()


def piece(device: Device, device_type: DeviceType) -> str:
    """Which piece of hardware of this host the device is: a GPU's own number; "" for a processor, whose cores may be shared."""
    if device_type.backend != "cuda":
        return ""
    import torch

    return str(getattr(torch.cuda.get_device_properties(device.index), "uuid", device.index))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    rows = info.read_text().splitlines() if info.exists() else []
    names = [row.partition(":")[2].strip() for row in rows if row.startswith("model name")]
    return names[0] if names else platform.processor()


def _cuda(index: int) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(index)
    return {
        "device": properties.name,
        "memory_bytes": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_cudnn": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }
