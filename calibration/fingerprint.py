"""What a timing depends on besides the network: the machine, the device, the software, its settings."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from hetsim.hardware import Device, DeviceType
from hetsim.hardware.binding import environment

METHOD = 6
"""Raised when the way of timing changes, so that old and new timings are not mixed."""


def fingerprint(device: Device, device_type: DeviceType) -> dict[str, Any]:
    """Of `device` on this host: a JSON-able mapping. Timings under another fingerprint are not comparable."""
    common: dict[str, Any] = {
        "method": METHOD,
        "environment": environment(device, device_type),
        "backend": device_type.backend,
        "torch": version("torch"),
        "python": platform.python_version(),
        "host_cpu": _processor(),
        "host_cores": psutil.cpu_count(),
    }
    if device_type.backend == "cpu":
        return common | {"isa": device_type.isa, "threads": device_type.threads, "cores": len(device.cores)}
    return common | _cuda(device.index)


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
