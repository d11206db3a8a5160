"""A job: what one launch of processes has to do, and where each of them writes. No torch.

The coordinator writes the job to a file; every worker reads it and finds its own part by the name of its device.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hetsim.errors import InputError, PlanError, Problem
from hetsim.hardware import Cluster
from hetsim.hardware.binding import environment
from hetsim.plan import Plan
from hetsim.scenario.types import Measure, NetworkSpec
from hetsim.schedule import Schedule, make_schedule
from hetsim.workload import Chain, Training

JOB_FILE = "job.pickle"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A plan to be run, and what to call it in messages."""

    name: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of one worker."""

    path: Path

    @property
    def steps(self) -> Path:
        """One JSON line for each timed step that is finished."""
        return self.path / "steps.jsonl"

    @property
    def heartbeat(self) -> Path:
        """What the worker is doing, kept current."""
        return self.path / "heartbeat"

    @property
    def error(self) -> Path:
        """The exception that ended the worker, in the form of torch's elastic agent."""
        return self.path / "error.json"

    @property
    def log(self) -> Path:
        """All that the worker printed."""
        return self.path / "log.txt"

    def parameters(self, request: int) -> Path:
        """The worker's share of the parameters after the last step of a request."""
        return self.path / f"parameters-{request}.pt"


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker has to know."""

    requests: tuple[RunRequest, ...]
    schedules: tuple[Schedule, ...]
    """Of each request, made once, so that all workers and the simulator go by the same list."""

    network: NetworkSpec
    chain: Chain
    cluster: Cluster
    measure: Measure
    seed: int
    log_dir: Path
    keep_parameters: bool = False
    """Whether each worker saves its layers after the last step."""

    @property
    def training(self) -> Training:
        """What is trained with."""
        return self.network.training

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that any plan uses, in the order of the cluster; one worker each."""
        used = {device for request in self.requests for device in request.plan.devices}
        return tuple(device.name for device in self.cluster.devices if device.name in used)

    def folder(self, device: str) -> Folder:
        """Where the worker of `device` writes."""
        number = self.devices.index(device)
        return Folder(self.log_dir / f"{number}-{re.sub(r'[^A-Za-z0-9_-]', '_', device)}")

    @property
    def path(self) -> Path:
        """The file that the job is written to."""
        return self.log_dir / JOB_FILE

    def save(self) -> None:
        """Write the job, and empty the workers' folders."""
        for device in self.devices:
            folder = self.folder(device)
            folder.path.mkdir(parents=True, exist_ok=True)
            for stale in folder.path.iterdir():
                stale.unlink()
        self.path.write_bytes(pickle.dumps(self))

    @classmethod
    def load(cls, path: Path) -> Job:
        """The job that `path` holds; it must come from this machine's own coordinator, because it is unpickled."""
        job = pickle.loads(path.read_bytes())  # noqa: S301 - written by our own coordinator a moment ago
        assert isinstance(job, Job)
        return job


def make_job(
    requests: Sequence[RunRequest],
    network: NetworkSpec,
    chain: Chain,
    cluster: Cluster,
    *,
    measure: Measure,
    seed: int,
    log_dir: Path,
    keep_parameters: bool = False,
) -> Job:
    """The job of running `requests`. Raises InputError with every reason why one of them cannot be run here."""
    problems = [problem for request in requests for problem in _faults(request, network.training, chain, cluster)]
    if not requests:
        problems.append(Problem("", "there is no plan to run"))
    if problems:
        raise PlanError(dict.fromkeys(problems))
    return Job(
        requests=tuple(requests),
        schedules=tuple(make_schedule(request.plan, chain) for request in requests),
        network=replace(network, arguments=dict(network.arguments)),  # read-only views of mappings cannot be pickled
        chain=chain,
        cluster=replace(cluster, device_types=dict(cluster.device_types)),
        measure=measure,
        seed=seed,
        log_dir=log_dir.resolve(),
        keep_parameters=keep_parameters,
    )


def _faults(request: RunRequest, training: Training, chain: Chain, cluster: Cluster) -> list[Problem]:
    try:
        request.plan.check(chain, cluster, training.global_batch)
    except PlanError as error:
        return list(error.problems)
    problems: list[Problem] = []
    for name in request.plan.devices:
        try:
            environment(cluster.device(name), cluster.type_of(name))
        except InputError as error:
            problems += error.problems
    for replica in request.plan.replicas:
        backends = {cluster.type_of(device).backend for device in replica.devices}
        if not problems and len(backends) > 1:
            what = f"a pipeline over {' and '.join(sorted(backends))} devices, between which torch passes no messages"
            problems.append(Problem(f'plan "{request.plan}"', what, "Keep each replica on one backend"))
    return problems
