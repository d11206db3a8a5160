"""The cluster that this machine makes: a mixed one of capped CPU cores, or its CUDA devices."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Literal, get_args

from hetsim.errors import Problem, ScenarioError
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.scenario.naming import DeviceNames

LocalKind = Literal["mixed-cpu", "cuda"]

_LOOPBACK = Link("loopback", latency_s=50e-6, bandwidth_bytes_per_s=2e9)
"""Nominal, between processes of one machine. Calibration measures what it really is, and that is used from then on."""

_NODE = "local"
_MIXED_DEVICES = 4
"""At most: more cores than that add nothing to a demonstration, and a laptop has other work too."""

_THREADED_CORES = 3
"""What a mix by thread counts takes: two for the fast device, one for the slow."""


def local_cluster(kind: LocalKind) -> Cluster:
    """The cluster of one node that `kind` names on this machine. Raises ScenarioError where the machine cannot make it.

    `mixed-cpu`: single cores, every other one capped to SSE4.2 and so genuinely slower, differently for every kind of
    layer; where the instruction set cannot be capped, a device of two threads beside one of one.
    `cuda`: every CUDA device, with one device type for each name of a GPU.
    """
    if kind == "cuda":
        return _cuda_cluster()
    if kind == "mixed-cpu":
        return mixed_cpu_cluster(usable_cores(), can_cap=platform.machine().lower() in ("x86_64", "amd64"))
    raise ScenarioError(Problem(f"local: {kind}", f'got "{kind}", expected {" or ".join(get_args(LocalKind))}'))


def usable_cores() -> tuple[int, ...]:
    """The cores that this process may run on, in rising order."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def mixed_cpu_cluster(cores: Sequence[int], *, can_cap: bool) -> Cluster:
    """The mixed cluster of `cores`; `can_cap` says whether the instruction set of a process can be capped.

    Raises ScenarioError where neither caps nor thread counts can make two unlike devices.
    """
    pinned: list[tuple[str, tuple[int, ...]]]
    if can_cap:
        wanted = min(len(cores) // 2 * 2, _MIXED_DEVICES) or 2
        pinned = [("fast" if i % 2 == 0 else "slow", (cores[i % len(cores)],)) for i in range(wanted)]
    elif len(cores) >= _THREADED_CORES:
        pinned = [("fast", tuple(cores[:2])), ("slow", (cores[2],))]
    else:
        raise ScenarioError(
            Problem(
                "local: mixed-cpu",
                f"got {len(cores)} usable core{'s' * (len(cores) != 1)} of a {platform.machine()} processor, whose "
                f"instruction set cannot be capped; expected an x86-64 processor or {_THREADED_CORES} cores",
                "Write the cluster out: device_types with backend: cpu, and nodes",
            )
        )
    return _one_node(_cpu_types(can_cap=can_cap, devices=len(pinned)), pinned=pinned)


def _cpu_types(*, can_cap: bool, devices: int) -> list[DeviceType]:
    import psutil

    memory_bytes = psutil.virtual_memory().total // devices
    return [
        DeviceType("fast", "cpu", memory_bytes, threads=1 if can_cap else 2),
        DeviceType("slow", "cpu", memory_bytes, isa="sse4.2" if can_cap else "full"),
    ]


def _one_node(types: Sequence[DeviceType], *, pinned: Sequence[tuple[str, tuple[int, ...]]]) -> Cluster:
    names = DeviceNames()
    devices = tuple(Device(names.next(kind), kind, _NODE, cores=cores) for kind, cores in pinned)
    return Cluster((Node(_NODE, devices, _LOOPBACK),), {kind.name: kind for kind in types}, _LOOPBACK)


def _cuda_cluster() -> Cluster:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise ScenarioError(
            Problem(
                "local: cuda",
                f"torch {torch.__version__} finds no CUDA device on this machine",
                "Check nvidia-smi and that torch was built for CUDA, or write local: mixed-cpu",
            )
        )
    found = [(torch.cuda.get_device_name(i), torch.cuda.get_device_properties(i).total_memory) for i in range(count)]
    return cuda_cluster(found)


def cuda_cluster(found: Sequence[tuple[str, int]]) -> Cluster:
    """The cluster of the GPUs `found`: name and bytes of memory of each, in the order of their ordinals.

    GPUs of one name are one device type, which has the memory of the smallest of them.
    """
    types: dict[str, DeviceType] = {}
    devices = []
    names = DeviceNames()
    for index, (full_name, memory_bytes) in enumerate(found):
        kind = full_name.removeprefix("NVIDIA ")
        smallest = min(memory_bytes, types[kind].memory_bytes or memory_bytes) if kind in types else memory_bytes
        types[kind] = DeviceType(kind, "cuda", smallest)
        devices.append(Device(names.next(kind), kind, _NODE, index=index))
    return Cluster((Node(_NODE, tuple(devices), _LOOPBACK),), types, _LOOPBACK)
