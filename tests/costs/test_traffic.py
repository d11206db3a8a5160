"""What messages and exchanges put on the links, against the formulas of their papers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsim.costs.traffic import exchange, message
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node, Topology
from hetsim.plan import Exchange

LATENCY_S, BUS, NET = 1e-5, 1e10, 1e9


def cluster(*counts):
    nodes = tuple(
        Node(f"n{k}", tuple(Device(f"n{k}.{i}", "t", f"n{k}") for i in range(count)), Link("bus", LATENCY_S, BUS))
        for k, count in enumerate(counts)
    )
    return Cluster(nodes, {"t": DeviceType("t")}, Link("net", LATENCY_S, NET))


def run(how, counts, size_bytes):
    """The exchange over all devices, each a replica; and its seconds."""
    made = cluster(*counts)
    phases = exchange(Topology(made), how, [(device.name,) for device in made.devices], size_bytes)
    return phases, sum(max(traffic.seconds for traffic in phase) for phase in phases)


@given(st.integers(2, 9), st.integers(1, 10**9))
def test_a_ring_moves_twice_the_bytes_less_its_own_part(n, size_bytes):
    """2(n-1) rounds, each of latency + bytes / n / bandwidth (Patarasuk & Yuan 2009)."""
    _, seconds = run(Exchange("ring"), [1] * n, size_bytes)
    assert seconds == pytest.approx(2 * (n - 1) * (LATENCY_S + size_bytes / n / NET))


@given(st.integers(2, 33))
def test_trees_have_logarithmic_latency_and_nobody_receives_more_than_twice_the_bytes(n):
    (phase,), seconds = run(Exchange("tree"), [1] * n, 1000)
    (traffic,) = phase
    assert traffic.latency_s == pytest.approx(2 * math.ceil(math.log2(n)) * LATENCY_S)
    assert max(size for _, size in traffic.resource_bytes) <= 2 * 1000
    assert sum(size for resource, size in traffic.resource_bytes if resource.startswith("n")) == pytest.approx(
        2 * (n - 1) * 1000
    )
    assert seconds <= traffic.latency_s + 2 * 1000 / NET * (1 + 1e-9)


@given(st.integers(2, 6), st.integers(2, 8))
def test_hierarchy_crosses_the_network_once_for_each_node_and_not_for_each_device(nodes, width):
    """Reduce-scatter and all-gather inside, and between the nodes a ring of all bytes (BlueConnect)."""
    size_bytes = 10**8
    phases, seconds = run(Exchange("hierarchical"), [width] * nodes, size_bytes)
    inside_s = (width - 1) * (LATENCY_S + size_bytes / width / BUS)
    between_s = 2 * (nodes - 1) * (LATENCY_S + size_bytes / nodes / NET)
    assert len(phases) == 3
    assert seconds == pytest.approx(2 * inside_s + between_s)


def test_hierarchy_takes_nodes_of_unlike_size():
    phases, seconds = run(Exchange("hierarchical"), [4, 1, 2], 10**8)
    assert len(phases) == 3
    assert seconds > 2 * 2 * 10**8 / 3 / NET


def test_parameter_servers_get_all_pushes_and_send_all_pulls():
    (push, pull), _ = run(Exchange("ps", ("n0",)), [1, 1, 1], 1000)
    incoming = [
        size for traffic in push for resource, size in traffic.resource_bytes if resource == "the network's switch > n0"
    ]
    assert incoming == [1000, 1000], "the server's own device is at home"
    outgoing = [
        size for traffic in pull for resource, size in traffic.resource_bytes if resource == "n0 > the network's switch"
    ]
    assert outgoing == [1000, 1000]
    assert [traffic.owner for traffic in push] == ["n0.0", "n1.0", "n2.0"]
    (push, _), _ = run(Exchange("ps", ("n0", "n1")), [1, 1, 1, 1], 1000)
    incoming = [
        size for traffic in push for resource, size in traffic.resource_bytes if resource == "the network's switch > n0"
    ]
    assert incoming == [500, 500, 500], "two servers hold half each"


def test_tensor_parallel_ranks_of_a_node_share_its_network():
    topology = Topology(cluster(4, 4))
    a, b = tuple(f"n0.{i}" for i in range(4)), tuple(f"n1.{i}" for i in range(4))
    assert dict(message(topology, a, b, 1000).resource_bytes)["n0 > the network's switch"] == 4000
    assert message(topology, a[:1], b[:1], 1000).seconds == pytest.approx(LATENCY_S + 1000 / NET)
    ((traffic,),) = exchange(topology, Exchange(), [a, b], 10**8)
    assert traffic.transfer_s == pytest.approx(10**8 / NET), "each exchanges a quarter, at the same time, over the same link"
