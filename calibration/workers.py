"""The workers of a calibration: one process a device, started with the device's environment, all at once."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from calibration.protocol import Setup
from hetsim.errors import CalibrationError, Problem
from hetsim.hardware import Cluster, Device
from hetsim.hardware.binding import environment
from hetsim.hardware.reach import command_on, is_remote, spans_hosts
from hetsim.lifeline import parent_environment
from hetsim.plain import to_plain
from hetsim.scenario.types import NetworkSpec

SILENCE_S = 300.0
"""A worker that says nothing for so long is taken for dead; the longest silence is one step of a slow device."""

LOOK_S, STOPPED_S = 2.0, 20.0
"""While nothing is said, the workers are looked at so often; one that somebody stopped may be let go on for so long."""

_END = None


class Workers:
    """A context manager: the processes live inside the `with` block and are gone after it, however it ends."""

    def __init__(
        self, devices: Sequence[Device], cluster: Cluster, networks: tuple[NetworkSpec, ...], seed: int, logs: Path
    ) -> None:
        self._devices = {device.name: device for device in devices}
        self._cluster = cluster
        self._networks = networks
        self._seed = seed
        self._logs = logs
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._replies: queue.Queue[tuple[str, dict[str, Any] | None]] = queue.Queue()

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        try:
            for device in self._devices.values():
                self._start(device)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def ask(
        self, commands: Mapping[str, Mapping[str, Any]], on_progress: Callable[[str, dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        """Give each named device its command, all at once, and return all results by device.

        Raises CalibrationError naming the device that died or fell silent, with the end of its log.
        """
        for name, command in commands.items():
            self._write(name, json.dumps(command))
        results: dict[str, Any] = {}
        heard_s = time.monotonic()
        while len(results) < len(commands):
            missing = sorted(set(commands) - set(results))
            try:
                name, reply = self._replies.get(timeout=LOOK_S)
            except queue.Empty:
                self._check_silence(missing, time.monotonic() - heard_s)
                continue
            heard_s = time.monotonic()
            if reply is _END:
                raise self._death(name)
            if "result" in reply:
                results[name] = reply["result"]
            elif on_progress is not None:
                on_progress(name, reply["progress"])
        return results

    def _check_silence(self, missing: Sequence[str], silent_s: float) -> None:
        """Raise CalibrationError where one of `missing` was stopped, or they have said nothing for too long."""
        stopped = [name for name in missing if self._is_stopped(name)]
        if stopped and silent_s > STOPPED_S:
            raise CalibrationError(
                f"{', '.join(stopped)} was stopped (SIGSTOP) {silent_s:.0f} s ago or more while calibrating"
            )
        if silent_s > SILENCE_S:
            raise CalibrationError(f"{', '.join(missing)} said nothing for {SILENCE_S:.0f} s while calibrating")

    def _is_stopped(self, name: str) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self._processes[name].pid).status() == psutil.STATUS_STOPPED
        return False

    def _start(self, device: Device) -> None:
        device_type, node = self._cluster.device_types[device.type], self._cluster.node_of(device.name)
        far = is_remote(node)
        command, environ = command_on(node, [sys.executable, "-m", "calibration.start"], environment(device, device_type))
        with self._log(device.name).open("w") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environ if far else {**environ, **parent_environment()},
                start_new_session=True,
            )
        self._processes[device.name] = process
        threading.Thread(target=self._listen, args=(device.name, process), daemon=True).start()
        addressed = node if spans_hosts(self._cluster, self._devices) else None
        setup = Setup(device, device_type, addressed, self._networks, self._seed)
        self._write(device.name, json.dumps(to_plain(setup)))

    def _listen(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with contextlib.suppress(ValueError):  # the pipe is closed under us when the block ends
            for line in process.stdout:
                self._replies.put((name, json.loads(line)))
        self._replies.put((name, _END))

    def _write(self, name: str, line: str) -> None:
        stdin = self._processes[name].stdin
        assert stdin is not None
        try:
            stdin.write(line + "\n")
            stdin.flush()
        except BrokenPipeError:
            raise self._death(name) from None

    def _stop(self) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._processes.values():
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        self._processes.clear()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name.replace('/', '-')}.log"

    def _death(self, name: str) -> CalibrationError:
        code = self._processes[name].wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        lines = [line for line in self._log(name).read_text(errors="replace").splitlines() if line.strip()]
        last = f": {lines[-1]}" if lines else ""
        return CalibrationError(Problem("", f"the worker of {name} {how}{last}", f"Its log is {self._log(name)}"))
