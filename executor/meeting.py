"""How the workers find each other, learn who is who, and start a step at one instant."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from executor.job import Job
from hetsim.errors import Problem, RunError
from hetsim.hardware.clocks import Clocks
from hetsim.hardware.identity import host_identity, identity, piece

START_MARGIN_NS = 1_000_000
"""How far ahead the common start of a step is set: longer than the news of it takes to reach every rank."""

FAR_MARGIN_NS = 10_000_000
"""The same where ranks are on several hosts."""

LOST_S = 300.0
"""A worker that waits for so long gives up. The coordinator sees a dead or hanging rank earlier: this is for when it is gone."""


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a worker says of itself when the workers meet."""

    device: str
    host: str
    """The same text for all processes that share a clock."""

    piece: str
    """Which piece of the host's hardware it is, where no two devices can be the same; else empty."""

    identity: Mapping[str, Any]


class Meeting:
    """The workers of a job, met. Collective operations on the control group, which is gloo's whatever the devices are."""

    def __init__(self, job: Job, name: str) -> None:
        """Join as the device called `name`. Raises RunError where not exactly the job's devices have come, each as itself."""
        self.timeout = timedelta(seconds=max(LOST_S, 2 * job.measure.timeout_s))
        store, rank, world = next(iter(dist.rendezvous("env://", timeout=self.timeout)))  # type: ignore[attr-defined]
        # An agent that starts the workers again keeps its store, and with it the addresses of those that are gone.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"attempt {attempt}", store)  # type: ignore[attr-defined]
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=self.timeout)
        device, device_type = job.cluster.device(name), job.cluster.type_of(name)
        mine = Introduction(name, host_identity(), piece(device, device_type), identity(device, device_type))
        told: list[Introduction] = [mine] * dist.get_world_size()
        dist.all_gather_object(told, mine)
        if problems := list(impostors(job, told)):
            raise RunError(problems)
        self.ranks = {row.device: rank for rank, row in enumerate(told)}
        """The rank of each device, as the devices themselves told it: whoever started us may have shuffled them."""
        self.clocks = Clocks(mine.host)

    def start_ns(self) -> int:
        """Returns at the start of a step, on this host's monotonic clock, when all workers are ready.

        All start at the same instant: on one host by the clock that they share, on several as nearly as their clocks can be
        compared.
        """
        self.clocks.compare()
        margin_ns = START_MARGIN_NS if self.clocks.are_one else FAR_MARGIN_NS
        instant = torch.tensor([self.clocks.now_ns() + margin_ns])
        dist.all_reduce(instant, dist.ReduceOp.MAX)
        start_ns = int(instant) - self.clocks.ahead_ns
        while time.monotonic_ns() < start_ns:
            pass
        return start_ns

    def end_step(self) -> None:
        """Go on when all have ended the step: what is done between steps would take cores and memory from who still trains."""
        dist.barrier()

    def leave(self) -> None:
        """Go when all are ready to go, so that nobody loses a neighbour while it still works."""
        dist.barrier()
        dist.destroy_process_group()


def impostors(job: Job, told: Sequence[Introduction]) -> Iterator[Problem]:
    """Why those that came cannot be the devices of `job`: missing, too many, one piece of hardware twice, other hardware."""
    came = [row.device for row in told]
    if sorted(came) != sorted(job.devices):
        yield Problem(
            "", f"the job needs one worker for each of {', '.join(job.devices)}; those that came are {', '.join(came)}"
        )
        return
    pieces: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in told:
        pieces[row.host, row.piece].append(row.device)
    for (_, found), names in pieces.items():
        if found and len(names) > 1:
            yield Problem("", f"{' and '.join(names)} are one and the same accelerator, {found}", "Give each its own index")
    measured = dict(job.identities)
    for row in told:
        kind = job.cluster.device(row.device).type
        expected = measured.setdefault(kind, row.identity)
        differing = [key for key, value in row.identity.items() if key in expected and expected[key] != value]
        if job.cluster.device_types[kind].backend == "cuda":
            differing = [key for key in differing if not key.startswith("host_")]
        if differing:
            got = ", ".join(f"{key} {json.dumps(row.identity[key])}" for key in differing)
            wanted = ", ".join(f"{key} {json.dumps(expected[key])}" for key in differing)
            what = (
                f"is not what the others of type {kind} are, or were when they were calibrated: got {got}, expected {wanted}"
            )
            yield Problem(f"device {row.device}", what, "Mend the scenario, or calibrate again")
