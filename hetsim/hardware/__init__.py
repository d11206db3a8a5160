"""The hardware: device types, devices, nodes, links, clusters, and what messages cross in them."""

from hetsim.hardware.cluster import Cluster, Link, Node, Wire
from hetsim.hardware.devices import Backend, Device, DeviceType, Isa
from hetsim.hardware.topology import Resource, Route, Topology

__all__ = ["Backend", "Cluster", "Device", "DeviceType", "Isa", "Link", "Node", "Resource", "Route", "Topology", "Wire"]
