"""Which devices the stages of a plan lie on."""

import pytest

from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.planner.kinds import Kind
from hetsim.planner.placing import place_by_replica, place_by_stage, place_heavy_together

NET = Link("net", 0.0, 1e6)
FAST, SLOW = Kind("fast", 1, 4), Kind("slow", 1, 4)


def cluster_of(*rows):
    """Nodes of devices of one type each: (type, devices)."""
    nodes = tuple(
        Node(f"n{number}", tuple(Device(f"n{number}.{i}", kind, f"n{number}", i) for i in range(count)), NET)
        for number, (kind, count) in enumerate(rows)
    )
    return Cluster(nodes, {kind: DeviceType(kind) for kind, _ in rows}, NET)


def nodes_of(places):
    """By row: the node of each stage."""
    return [[devices[0].split(".")[0] for devices in row] for row in places]


CLUSTER = cluster_of(("fast", 2), ("fast", 2), ("slow", 2), ("slow", 2))
ROWS = [[FAST, FAST, SLOW, SLOW]] * 2


def test_a_replica_stays_together():
    assert nodes_of(place_by_replica(CLUSTER, ROWS)) == [["n0", "n0", "n2", "n2"], ["n1", "n1", "n3", "n3"]]


def test_a_stage_stays_together():
    assert nodes_of(place_by_stage(CLUSTER, ROWS)) == [["n0", "n1", "n2", "n3"]] * 2


def test_heavy_stages_stay_together_and_the_others_with_their_replicas():
    assert nodes_of(place_heavy_together(CLUSTER, ROWS, [3, 3])) == [["n0", "n0", "n3", "n2"], ["n1", "n1", "n3", "n2"]]


def test_heavy_stages_of_unlike_replicas_stay_together_whatever_their_place():
    cluster, rows = cluster_of(("fast", 3), ("slow", 2), ("slow", 2)), [[FAST, FAST, SLOW], [SLOW]]
    found = nodes_of(place_heavy_together(cluster, rows, [2, 0]))
    assert found[0][2] == found[1][0]
    assert found[0][:2] == ["n0", "n0"]


@pytest.mark.parametrize("place", [place_by_replica, place_by_stage, lambda c, rows: place_heavy_together(c, rows, [0] * 3)])
def test_every_device_is_taken_once_and_none_where_there_are_too_few(place):
    assert place(CLUSTER, [[FAST, FAST]] * 3) is None
    taken = [device for row in place(CLUSTER, [[FAST], [SLOW, FAST], [SLOW]]) for devices in row for device in devices]
    assert len(taken) == len(set(taken)) == 4
