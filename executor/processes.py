"""The worker processes of a job on this machine: started together, and gone together."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from executor.job import Job
from hetsim.hardware.binding import environment
from hetsim.hardware.reach import command_on, is_remote, own_address, spans_hosts
from hetsim.lifeline import parent_environment


class Processes:
    """A context manager: the workers live inside the block, and none of them, nor what they started, after it.

    They find each other through a store that this process holds, on a port that the system chose, so two runs cannot collide: on
    the loopback interface, or where nodes are other hosts, on that which leads to them. Those hosts have to have this project, the
    scenario's code and the run directory at the same paths as here.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._workers: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        address = own_address(self._job.cluster, self._job.devices)
        listener = socket.create_server((address, 0))
        port = listener.getsockname()[1]
        # The store takes the socket over, and closes it.
        self._store = TCPStore(address, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
        try:
            for rank, device in enumerate(self._job.devices):
                self._workers[device] = self._start(rank, device, address, port)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def exit_codes(self) -> Mapping[str, int | None]:
        """Device -> its worker's exit status, negative for a signal; None while it lives."""
        return {device: worker.poll() for device, worker in self._workers.items()}

    def is_stopped(self, device: str) -> bool:
        """Whether the worker has been stopped (as by SIGSTOP), rather than being busy."""
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self._workers[device].pid).status() == psutil.STATUS_STOPPED
        return False

    def _start(self, rank: int, device: str, address: str, port: int) -> subprocess.Popen[bytes]:
        cluster, node = self._job.cluster, self._job.cluster.node_of(device)
        variables = {
            **environment(cluster.device(device), cluster.type_of(device)),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(len(self._job.devices)),
            "MASTER_ADDR": address,
            "MASTER_PORT": str(port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is ours: no worker opens another
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),  # what we can import, they can
        }
        if not spans_hosts(cluster, self._job.devices):
            variables |= {"GLOO_SOCKET_IFNAME": _LOOPBACK, "NCCL_SOCKET_IFNAME": _LOOPBACK}
        far = is_remote(node)
        worker = [sys.executable, "-m", "executor.worker", str(self._job.path), "--as-device", device]
        command, environ = command_on(node, [*worker, "--tied"] if far else worker, variables)
        with self._job.folder(device).log.open("wb") as log:
            return subprocess.Popen(
                command,
                env=environ if far else {**environ, **parent_environment()},
                stdin=subprocess.PIPE if far else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _end(self) -> None:
        for worker in self._workers.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
        for worker in self._workers.values():
            worker.wait()
            if worker.stdin is not None:
                worker.stdin.close()


_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


@contextmanager
def orderly_termination() -> Iterator[None]:
    """Inside the block SIGTERM and SIGHUP unwind the stack, as Ctrl-C does, so that the workers are ended.

    Raises SystemExit with the status that the signal would have given. Does nothing outside the main thread, where signals
    cannot be handled.
    """

    def unwind(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    handled = (signal.SIGTERM, signal.SIGHUP)
    try:
        previous = [signal.signal(number, unwind) for number in handled]
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        for number, handler in zip(handled, previous, strict=True):
            signal.signal(number, handler)
