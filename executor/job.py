"""A job: what one launch of processes has to do, and where each of them writes. No torch.

The coordinator writes the job to a file; every worker reads it and finds its own part by the name of its device.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hetsim.errors import InputError, PlanError, Problem
from hetsim.files import write_text
from hetsim.hardware import Cluster
from hetsim.hardware.binding import environment
from hetsim.plain import from_plain, to_plain
from hetsim.plan import Exchange, Plan
from hetsim.reading import read_text
from hetsim.scenario.types import Measure, NetworkSpec
from hetsim.schedule import Schedule, make_schedule
from hetsim.workload import Chain, Training

JOB_FILE = "job.json"

_FORMAT = "hetsim job"
_SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A plan to be run, and what to call it in messages."""

    name: str
    plan: Plan
    recorded: bool = True
    """Whether every action is recorded, rather than the updates alone, with which a step ends."""


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

    def checkpoint(self, step: int) -> Path:
        """The worker's state at the beginning of a step."""
        return self.path / f"checkpoint-{step}.pt"

    def parameters(self, request: int) -> Path:
        """The worker's share of the parameters after the last step of a request."""
        return self.path / f"parameters-{request}.pt"


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker has to know."""

    requests: tuple[RunRequest, ...]
    network: NetworkSpec
    chain: Chain
    cluster: Cluster
    measure: Measure
    seed: int
    log_dir: Path
    keep_parameters: bool = False
    """Whether each worker saves its layers after the last step."""

    checkpoint_steps: int = 0
    """After how many steps each worker keeps its state, to go on from when it is started again; 0: never."""

    identities: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Device type -> what its devices were when they were calibrated; a type that was not is left out."""

    @property
    def training(self) -> Training:
        """What is trained with."""
        return self.network.training

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that any plan uses, in the order of the cluster; one worker each."""
        used = {device for request in self.requests for device in request.plan.devices}
        return tuple(device.name for device in self.cluster.devices if device.name in used)

    def schedule(self, request: int) -> Schedule:
        """What the devices of a request do in a step: the same list for every worker, because plan and chain say it all."""
        return make_schedule(self.requests[request].plan, self.chain)

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
        document = {"format": _FORMAT, "schema_version": _SCHEMA_VERSION, "job": to_plain(self)}
        write_text(self.path, json.dumps(document, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Job:
        """The job that `path` holds. Raises InputError where it holds none, or one of another version of hetsim."""
        text = read_text(path, InputError)
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(Problem(f"{path}:{error.lineno}:{error.colno}", f"is not JSON: {error.msg}")) from None
        except (ValueError, RecursionError) as error:
            raise InputError(Problem(str(path), f"is no JSON that can be read: {error}")) from None
        if not isinstance(document, dict) or document.get("format") != _FORMAT:
            raise InputError(Problem(str(path), f'is not a job: expected an object with "format": "{_FORMAT}"'))
        if document.get("schema_version") != _SCHEMA_VERSION:
            got = document.get("schema_version")
            mend = "Start the workers with the version of hetsim that wrote it"
            raise InputError(Problem(str(path), f"got schema_version {got}, expected {_SCHEMA_VERSION}", mend))
        try:
            return from_plain(cls, document["job"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(Problem(str(path), f"does not have the entries of a job: {error}")) from None


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
    checkpoint_steps: int = 0,
    identities: Mapping[str, Mapping[str, Any]] | None = None,
) -> Job:
    """The job of running `requests`. Raises PlanError with every reason why one of them cannot be run here."""
    problems = [problem for request in requests for problem in _faults(request, network.training, chain, cluster)]
    if not requests:
        problems.append(Problem("", "there is no plan to run"))
    if problems:
        raise PlanError(dict.fromkeys(problems))
    return Job(
        requests=tuple(requests),
        network=network,
        chain=chain,
        cluster=cluster,
        measure=measure,
        seed=seed,
        log_dir=log_dir.resolve(),
        keep_parameters=keep_parameters,
        checkpoint_steps=checkpoint_steps,
        identities=identities or {},
    )


def _faults(request: RunRequest, training: Training, chain: Chain, cluster: Cluster) -> list[Problem]:
    try:
        request.plan.check(chain, cluster, training.global_batch)
        make_schedule(request.plan, chain)
    except PlanError as error:
        return list(error.problems)
    problems = list(_only_simulated(request.plan))
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


def _only_simulated(plan: Plan) -> Iterator[Problem]:
    """What of `plan` can be predicted but not run."""
    parts = {
        "tensor-parallel groups": any(stage.partners for replica in plan.replicas for stage in replica.stages),
        f"the exchange {plan.exchange}": plan.exchange != Exchange(),
    }
    for what, there in parts.items():
        if there:
            yield Problem(f'plan "{plan}"', f"{what} can be predicted, but not run yet", "Predict it: hetsim predict")
