"""`hetsim doctor`."""

from __future__ import annotations

import os
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hetsim.cli.options import OutputFormat
from hetsim.cli.output import print_json, print_table
from hetsim.errors import HetsimError
from hetsim.runs import Host
from hetsim.units import format_bytes

SCHEMA_VERSION = 1

_PACKAGES = ("torch", "simpy", "numpy", "pandas", "matplotlib")
_BUSY_LOAD = 0.25
"""Load average a core above which other work will be seen in measurements."""


def doctor(output: OutputFormat) -> None:
    """Show host, packages, the devices of a local cluster, and what will hurt the accuracy here."""
    from hetsim.scenario.local import local_cluster, usable_cores

    host = Host.here()
    packages = {name: _version(name) for name in _PACKAGES}
    clusters: dict[str, list[dict[str, Any]]] = {}
    why_none: dict[str, str] = {}
    for kind in ("mixed-cpu", "cuda"):
        try:
            clusters[kind] = [
                _device(kind_cluster, d) for kind_cluster in [local_cluster(kind)] for d in kind_cluster.devices
            ]
        except HetsimError as error:
            clusters[kind] = []
            why_none[kind] = "; ".join(problem.what for problem in error.problems)
    warnings = _warnings()
    if output == "json":
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "host": asdict(host),
                "packages": packages,
                "devices": clusters,
                "warnings": warnings,
            }
        )
        return
    facts = [
        ("processor", host.cpu_model),
        ("cores", f"{host.cores}, of which this process may use {len(usable_cores())}"),
        ("memory", format_bytes(host.memory_bytes)),
        ("kernel", host.kernel),
        *((name, found or "not installed") for name, found in packages.items()),
    ]
    print_table("this machine", ("what", "found"), (), facts)
    rows = [(kind, row["name"], row["type"], row["detail"]) for kind, found in clusters.items() for row in found]
    rows += [(kind, "none", "", why) for kind, why in why_none.items()]
    print_table("devices that a scenario can use here", ("local", "device", "type", "detail"), (), rows)
    print_table("what will hurt accuracy here", ("",), (), [(warning,) for warning in warnings or ["nothing found"]])


def _device(cluster: Any, device: Any) -> dict[str, Any]:
    kind = cluster.device_types[device.type]
    detail = (
        f"cores {', '.join(map(str, device.cores))}, instruction set {kind.isa}" if kind.backend == "cpu" else kind.backend
    )
    return {"name": device.name, "type": device.type, "memory_bytes": kind.memory_bytes, "detail": detail}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _warnings() -> list[str]:
    """Things that make timings scatter or drift, each with what to do about it."""
    from hetsim.scenario.local import usable_cores

    rows = []
    cores = len(usable_cores())
    if cores < 2:
        rows.append("one core: the devices of a mixed CPU cluster share it, so they cannot work at the same time")
    load = os.getloadavg()[0]
    if load > _BUSY_LOAD * cores:
        rows.append(f"other work is running (load {load:.1f} on {cores} cores): stop it before calibrating")
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor.exists() and (mode := governor.read_text().strip()) != "performance":
        rows.append(f'the clock governor is "{mode}": clocks will wander; set it to "performance"')
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and "hypervisor" in cpuinfo.read_text():
        rows.append("a virtual machine: neighbours on the same host can slow it at any time; repeat what matters")
    return rows
