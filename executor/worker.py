"""One device's worker: `python -m executor.worker JOB --as-device NAME`, or under torchrun with `--on-node NAME`.

The worker first makes itself the device, and only then imports torch, which reads the caps on the instruction set when it is
loaded. Some of the device's variables are read by the C library when a process starts: where torchrun, which does not know them,
has started the worker, it starts anew. It takes its rank and the way to the others from the environment, as torchrun sets it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Never

from executor.heartbeat import Heartbeat
from executor.job import Job
from hetsim.errors import InputError, described
from hetsim.hardware.binding import environment
from hetsim.hardware.reach import check_way, spans_hosts, use_interface_of
from hetsim.lifeline import die_with_parent


def main(arguments: list[str] | None = None) -> None:
    """Work through the job, and leave the process with status 0 or 1, whatever threads the user's code has left."""
    die_with_parent()
    parser = argparse.ArgumentParser(prog="python -m executor.worker", description=__doc__)
    parser.add_argument("job", type=Path, help="the file that the coordinator, or hetsim run --print-commands, wrote")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--as-device", dest="device", help="the device to be")
    who.add_argument(
        "--on-node", dest="node", help="be the device of this node that LOCAL_RANK counts, of those that the job uses"
    )
    parser.add_argument("--tied", action="store_true", help="end when stdin does: it leads to a coordinator on another host")
    chosen = parser.parse_args(arguments)
    try:
        job = Job.load(chosen.job)
        name = chosen.device or _device_of(job, chosen.node, int(os.environ["LOCAL_RANK"]))
    except InputError as error:
        sys.exit(f"error: {error}")
    job.folder(name).path.mkdir(parents=True, exist_ok=True)
    job.folder(name).error.unlink(missing_ok=True)  # of an earlier life
    heartbeat = Heartbeat(job.folder(name).heartbeat)
    if chosen.tied:
        _end_with_input(heartbeat)
    try:
        _become(environment(job.cluster.device(name), job.cluster.type_of(name)))
        if spans_hosts(job.cluster, job.devices):
            use_interface_of(job.cluster.node_of(name))
            if chosen.device:  # the coordinator holds the store already; torchrun's first node may still start
                heartbeat.work("reaching the coordinator")
                check_way(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        heartbeat.work("importing torch")
        from executor.training import train

        train(job, name, heartbeat)
        heartbeat.finish()
        _leave(0)
    except BaseException as error:  # the user's code may call sys.exit
        _leave_word(error, job.folder(name).error, heartbeat)
        with contextlib.suppress(OSError):
            traceback.print_exc()
        _leave(1)


def _become(variables: dict[str, str]) -> None:
    """Return in a process that has had these environment variables from its start: this one, or its own next life."""
    if variables.items() <= os.environ.items():
        return
    os.environ.update(variables)
    os.execv(sys.executable, [sys.executable, "-m", "executor.worker", *sys.argv[1:]])  # noqa: S606


def _end_with_input(heartbeat: Heartbeat) -> None:
    """End this process when its input ends, and meanwhile show the coordinator's host how it beats."""

    def watch() -> None:
        while True:
            heartbeat.flush()
            if select.select([sys.stdin], [], [], 1.0)[0] and not os.read(sys.stdin.fileno(), 1):
                os._exit(1)

    threading.Thread(target=watch, name="coordinator", daemon=True).start()


def _leave(status: int) -> Never:
    """End the process at once: the groups' own threads may wait for a dead neighbour for as long as their timeout."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _device_of(job: Job, node: str, local_rank: int) -> str:
    """The device that process `local_rank` on `node` has to be."""
    here = [name for name in job.devices if job.cluster.device(name).node == node]
    if local_rank >= len(here):
        raise InputError(f'the job uses {len(here)} devices of node "{node}" ({", ".join(here)}); start as many processes')
    return here[local_rank]


def _leave_word(error: BaseException, path: Path, heartbeat: Heartbeat) -> None:
    """Note what went wrong and when, for the coordinator, and for torchrun where it started us."""
    extra = {"py_callstack": traceback.format_exc(), "timestamp": str(int(time.time())), "monotonic_ns": heartbeat.now_ns()}
    cause = error
    while cause.__cause__ is not None:  # torch's pipelining wraps what a layer raises
        cause = cause.__cause__
    said = " ".join(described(cause).split())
    text = json.dumps({"message": {"message": said, "extraInfo": extra}})
    for file in {path, Path(os.environ.get("TORCHELASTIC_ERROR_FILE") or path)}:
        try:
            file.write_text(text)
        except OSError:  # a full disk, say, which may be what went wrong; the heartbeat has its place on it already
            heartbeat.work(f"the end, about which no more could be written than {said}")


if __name__ == "__main__":
    main()
