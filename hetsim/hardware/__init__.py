"""The hardware: device types, devices, nodes, links, clusters."""

from hetsim.hardware.cluster import Cluster, Link, Node
from hetsim.hardware.devices import Backend, Device, DeviceType, Isa

__all__ = ["Backend", "Cluster", "Device", "DeviceType", "Isa", "Link", "Node"]
