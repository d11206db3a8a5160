"""The loop of a worker: all plans in turn, one step each, until every plan has had its steps."""

from __future__ import annotations

import gc
import json
import os
from typing import Any, TextIO

import torch.distributed as dist

from executor.batches import Batches, make_batches
from executor.checkpoints import Checkpoints
from executor.execution import Execution, make_execution
from executor.groups import Groups
from executor.heartbeat import Heartbeat
from executor.job import Job
from executor.meeting import Meeting
from executor.memory import PeakMemory
from executor.recording import Recorder, make_recorder
from hetsim.errors import NetworkError, RunError
from hetsim.hardware.binding import pin, torch_device
from hetsim.hardware.canary import Canary
from hetsim.models.network import Network
from hetsim.models.zoo import build
from hetsim.workload import Chain

FEWEST_WARM_UP_STEPS = 2
"""In the first step everything is allocated and the buckets are filled in another order; the second is the first usual."""


def train(job: Job, name: str, heartbeat: Heartbeat) -> None:
    """Run the job's plans on the device called `name`. Returns when all steps of all plans are done."""
    device, device_type = job.cluster.device(name), job.cluster.type_of(name)
    pin(device, device_type)
    here = torch_device(device, device_type)
    heartbeat.wait("the other workers")
    meeting = Meeting(job, name)
    heartbeat.ahead_ns = meeting.clocks.ahead_ns
    heartbeat.work("building the network")
    network = build(job.network, job.seed)
    check_network(network, job.chain)
    recorder = make_recorder(here, heartbeat)
    groups = Groups(meeting.ranks, job.cluster, meeting.timeout)
    heartbeat.wait("the other workers")
    memories = [PeakMemory(here, alone=len(job.requests) == 1) for _ in job.requests]
    executions: list[Execution | None] = []
    for number, memory in enumerate(memories):
        with memory.counted():
            executions.append(make_execution(job, number, network, name=name, device=here, groups=groups, recorder=recorder))
    checkpoints = Checkpoints(job.folder(name), executions) if job.checkpoint_steps else None
    first = checkpoints.resume() if checkpoints else None
    heartbeat.work("loading the dataset")
    batches = make_batches(job, network)
    with job.folder(name).steps.open("w" if first is None else "a") as steps:
        _Loop(job, batches, meeting, recorder, executions, memories, Canary(here), steps, checkpoints).run(first)
    bring_home(job, name)
    if job.keep_parameters:
        for number, execution in enumerate(executions):
            if execution is not None:
                execution.save_parameters(job.folder(name).parameters(number))
    heartbeat.wait("the other workers to finish")
    meeting.leave()


def bring_home(job: Job, name: str) -> None:
    """Give the first rank the records of all, which it writes where its host has not got them: not all hosts share a folder."""
    mine = name, job.folder(name).steps.read_text()
    told: list[tuple[str, str]] = [mine] * dist.get_world_size()
    dist.gather_object(mine, told if dist.get_rank() == 0 else None)
    for device, text in told if dist.get_rank() == 0 else ():
        folder = job.folder(device)
        if not folder.steps.exists():
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.steps.write_text(text)


def check_network(network: Network, chain: Chain) -> None:
    """Raise NetworkError where `network` is not the one that `chain` counts, for which the plans were made."""
    built = [tuple(p.numel() for p in layer.parameters() if p.requires_grad) for layer in network.model]
    counted = [layer.parameters for layer in chain.layers]
    if built != counted:
        raise NetworkError(
            f'network "{network.name}" has {len(built)} layers with {sum(map(sum, built))} parameters when it is built, but '
            f"the plans were made for {len(counted)} layers with {sum(map(sum, counted))} parameters; plan again"
        )


class _Loop:
    """The steps of all plans."""

    def __init__(
        self,
        job: Job,
        batches: Batches,
        meeting: Meeting,
        recorder: Recorder[Any],
        executions: list[Execution | None],
        memories: list[PeakMemory],
        canary: Canary,
        steps: TextIO,
        checkpoints: Checkpoints | None,
    ) -> None:
        self._job = job
        self._batches = batches
        self._meeting = meeting
        self._recorder = recorder
        self._executions = executions
        self._memories = memories
        self._canary = canary
        self._steps = steps
        self._checkpoints = checkpoints
        self._attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        self._parent = os.getppid()

    def run(self, first: int | None) -> None:
        """Warm every plan up, then time its steps; one step of each plan in turn, so that drift hits all alike.

        A batch is made, and the garbage is collected, between the steps and never inside one. A run that goes on from step `first`
        has been warm; what is done once is done in that step.
        """
        gc.disable()
        job = self._job
        warm_up = max(job.measure.warmup_steps, FEWEST_WARM_UP_STEPS)
        begin = -warm_up if first is None else first
        for step in range(begin, job.measure.steps):
            if self._checkpoints and step > begin and step % job.checkpoint_steps == 0:
                self._recorder.heartbeat.work("keeping its state")
                self._checkpoints.save(step)
            for number, execution in enumerate(self._executions):
                self._recorder.heartbeat.at(number, step)
                canary_s = self._canary.time_s()  # ahead of the steps that lead in, which warm the caches again
                for _ in range(job.measure.lead_in_steps if step >= 0 else 0):
                    self._step(number, execution, step, warm_up)
                self._step(number, execution, step, warm_up, canary_s if step >= 0 else None)
                if step == begin and execution is not None:
                    execution.settle_in()
            if step < 0 or step == begin:
                gc.freeze()  # what lives now lives to the end
            gc.collect()

    def _step(
        self,
        number: int,
        execution: Execution | None,
        step: int,
        warm_up: int,
        canary_s: float | None = None,
    ) -> None:
        """One step of one plan; a worker without a place in it only keeps its start and end. With a canary the step is recorded."""
        if os.getppid() != self._parent:
            raise RunError("the coordinator is gone")
        if execution is None:
            self._recorder.heartbeat.wait("the start of a step")
            self._meeting.start_ns()
            self._recorder.heartbeat.wait("the end of the step")
            self._meeting.end_step()
            return
        self._recorder.is_sparse = not self._job.requests[number].recorded
        with self._memories[number].counted():
            self._recorder.heartbeat.work("loading the batch")
            mine = execution.load(self._batches, step + warm_up)
            self._recorder.clock.settle()
            self._recorder.heartbeat.wait("the start of a step")
            self._recorder.start(self._meeting.start_ns())
            loss = execution.step(*mine)
            rows = self._recorder.rows()
            self._recorder.heartbeat.wait("the end of the step")
            self._meeting.end_step()
        if canary_s is not None:
            record = {
                "request": number,
                "step": step,
                "attempt": self._attempt,
                "loss": None if loss is None else float(loss),
                "canary_s": canary_s,
                "peak_bytes": self._memories[number].peak_bytes,
                "spans": rows,
            }
            self._steps.write(json.dumps(record) + "\n")
            self._steps.flush()
