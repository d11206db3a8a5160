"""The hardware: device types, devices, nodes, links, clusters, and what messages cross in them."""

from hetsim.hardware.cluster import Cluster, Link, Node, Wire
from hetsim.hardware.devices import Backend, Device, DeviceType, Isa
from hetsim.hardware.topology import Lane, Route, Topology

__all__ = ["Backend", "Cluster", "Device", "DeviceType", "Isa", "Lane", "Link", "Node", "Route", "Topology", "Wire"]
