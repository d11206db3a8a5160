"""Hosts as network namespaces of this machine, whose links `tc tbf` limits. Needs root, ip and tc."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Self

BURST_BYTES = 64 * 1024
_NUMBERS = count(1)


def may_make_namespaces() -> bool:
    """Whether this process can make namespaces and limit their links."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "tc"))):
        return False
    tried = subprocess.run(["ip", "netns", "add", f"hetsim-try-{os.getpid()}"], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", f"hetsim-try-{os.getpid()}"], capture_output=True, check=False)
    return tried.returncode == 0


def ip(*words: object) -> None:
    """Run `ip`. Raises CalledProcessError where it fails."""
    subprocess.run(["ip", *map(str, words)], check=True, capture_output=True)


class Hosts:
    """Namespaces on one switch, each with an address and a link of its own bandwidth."""

    def __init__(self, rates: Sequence[str]) -> None:
        """`rates`: of each host's link, as tc writes them."""
        stem = f"h{os.getpid() % 10_000}x{next(_NUMBERS)}"
        self.switch = f"{stem}s"
        self.names = [f"{stem}{letter}" for letter in "abc"[: len(rates)]]
        self.addresses = [f"10.{77 + os.getpid() % 100}.0.{number}" for number, _ in enumerate(rates, 1)]
        self.rates = rates

    def __enter__(self) -> Self:
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        ip("-n", self.switch, "link", "set", "br0", "up")
        for number, (name, address, rate) in enumerate(zip(self.names, self.addresses, self.rates, strict=True)):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
            ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", f"p{number}", "netns", self.switch)
            ip("-n", self.switch, "link", "set", f"p{number}", "master", "br0", "up")
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            for place, device in ((name, "eth0"), (self.switch, f"p{number}")):
                limit = ["root", "tbf", "rate", rate, "burst", str(BURST_BYTES), "latency", "200ms"]
                subprocess.run(["tc", "-n", place, "qdisc", "add", "dev", device, *limit], check=True, capture_output=True)
        return self

    def __exit__(self, *_: object) -> None:
        for name in (*self.names, self.switch):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def hetsim(self, folder: Path, *words: object, timeout: float = 400) -> subprocess.CompletedProcess[str]:
        """The command, started on the first host."""
        command = ["ip", "netns", "exec", self.names[0], sys.executable, "-m", "hetsim", *map(str, words)]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)

    def nodes(self, devices: Sequence[str]) -> str:
        """The nodes of a scenario; `devices` of each as YAML."""
        rows = zip("abc", self.addresses, self.names, devices, strict=False)
        return "\n".join(
            f"    - {{name: {n}, address: {a}, netns: {ns}, devices: {d}, link: {{latency: 50 us, bandwidth: 2 GB/s}}}}"
            for n, a, ns, d in rows
        )
