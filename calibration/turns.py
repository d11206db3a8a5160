"""Who works at once: devices that share processor cores are timed in turns, so that each has its cores to itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hetsim.hardware import Cluster, Device


def representatives(cluster: Cluster) -> Mapping[str, Device]:
    """Device type -> the device of it whose timings are kept: the first one that shares no core with those of the types before,
    or the first of all where each shares some."""
    chosen: dict[str, Device] = {}
    for kind in cluster.used_types:
        mine = [device for device in cluster.devices if device.type == kind.name]
        apart = [device for device in mine if not _meets(cluster, device, chosen.values())]
        chosen[kind.name] = (apart or mine)[0]
    return chosen


def turns(cluster: Cluster, devices: Sequence[Device]) -> list[list[Device]]:
    """Groups of `devices` of which no two share a core, each as large as it can be, so that no core rests without need.

    Every device is in one at least, the representatives of their types in the first ones. Where no cores are shared, there is one.
    """
    first = {device.name for device in representatives(cluster).values()}
    waiting = sorted(devices, key=lambda device: device.name not in first)
    groups: list[list[Device]] = []
    while waiting:
        group: list[Device] = []
        for device in [*waiting, *devices]:
            if device not in group and not _meets(cluster, device, group):
                group.append(device)
        groups.append(group)
        waiting = [device for device in waiting if device not in group]
    return groups


def sharing(cluster: Cluster) -> list[Device]:
    """The devices of `cluster` that share a core with another one."""
    everybody = cluster.devices
    return [device for device in everybody if _meets(cluster, device, [d for d in everybody if d is not device])]


def _meets(cluster: Cluster, device: Device, others: Iterable[Device]) -> bool:
    mine = set(cluster.cores_of(device.name))
    return any(mine & set(cluster.cores_of(other.name)) for other in others)
