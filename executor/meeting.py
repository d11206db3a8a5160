"""How the workers find each other, learn who is who, and start a step at one instant."""

from __future__ import annotations

import platform
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from executor.job import Job
from hetsim.errors import RunError

START_MARGIN_NS = 1_000_000
"""How far ahead the common start of a step is set: longer than the news of it takes to reach every rank."""

LOST_S = 300.0
"""A worker that waits for so long gives up. The coordinator sees a dead or hanging rank earlier: this is for when it is gone."""


class Meeting:
    """The workers of a job, met. Collective operations on the control group, which is gloo's whatever the devices are."""

    def __init__(self, job: Job, name: str) -> None:
        """Join as the device called `name`. Raises RunError where not exactly the job's devices have come."""
        self.timeout = timedelta(seconds=max(LOST_S, 2 * job.measure.timeout_s))
        dist.init_process_group("gloo", timeout=self.timeout)
        boot = Path("/proc/sys/kernel/random/boot_id")
        host = platform.node(), boot.read_text() if boot.exists() else ""
        told: list[tuple[str, tuple[str, str]]] = [("", ("", ""))] * dist.get_world_size()
        dist.all_gather_object(told, (name, host))
        self.ranks = {device: rank for rank, (device, _) in enumerate(told)}
        """The rank of each device, as the devices themselves told it: whoever started us may have shuffled them."""
        self._one_clock = len({host for _, host in told}) == 1
        if sorted(device for device, _ in told) != sorted(job.devices):
            came = ", ".join(device for device, _ in told)
            raise RunError(f"the job needs one worker for each of {', '.join(job.devices)}; those that came are {came}")

    def start_ns(self) -> int:
        """Returns at the start of a step, on the host's monotonic clock, when all workers are ready.

        On one host all workers have the same clock and start at the very same instant; on several, each starts when it
        hears that all are ready, and counts from there.
        """
        instant = torch.tensor([time.monotonic_ns() + START_MARGIN_NS])
        dist.all_reduce(instant, dist.ReduceOp.MAX)
        if not self._one_clock:
            return time.monotonic_ns()
        start_ns = int(instant)
        while time.monotonic_ns() < start_ns:
            pass
        return start_ns

    def leave(self) -> None:
        """Go when all are ready to go, so that nobody loses a neighbour while it still works."""
        dist.barrier()
        dist.destroy_process_group()
