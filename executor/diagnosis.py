"""Why a run ended early: which worker was the first cause, and what it was doing. No torch."""

from __future__ import annotations

import json
import platform
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from executor.heartbeat import Beat, read_beat
from executor.job import Job
from hetsim.errors import Problem, RankError
from hetsim.hardware.reach import is_remote


def has_failed(job: Job, device: str, exit_code: int | None) -> bool:
    """Whether a worker has ended badly: with a bad status, or with a good one before its work was done."""
    return bool(exit_code) or (exit_code == 0 and not _has_finished(job, device))


def death(job: Job, exit_codes: Mapping[str, int | None]) -> RankError:
    """The error of a run in which workers have ended badly; `exit_codes` are of all workers, None for those that live.

    A worker that was killed by a signal, or left without a word, is a cause; one that raised an exception is the cause when
    it raised first, because the others raise when they miss it.
    """
    failed = {device: code for device, code in exit_codes.items() if code is not None and has_failed(job, device, code)}
    words = {device: _last_words(job, device) for device in failed}
    gone = [device for device, code in failed.items() if code < 0 or not words[device].message]
    if len(gone) > 1 and all(code > 0 for code in failed.values()):  # an agent's, which ends all workers when one has ended
        gone = sorted(gone, key=lambda device: _when(read_beat(job.folder(device).heartbeat)))[:1]
    culprits = gone or sorted(failed, key=lambda device: words[device].when_ns)[:1]
    problems = []
    for device in culprits:
        code = failed[device]
        ended = f"ended with exit code {code}" + (_last_line(job, device) if code else " before its work was done")
        said = f"raised {words[device].message}" if words[device].message else ended
        how = f"was killed by {_signal_name(code)}" if code < 0 else said
        problems.append(_problem(job, device, how, others=len(failed) - len(culprits)))
    return RankError(problems)


def hang(job: Job, stopped: list[str], silent_s: float) -> RankError:
    """The error of a run in which no worker has done anything for `silent_s` seconds; a signal has stopped the `stopped`.

    The cause is who was stopped, else who does not merely wait for another, else who fell silent first.
    """
    beats = {device: read_beat(job.folder(device).heartbeat) for device in job.devices}
    busy = [device for device, beat in beats.items() if beat is None or not beat.waiting]
    first = sorted(beats, key=lambda device: _when(beats[device]))[:1]
    culprits = stopped or busy or first
    how = "was stopped" if stopped else "has hung"
    return RankError(
        [
            _problem(job, device, f"{how}: nothing has happened for {silent_s:.0f} s", others=len(beats) - len(culprits))
            for device in culprits
        ]
    )


@dataclass(frozen=True, slots=True)
class _Words:
    """What a worker left behind."""

    when_ns: float
    message: str


def _last_words(job: Job, device: str) -> _Words:
    try:
        left: dict[str, Any] = json.loads(job.folder(device).error.read_text())["message"]
        return _Words(left["extraInfo"]["monotonic_ns"], left["message"])
    except (FileNotFoundError, ValueError):
        return _Words(float("inf"), "")


def _last_line(job: Job, device: str) -> str:
    """The end of the log of a worker that left no word, as ssh does that finds no way."""
    log = job.folder(device).log
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f" ({lines[-1].strip()})" if lines else ""


def _problem(job: Job, device: str, how: str, *, others: int) -> Problem:
    rank, beat, folder = job.devices.index(device), read_beat(job.folder(device).heartbeat), job.folder(device)
    echo = f"; {others} other rank{'s' if others > 1 else ''} ended because of it" if others else ""
    return Problem(
        f"rank {rank} (device {device} on host {_host(job, device)})",
        f"{how}, {_doing(job, beat)}{echo}",
        f"Its log is {folder.log}; the finished steps are kept beside it",
    )


def _host(job: Job, device: str) -> str:
    node = job.cluster.node_of(device)
    return node.address or (node.name if is_remote(node) else platform.node())


def _doing(job: Job, beat: Beat | None) -> str:
    if beat is None:
        return "before it had started"
    doing = f"while waiting for {beat.doing}" if beat.waiting else f"at {beat.doing}"
    if beat.request < 0:
        return doing
    step = f"step {beat.step}" if beat.step >= 0 else "the warm-up"
    return f"{doing} in {step} of {job.requests[beat.request].name}"


def _has_finished(job: Job, device: str) -> bool:
    beat = read_beat(job.folder(device).heartbeat)
    return beat is not None and beat.is_last


def _signal_name(code: int) -> str:
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name} (out of memory, perhaps)" if name == "SIGKILL" else name


def _when(beat: Beat | None) -> int:
    return beat.when_ns if beat else 0
