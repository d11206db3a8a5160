"""Process groups by the names of devices, whatever ranks they came to have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import torch.distributed as dist

from hetsim.hardware import Cluster
from hetsim.hardware.transport import for_exchanges


class Groups:
    """Makes each group once. Collective: all workers must ask for the same groups in the same order."""

    def __init__(self, ranks: Mapping[str, int], cluster: Cluster, timeout: timedelta) -> None:
        """`ranks` gives each device's rank; an operation that takes longer than `timeout` fails."""
        self._ranks = ranks
        self._cluster = cluster
        self._timeout = timeout
        self._made: dict[tuple[frozenset[str], str], dist.ProcessGroup] = {}

    def exchanging(self, devices: Sequence[str]) -> dist.ProcessGroup:
        """The group in which `devices` exchange gradients."""
        with for_exchanges():
            return self._of(devices, "exchange")

    def pair(self, devices: Sequence[str]) -> tuple[dist.ProcessGroup, dist.ProcessGroup]:
        """Two groups of `devices`, whose messages do not wait for one another: for activations and for their gradients."""
        forward = self._of(devices, "forward")
        return forward, self._of(devices, "backward") if len(devices) > 1 else forward

    def rank_within(self, devices: Sequence[str], device: str) -> int:
        """The rank of `device` in the group of `devices`; torch numbers a group in the order of the global ranks."""
        return sorted(self._ranks[d] for d in devices).index(self._ranks[device])

    def _of(self, devices: Sequence[str], use: str) -> dist.ProcessGroup:
        """NCCL's among CUDA devices, else gloo's."""
        key = (frozenset(devices), use)
        if key not in self._made:
            cuda = all(self._cluster.type_of(device).backend == "cuda" for device in devices)
            ranks = sorted(self._ranks[device] for device in devices)
            self._made[key] = dist.new_group(ranks, self._timeout, "nccl" if cuda else "gloo")
        return self._made[key]
