"""The way in: runs plans of one network for real, all in one launch of processes, their steps in alternation.

The coordinator starts a worker for each device, watches them, and reads what they write. A worker that dies or hangs ends
the run; whatever ends it, no process is left, and finished steps stay on disk.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executor import diagnosis
from executor.agents import Agents
from executor.heartbeat import Beat, read_beat
from executor.job import Job, RunRequest, make_job
from executor.processes import Processes, orderly_termination
from executor.results import Results
from hetsim.errors import RankError
from hetsim.hardware import Cluster
from hetsim.measurement import Measurement
from hetsim.scenario.types import Measure, NetworkSpec
from hetsim.workload import Chain

POLL_S = 0.2
"""Between two looks at whether the workers live."""

LOOK_S = 1.0
"""Between two looks at what they have done. The coordinator shares their cores, and a look takes it some milliseconds, by which a
step becomes longer."""

START_S = 120.0
"""Silence that is borne before the first step, while torch is loaded and the network is built; later `timeout_s` counts."""

CHECKPOINT_STEPS = 10
"""Between two states that are kept, where a run may be started again."""

GRACE_S = 1.0
"""After a first worker has ended badly: time for the others to end, so that cause and echo can be told apart."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one plan has come."""

    name: str
    """Of its request."""

    step: int
    """Finished steps."""

    steps: int
    """Steps in all."""

    median_s: float
    """Of the finished steps."""


def run(
    requests: Sequence[RunRequest],
    network: NetworkSpec,
    chain: Chain,
    cluster: Cluster,
    *,
    measure: Measure,
    log_dir: Path,
    seed: int = 0,
    keep_parameters: bool = False,
    identities: Mapping[str, Mapping[str, Any]] | None = None,
    max_restarts: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Measurement]:
    """Run the plans of `requests`, one step of each in turn, and return their measurements in the same order.

    `chain` is the network as the plans were made for it. Logs and records go to `log_dir`, a folder for each device; with
    `keep_parameters` each device also saves its layers there after the last step. A device that is not what `identities` has for
    its type (see `hetsim.hardware.identity`) ends the run before it begins.

    Raises PlanError with every reason why a plan cannot be run on this machine, before anything is started, and RankError
    when a worker dies, or when none has done anything for `measure.timeout_s`; `executor.results.collect` then finds what
    was finished.
    """
    job = make_job(
        requests,
        network,
        chain,
        cluster,
        measure=measure,
        seed=seed,
        log_dir=log_dir,
        keep_parameters=keep_parameters,
        identities=identities,
        checkpoint_steps=CHECKPOINT_STEPS if max_restarts else 0,
    )
    job.save()
    results = Results(job)
    started = Agents(job, max_restarts) if max_restarts else Processes(job)
    with orderly_termination(), started as processes:
        _Watch(job, processes, results, on_progress).until_done()
    return [measurement for measurement in results.measurements() if measurement is not None]


class _Watch:
    """The coordinator while the workers work."""

    def __init__(
        self, job: Job, processes: Processes | Agents, results: Results, on_progress: Callable[[Progress], None] | None
    ) -> None:
        self._job = job
        self._processes = processes
        self._results = results
        self._on_progress = on_progress
        self._heard_ns = time.monotonic_ns()
        self._beats: list[Beat | None] = []
        self._patience_s = max(START_S, job.measure.timeout_s)
        self._looked_s = 0.0

    def until_done(self) -> None:
        """Return when all workers have ended well. Raises RankError when one has not, or when all are silent."""
        while True:
            codes = self._processes.exit_codes()
            failed = any(diagnosis.has_failed(self._job, device, code) for device, code in codes.items())
            done = all(code == 0 for code in codes.values())
            is_due = time.monotonic() - self._looked_s > LOOK_S
            if is_due or failed or done:
                self._looked_s = time.monotonic()
                self._report()
            if failed:
                raise self._death()
            if done:
                return
            if is_due:
                self._check_silence()
            time.sleep(POLL_S)

    def _report(self) -> None:
        for number in self._results.refresh():
            seconds = self._results.seconds(number)
            if self._on_progress is not None:
                name = self._job.requests[number].name
                steps = self._job.measure.steps
                self._on_progress(Progress(name, len(seconds), steps, statistics.median(seconds)))

    def _death(self) -> RankError:
        end = time.monotonic() + GRACE_S
        while time.monotonic() < end and None in self._processes.exit_codes().values():
            time.sleep(POLL_S / 4)
        return diagnosis.death(self._job, self._processes.exit_codes())

    def _check_silence(self) -> None:
        beats = [read_beat(self._job.folder(device).heartbeat) for device in self._job.devices]
        if beats != self._beats:  # by our own clock: another host's has nothing to do with it
            self._heard_ns, self._beats = time.monotonic_ns(), beats
        if any(beat and beat.request >= 0 for beat in beats):
            self._patience_s = self._job.measure.timeout_s
        silent_s = (time.monotonic_ns() - self._heard_ns) / 1e9
        if silent_s > self._job.measure.timeout_s:
            stopped = [device for device in self._job.devices if self._processes.is_stopped(device)]
            if stopped or silent_s > self._patience_s:
                raise diagnosis.hang(self._job, stopped, silent_s)
