"""How processes are started on a node, this machine or another, and how they reach each other."""

from __future__ import annotations

import ipaddress
import os
import shlex
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hetsim.errors import InputError, Problem, RunError
from hetsim.hardware.cluster import Cluster, Node

LOOPBACK = "127.0.0.1"

PATIENCE_S = 20.0
"""A host that does not answer for so long cannot be reached."""

_SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5")
"""Asks no questions, and notices a host that went away."""


def is_remote(node: Node) -> bool:
    """Whether the node is another host, of which this one sees no process."""
    return bool(node.ssh)


def spans_hosts(cluster: Cluster, devices: Iterable[str]) -> bool:
    """Whether `devices` belong to nodes that reach each other by address."""
    nodes = nodes_of(cluster, devices)
    return len(nodes) > 1 and any(node.address for node in nodes)


def nodes_of(cluster: Cluster, devices: Iterable[str]) -> list[Node]:
    """The nodes that `devices` belong to, in the order of the cluster."""
    used = {cluster.device(name).node for name in devices}
    return [node for node in cluster.nodes if node.name in used]


def command_on(node: Node, command: Sequence[str], variables: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The command that runs `command` on `node` with these environment variables, and the environment to start it in.

    On another host `command` is looked up under the same paths as here, in the same working directory.
    """
    if node.ssh:
        settings = [f"{name}={value}" for name, value in variables.items()]
        there = shlex.join(["cd", str(Path.cwd())]) + " && exec " + shlex.join(["env", *settings, *command])
        return [*_SSH, node.ssh, there], dict(os.environ)
    inside = ["ip", "netns", "exec", node.netns] if node.netns else []
    return [*inside, *command], {**os.environ, **variables}


def own_address(cluster: Cluster, devices: Iterable[str]) -> str:
    """The address under which this process is reached by the processes of `devices`."""
    nodes = nodes_of(cluster, devices)
    if not any(node.ssh or node.netns for node in nodes):
        return LOOPBACK
    for node in nodes:
        if not node.ssh and not node.netns:
            return node.address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect((nodes[0].address, 9))  # sends nothing: it asks for the way
        except OSError as error:
            what = f"there is no way from here to its address {nodes[0].address}: {error.strerror or error}"
            raise InputError(Problem(f'node "{nodes[0].name}"', what)) from None
        return str(asked.getsockname()[0])


def check_way(address: str, port: int) -> None:
    """Return when something answers at `address` and `port`. Raises RunError with the reason where nothing does for some time."""
    end_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            with socket.create_connection((address, port), timeout=max(0.1, end_s - time.monotonic())):
                return
        except OSError as error:
            if time.monotonic() >= end_s:
                what = f"the host {socket.gethostname()} cannot reach {address}, port {port}: {error.strerror or error}"
                raise RunError(Problem("", what, "Look at addresses, links and firewalls between them")) from None
            time.sleep(0.5)


def use_interface_of(node: Node) -> None:
    """Let torch's backends of this process talk over the network interface that has the node's address.

    Raises InputError where this host has no interface with it.
    """
    import psutil

    wanted = _resolved(node)
    for name, addresses in psutil.net_if_addrs().items():
        if wanted in (entry.address.partition("%")[0] for entry in addresses):
            os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = name
            return
    had = ", ".join(sorted(e.address for rows in psutil.net_if_addrs().values() for e in rows if e.family == socket.AF_INET))
    what = f"has the address {wanted}, which no network interface of the host {socket.gethostname()} has"
    raise InputError(Problem(f'node "{node.name}"', what, f"Its addresses are {had or 'none'}"))


def _resolved(node: Node) -> str:
    try:
        return str(ipaddress.ip_address(node.address))
    except ValueError:
        pass
    try:
        return socket.gethostbyname(node.address)
    except OSError as error:
        raise InputError(Problem(f'node "{node.name}"', f"its address {node.address} cannot be resolved: {error}")) from None
