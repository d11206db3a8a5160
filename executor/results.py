"""From what the workers wrote to measurements. No torch."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from executor.job import JOB_FILE, Job
from hetsim.measurement import Measurement, span
from hetsim.plan import Plan
from hetsim.schedule import Action, Kind
from hetsim.timeline import Timeline

_RECEIVED_AS = {Kind.SEND_F: Kind.RECV_F, Kind.SEND_B: Kind.RECV_B}


@dataclass(slots=True)
class _Step:
    """What the workers told of one step of one plan, so far."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Device -> its record."""

    attempt: int = 0
    """How often the run had been started again when these were written."""

    def add(self, row: dict[str, Any], device: str, plan: Plan) -> bool:
        """Take the record of `device`; whether it completes the step. One that a restart repeats begins anew, unless it was."""
        if self.is_complete(plan):
            return False
        if row["attempt"] > self.attempt:
            self.rows.clear()
            self.attempt = row["attempt"]
        if row["attempt"] == self.attempt:
            self.rows[device] = row
        return self.is_complete(plan)

    def is_complete(self, plan: Plan) -> bool:
        """Whether every device of the plan has told."""
        return self.rows.keys() >= set(plan.devices)

    @property
    def seconds(self) -> float:
        """From the start to the end of the last device's last action."""
        return float(max(end for row in self.rows.values() for _, _, end in row["spans"]) / 1e9)

    @property
    def loss(self) -> float:
        """The sum of the shares of all devices that have a loss."""
        return float(sum(row["loss"] for row in self.rows.values() if row["loss"] is not None))

    @property
    def timeline(self) -> Timeline:
        """The spans of all devices."""
        return Timeline.of(span(device, *columns) for device, row in self.rows.items() for columns in row["spans"])


def arrivals(plan: Plan, timeline: Timeline) -> Timeline:
    """`timeline` with each SEND ending when its message arrives, as the receiver saw it.

    The sender itself learns only when it next asks that the message has gone, which is at the end of the step.
    """
    replica_of = {device: replica for replica in plan.replicas for device in replica.devices}
    ends = {(s.device, s.action): s.end_ns for s in timeline.spans if s.kind in (Kind.RECV_F, Kind.RECV_B)}
    spans = []
    for sent in timeline.spans:
        if sent.kind in _RECEIVED_AS:
            action = Action.parse(sent.action)
            stage = action.stage + (1 if sent.kind is Kind.SEND_F else -1)
            receiver = replica_of[sent.device].stages[stage].device
            received = str(Action(stage, _RECEIVED_AS[sent.kind], action.item))
            sent = sent._replace(end_ns=max(sent.start_ns, ends[receiver, received]))
        spans.append(sent)
    return Timeline.of(spans)


class Results:
    """The finished steps of a job, read as the workers write them."""

    def __init__(self, job: Job) -> None:
        self._plans = [request.plan for request in job.requests]
        self._recorded = [request.recorded for request in job.requests]
        self._files = {device: job.folder(device).steps for device in job.devices}
        self._read_bytes = dict.fromkeys(job.devices, 0)
        self._steps: list[dict[int, _Step]] = [{} for _ in job.requests]
        self._seconds: list[list[float]] = [[] for _ in job.requests]

    def refresh(self) -> list[int]:
        """Read what is new; the indices of the requests that have gained finished steps."""
        before = [len(seconds) for seconds in self._seconds]
        for device, path in self._files.items():
            for row in self._new_rows(device, path):
                plan, step = self._plans[row["request"]], self._steps[row["request"]].setdefault(row["step"], _Step())
                if step.add(row, device, plan):
                    self._seconds[row["request"]].append(step.seconds)
        return [number for number, count in enumerate(before) if len(self._seconds[number]) > count]

    def seconds(self, request: int) -> Sequence[float]:
        """Of the finished steps of a request."""
        return self._seconds[request]

    def timelines(self, request: int) -> list[Timeline]:
        """Of each finished step of a request."""
        plan, steps = self._plans[request], self._steps[request]
        return [arrivals(plan, steps[number].timeline) for number in sorted(steps) if steps[number].is_complete(plan)]

    def measurements(self) -> list[Measurement | None]:
        """What the finished steps of each request come to; None where there are none."""
        return [self._measurement(request) for request in range(len(self._plans))]

    def _measurement(self, request: int) -> Measurement | None:
        plan, steps = self._plans[request], self._steps[request]
        done = [steps[number] for number in sorted(steps) if steps[number].is_complete(plan)]
        if not done:
            return None
        median = sorted(done, key=lambda step: step.seconds)[(len(done) - 1) // 2]
        peaks = {
            device: max(step.rows[device]["peak_bytes"] for step in done)
            for device in plan.devices
            if done[0].rows[device]["peak_bytes"] is not None
        }
        canary_s = {device: statistics.median(step.rows[device]["canary_s"] for step in done) for device in plan.devices}
        return Measurement(
            plan=plan,
            step_s=tuple(step.seconds for step in done),
            losses=tuple(step.loss for step in done),
            timeline=arrivals(plan, median.timeline) if self._recorded[request] else median.timeline,
            peak_bytes=peaks,
            canary_s=canary_s,
        )

    def _new_rows(self, device: str, path: Path) -> list[dict[str, Any]]:
        if not path.exists() or path.stat().st_size == self._read_bytes[device]:
            return []
        with path.open("rb") as file:
            file.seek(self._read_bytes[device])
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]  # a line may be half written
        self._read_bytes[device] += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def results_in(log_dir: Path) -> Results:
    """The finished steps that a run left in `log_dir`."""
    results = Results(replace(Job.load(log_dir / JOB_FILE), log_dir=log_dir))  # which may have been moved meanwhile
    results.refresh()
    return results


def collect(log_dir: Path) -> list[Measurement | None]:
    """The measurement of each request from what a run left in `log_dir`, even if it failed; None where no step finished."""
    return results_in(log_dir).measurements()
