"""Process groups by the names of devices, whatever ranks they came to have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import torch.distributed as dist

from hetsim.hardware import Cluster
from hetsim.hardware.transport import let_operations_preempt


class Groups:
    """Makes each group once. Collective: all workers must ask for the same groups in the same order."""

    def __init__(self, ranks: Mapping[str, int], cluster: Cluster, timeout: timedelta) -> None:
        """`ranks` gives each device's rank; an operation that takes longer than `timeout` fails."""
        self._ranks = ranks
        self._cluster = cluster
        self._timeout = timeout
        self._made: dict[tuple[frozenset[str], int], dist.ProcessGroup] = {}

    def of(self, devices: Sequence[str], copy: int = 0) -> dist.ProcessGroup:
        """The group of `devices`: NCCL's among CUDA devices, else gloo's; a `copy` is a further group of the same."""
        key = (frozenset(devices), copy)
        if key not in self._made:
            cuda = all(self._cluster.type_of(device).backend == "cuda" for device in devices)
            ranks = sorted(self._ranks[device] for device in devices)
            self._made[key] = dist.new_group(ranks, self._timeout, "nccl" if cuda else "gloo")
            let_operations_preempt()
        return self._made[key]

    def pair(self, devices: Sequence[str]) -> tuple[dist.ProcessGroup, dist.ProcessGroup]:
        """Two groups of the same members, whose messages do not wait for one another."""
        return self.of(devices), self.of(devices, 1) if len(devices) > 1 else self.of(devices)

    def rank_within(self, devices: Sequence[str], device: str) -> int:
        """The rank of `device` in the group of `devices`; torch numbers a group in the order of the global ranks."""
        return sorted(self._ranks[d] for d in devices).index(self._ranks[device])
