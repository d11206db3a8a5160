"""A cluster: nodes with devices, and the links between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from hetsim.economics import Price
from hetsim.errors import PlanError
from hetsim.hardware.devices import Device, DeviceType


@dataclass(frozen=True, slots=True)
class Link:
    """What devices or nodes talk over: each has a link of this kind to the hub or switch that joins them."""

    name: str
    latency_s: float
    """From end to end, over all that lies between two devices."""

    bandwidth_bytes_per_s: float
    half_duplex: bool = False
    """Whether both directions share the bandwidth; else each has the whole of it."""


@dataclass(frozen=True, slots=True)
class Wire:
    """A piece of a topology: a link between two of its points, which are devices, nodes, or whatever else has a name (a switch)."""

    between: tuple[str, str]
    link: Link


@dataclass(frozen=True, slots=True)
class Node:
    """A host, its devices, and the link that each of them has to the others."""

    name: str
    devices: tuple[Device, ...]
    link: Link
    wires: tuple[Wire, ...] = ()
    """How devices and the node hang together where that is not one link for each device, e.g. two dies on one slot."""

    address: str = ""
    """Where other nodes reach its processes; empty: nowhere but on the machine itself."""

    ssh: str = ""
    """What to give to ssh to start processes on it; empty: it is this machine."""

    netns: str = ""
    """Its processes run in this network namespace of this machine; empty: in that of the one who starts them."""

    price: Price | None = None
    """Of the host without its devices."""

    power_w: float | None = None
    """What the host takes beside its devices."""

    slots: int | None = None
    """How many devices it can hold in all; None: no more than it has."""


@dataclass(frozen=True)
class Cluster:
    """Nodes and the network between them. Device and node names are unique (checked by the scenario)."""

    nodes: tuple[Node, ...]
    device_types: Mapping[str, DeviceType]
    network: Link
    """The link that each node has to the switch that joins them all."""

    wires: tuple[Wire, ...] = ()
    """How nodes and switches hang together where that is not one switch for all."""

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """All devices, in the order of the nodes."""
        return tuple(device for node in self.nodes for device in node.devices)

    @property
    def used_types(self) -> tuple[DeviceType, ...]:
        """The device types that the cluster has a device of, in order of first appearance."""
        names = dict.fromkeys(device.type for device in self.devices)
        return tuple(self.device_types[name] for name in names)

    @property
    def is_wired(self) -> bool:
        """Whether devices or nodes hang together by wires that are written out, rather than by one kind of link."""
        return bool(self.wires) or any(node.wires for node in self.nodes)

    def device(self, name: str) -> Device:
        """The device called `name`. Raises PlanError with the known names where there is none."""
        if name in self._by_name:
            return self._by_name[name]
        known = ", ".join(self._by_name)
        raise PlanError(f'there is no device "{name}" in the cluster; it has {known}')

    def node_of(self, device: str) -> Node:
        """The node that holds the device called `device`. Raises PlanError where there is none."""
        name = self.device(device).node
        return next(node for node in self.nodes if node.name == name)

    @cached_property
    def _by_name(self) -> Mapping[str, Device]:
        return {device.name: device for device in self.devices}

    def type_of(self, device: str) -> DeviceType:
        """The type of the device called `device`. Raises PlanError where there is none."""
        return self.device_types[self.device(device).type]

    def cores_of(self, device: str) -> tuple[str, ...]:
        """The processor cores that `device` is bound to, by names that are unique in the cluster; empty where it is not bound."""
        found = self.device(device)
        return tuple(f"core {core} of {found.node}" for core in found.cores)
