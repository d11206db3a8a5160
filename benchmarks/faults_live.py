# ruff: noqa: S607 - ip, mount and umount are those that root finds
"""What a user sees when a run goes wrong: `python -m benchmarks.faults_live` breaks runs in every way and prints a table.

Each run is a `hetsim run` of its own on two cores of this machine. Told are the exit code, the seconds from the fault to the end,
the processes that are left, and the first words of the message. Faults of hosts and disks need root, ip and tmpfs; they are left
out where these are missing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.publish import add_option, machine, publish
from executor.by_hand import PORT

PATIENCE_S = 4
MOUNT = shutil.which("mount")

NETWORK = """
import os, time, torch
from torch import nn

class Doomed(nn.Module):
    def __init__(self, deed, after):
        super().__init__()
        self.deed, self.after, self.count = deed, after, 0

    def forward(self, states):
        self.count += "RANK" in os.environ
        if self.count == self.after and self.deed:
            open("deed", "w").close()
            if self.deed == "raise":
                raise ValueError("the third weight is cursed")
            if self.deed == "hang":
                time.sleep(600)
            if self.deed == "memory":
                import resource
                here = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
                resource.setrlimit(resource.RLIMIT_AS, (here + (64 << 20),) * 2)
                torch.ones(1 << 30)
        return states

def build(deed="", after=60):
    return nn.Sequential(nn.Linear(16, 32), nn.Sequential(nn.Linear(32, 32), Doomed(deed, after)), nn.Linear(32, 10))
"""

SCENARIO = """
hetsim: 1
name: faults
networks: {{net: {{module: "doomed:build", arguments: {{deed: "{deed}"}}, input: {{shape: [16]}}}}}}
training: {{global_batch: 8}}
cluster:
  device_types: {{core: {{backend: cpu}}}}
  nodes:
{nodes}
  network: {{latency: 100 us, bandwidth: 1 Gbit/s}}
measure: {{steps: 1000000, warmup_steps: 2, timeout: {patience} s}}
"""

ONE_NODE = "    - {name: here, devices: {core: {cores: [[0], [1]]}}, link: {latency: 50 us, bandwidth: 1 GB/s}}"
PLAN = "core0[0:3] 4/1 | core1[0:3] 4/1"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    fault: str
    exit_code: int
    seconds: float
    left: int
    message: str


def broken(fault: str, deed: str, break_it: Callable[[subprocess.Popen[str], Path], None] | None, **where: str) -> Outcome:
    """A run that goes wrong in the way of `deed` (inside the network) or `break_it` (from outside, once it trains)."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "doomed.py").write_text(NETWORK)
        nodes = where.get("nodes", ONE_NODE)
        (folder / "s.yaml").write_text(SCENARIO.format(deed=deed, nodes=nodes, patience=PATIENCE_S))
        command = [
            sys.executable,
            "-m",
            "hetsim",
            "run",
            "s.yaml",
            "--plan",
            PLAN,
            "-q",
            "--runs",
            where.get("runs", "runs"),
        ]
        run = subprocess.Popen(
            [*where.get("inside", "").split(), *command],
            cwd=folder,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        broken_at = [time.monotonic()]
        watcher = threading.Thread(target=_watch, args=(run, folder, deed, break_it, broken_at), daemon=True)
        watcher.start()
        _, said = run.communicate(timeout=300)
        seconds = time.monotonic() - broken_at[0]
        left = [p for p in _workers() if str(folder) in " ".join(_words(p))]
        lines = [line for line in said.splitlines() if line.startswith(("error", "interrupted"))] or said.splitlines()[-1:]
        return Outcome(fault, run.returncode, seconds, len(left), lines[0].replace(name, "…") if lines else "")


def _watch(
    run: subprocess.Popen[str],
    folder: Path,
    deed: str,
    break_it: Callable[[subprocess.Popen[str], Path], None] | None,
    broken_at: list[float],
) -> None:
    """Wait until the run trains, break it, and note when that was."""
    while run.poll() is None:
        trains = any(path.stat().st_size for path in folder.glob("runs/*/logs/net/*/steps.jsonl"))
        if (deed and (folder / "deed").exists()) or (break_it is not None and trains):
            broken_at[0] = time.monotonic()
            if break_it is not None:
                break_it(run, folder)
            return
        time.sleep(0.05)


def _workers() -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        if "executor.worker" in _words(process):
            yield process


def _words(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return [*process.cmdline(), process.cwd()]
    return []


def signalled(number: int) -> Callable[[subprocess.Popen[str], Path], None]:
    """Sends a signal to the second worker."""

    def send(_run: subprocess.Popen[str], folder: Path) -> None:
        for process in _workers():
            if "core1" in process.cmdline() and str(folder) in " ".join(_words(process)):
                process.send_signal(number)

    return send


def interrupted(run: subprocess.Popen[str], _folder: Path) -> None:
    """Ctrl-C."""
    run.send_signal(signal.SIGINT)


@contextmanager
def small_disk() -> Iterator[str]:
    """A folder on a disk of 256 KiB."""
    with TemporaryDirectory() as name:
        subprocess.run([MOUNT or "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", name], check=True)
        try:
            yield name
        finally:
            subprocess.run(["umount", "-l", name], check=False)


def fill(folder: Path) -> None:
    """Write into `folder` until its disk has no room."""
    with contextlib.suppress(OSError), (folder / "full").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


LISTEN = "import socket, time; s = socket.socket(); s.bind(('', {port})); s.listen(); print(flush=True); time.sleep(300)"


def port_taken(nodes: str, first: str) -> Outcome:
    """A run that is started by its printed command on the first of `nodes`, where another program listens on the port."""
    inside = ["ip", "netns", "exec", first]
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "doomed.py").write_text(NETWORK)
        (folder / "s.yaml").write_text(SCENARIO.format(deed="", nodes=nodes, patience=PATIENCE_S))
        command = [sys.executable, "-m", "hetsim", "run", "s.yaml", "--plan", PLAN, "--print-commands", "--format", "json"]
        printed = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        (start,) = json.loads(printed.stdout)["starts"]
        listening = [*inside, sys.executable, "-c", LISTEN.format(port=PORT)]
        with subprocess.Popen(listening, stdout=subprocess.PIPE) as listener:
            assert listener.stdout is not None
            listener.stdout.readline()
            started_s = time.monotonic()
            words = [*inside, *start["commands"]["a"]]
            done = subprocess.run(words, cwd=folder, check=False, capture_output=True, text=True, timeout=300)
            seconds = time.monotonic() - started_s
            listener.kill()
        left = [p for p in _workers() if str(folder) in " ".join(_words(p))]
        said = [line for line in done.stderr.splitlines() if "EADDRINUSE" in line]
        return Outcome("a start by hand finds its port taken", done.returncode, seconds, len(left), said[-1] if said else "")


@contextmanager
def two_hosts() -> Iterator[tuple[str, str]]:
    """(nodes of a scenario, the first host's namespace) of two hosts, the second of which is not connected."""
    names = [f"fault{os.getpid()}{letter}" for letter in "ab"]
    try:
        for number, name in enumerate(names, 1):
            subprocess.run(["ip", "netns", "add", name], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
            subprocess.run(["ip", "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "eth1", "up"], check=True)
            subprocess.run(["ip", "-n", name, "addr", "add", f"10.88.0.{number}/24", "dev", "eth0"], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "eth0", "up"], check=True)
        rows = [
            f"    - {{name: {n}, address: 10.88.0.{i}, netns: {ns}, devices: {{core: {{cores: [[{i - 1}]]}}}}}}"
            for i, (n, ns) in enumerate(zip("ab", names, strict=True), 1)
        ]
        yield "\n".join(rows), names[0]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def outcomes() -> Iterator[Outcome]:
    """Every fault in turn."""
    yield broken("a rank is killed (SIGKILL, as when memory runs out)", "", signalled(signal.SIGKILL))
    yield broken("a rank is stopped (SIGSTOP)", "", signalled(signal.SIGSTOP))
    yield broken("a layer hangs", "hang", None)
    yield broken("a layer raises an exception", "raise", None)
    yield broken("a rank cannot have the memory that it asks for", "memory", None)
    yield broken("Ctrl-C", "", interrupted)
    if os.geteuid() == 0 and MOUNT:
        with small_disk() as disk:
            yield broken("the disk of the run directory fills up", "", None, runs=disk)
        with small_disk() as disk:
            fill(Path(disk))
            yield broken("the run directory is full from the start", "", None, runs=disk)
    if os.geteuid() == 0 and shutil.which("ip"):
        with two_hosts() as (nodes, first):
            yield broken("a host cannot be reached", "", None, nodes=nodes, inside=f"ip netns exec {first}")
            yield port_taken(nodes, first)


def table(rows: list[Outcome]) -> str:
    """The outcomes as Markdown."""
    lines = ["| fault | exit code | seconds to the end | processes left | what the user sees |", "|---|---|---|---|---|"]
    lines += [f"| {o.fault} | {o.exit_code} | {o.seconds:.1f} | {o.left} | {o.message} |" for o in rows]
    return "\n".join([*lines, ""])


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_option(parser)
    options = parser.parse_args()
    text = table(list(outcomes()))
    sys.stdout.write(text)
    publish(options.publish, "faults", f"{machine()}\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
