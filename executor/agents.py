"""Torch elastic's agents, one a node: each starts its node's workers, and all workers anew when one of them ends badly."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from executor.by_hand import commands
from executor.job import Job
from hetsim.hardware.reach import command_on, is_remote, nodes_of, spans_hosts
from hetsim.lifeline import parent_environment


class Agents:
    """A context manager like `executor.processes.Processes`, for a run that may be started again."""

    def __init__(self, job: Job, max_restarts: int) -> None:
        self._job = job
        self._max_restarts = max_restarts
        self._agents: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        with socket.create_server(("", 0)) as listener:  # the port was free a moment ago, which is the best one can know
            port = listener.getsockname()[1]
        lines = commands(self._job, port=port, max_restarts=self._max_restarts)
        try:
            for node in nodes_of(self._job.cluster, self._job.devices):
                variables = {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
                if not spans_hosts(self._job.cluster, self._job.devices):
                    variables |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
                words = ["executor.agent" if word == "torch.distributed.run" else word for word in lines[node.name]]
                command, environ = command_on(node, words, variables)
                with (self._job.log_dir / f"agent-{node.name}.txt").open("wb") as log:
                    self._agents[node.name] = subprocess.Popen(
                        command,
                        env=environ if is_remote(node) else {**environ, **parent_environment()},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def exit_codes(self) -> Mapping[str, int | None]:
        """Device -> its agent's exit status; None while that lives, and may yet start the worker again."""
        return {name: self._agents[self._job.cluster.device(name).node].poll() for name in self._job.devices}

    def is_stopped(self, _device: str) -> bool:
        """Agents are not stopped; a worker that is, is told by its silence."""
        return False

    def _end(self) -> None:
        import psutil

        for agent in self._agents.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                family = psutil.Process(agent.pid).children(recursive=True)  # workers have sessions of their own
                agent.send_signal(signal.SIGKILL)
                for process in family:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
        for agent in self._agents.values():
            agent.wait()
