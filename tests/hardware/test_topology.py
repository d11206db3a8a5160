"""What messages cross: the plain forms, and topologies that are written out."""

import pytest

from hetsim.errors import PlanError
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node, Route, Topology, Wire

BUS = Link("bus", 1e-6, 1e10)
NET = Link("net", 1e-5, 1e9)
TYPES = {"t": DeviceType("t")}


def node(name, count, link=BUS, wires=()):
    return Node(name, tuple(Device(f"{name}{i}", "t", name) for i in range(count)), link, wires)


def test_plain_links_are_crossed_once_each_way():
    topology = Topology(Cluster((node("n", 2), node("m", 1)), TYPES, NET))
    assert topology.route("n0", "n1") == Route(1e-6, ("n0 > n", "n > n1"))
    assert topology.route("n1", "m0") == Route(1e-5, ("n > the network's switch", "the network's switch > m"))
    assert topology.route("n1", "m") == topology.route("n1", "m0"), "a server of the other node is no further than a device"
    assert topology.route("n0", "n") == Route(1e-6, ("n0 > n",))
    assert topology.route("n0", "n0") == Route(0.0, ())
    assert topology.bytes_per_s["n0 > n"] == 1e10
    assert topology.bytes_per_s["n > the network's switch"] == 1e9


def test_both_directions_of_a_half_duplex_link_are_one_resource():
    half = Link("bus", 0.0, 1e10, half_duplex=True)
    topology = Topology(Cluster((node("n", 2, half),), TYPES, NET))
    assert topology.route("n0", "n1").resources == topology.route("n1", "n0").resources[::-1]


def test_two_dies_on_one_slot_share_its_wire():
    slot = Link("slot", 1e-6, 8e9)
    wires = (Wire(("n0", "slot"), BUS), Wire(("n1", "slot"), BUS), Wire(("slot", "n"), slot), Wire(("n2", "n"), BUS))
    topology = Topology(Cluster((node("n", 3, BUS, wires), node("m", 1)), TYPES, NET))
    assert topology.route("n0", "n1").resources == ("n0 > slot", "slot > n1"), "dies of one slot do not leave it"
    assert topology.route("n0", "n2").resources == ("n0 > slot", "slot > n", "n > n2")
    assert topology.route("n0", "m0").resources[:2] == ("n0 > slot", "slot > n")
    assert topology.route("n0", "n2").latency_s == pytest.approx(3e-6), (
        "wires that are written out have latencies of their own"
    )


def test_the_quickest_way_is_taken():
    far, near = Link("far", 1e-3, 1e12), Link("near", 1e-6, 1e9)
    wires = (Wire(("n", "m"), far), Wire(("n", "switch"), near), Wire(("switch", "m"), near))
    topology = Topology(Cluster((node("n", 1), node("m", 1)), TYPES, NET, wires))
    assert topology.route("n0", "m0").resources == ("n0 > n", "n > switch", "switch > m", "m > m0")


def test_nodes_that_nothing_joins_are_told():
    topology = Topology(Cluster((node("n", 1), node("m", 1)), TYPES, NET, (Wire(("n", "switch"), NET),)))
    with pytest.raises(PlanError, match="no wires lead from n0 to m0"):
        topology.route("n0", "m0")
