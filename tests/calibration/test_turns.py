"""Who is timed at once where devices share processor cores."""

import pytest

from calibration.points import Point, curve_points
from calibration.turns import representatives, sharing, turns
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.scenario.types import NetworkSpec, Search
from hetsim.workload import Training

LINK = Link("bus", 0.0, 1e9)


def cluster_of(**cores):
    """Devices by name, whose first letter is their type."""
    devices = tuple(Device(name, name[0], "n", cores=tuple(mine)) for name, mine in cores.items())
    return Cluster((Node("n", devices, LINK),), {kind: DeviceType(kind) for kind in "ab"}, LINK)


@pytest.mark.parametrize(
    ("cores", "kept", "groups"),
    [
        ({"a0": [0], "b0": [1]}, ["a0", "b0"], [["a0", "b0"]]),
        ({"a0": [], "b0": []}, ["a0", "b0"], [["a0", "b0"]]),
        ({"a0": [0], "b0": [1], "b1": [0]}, ["a0", "b0"], [["a0", "b0"], ["b1", "b0"]]),
        ({"a0": [0], "a1": [1], "b0": [0], "b1": [1]}, ["a0", "b1"], [["a0", "b1"], ["a1", "b0"]]),
        ({"a0": [0], "b0": [0]}, ["a0", "b0"], [["a0"], ["b0"]]),
        ({"a0": [0, 1], "b0": [1], "b1": [2]}, ["a0", "b1"], [["a0", "b1"], ["b0", "b1"]]),
    ],
)
def test_nobody_shares_a_core_in_a_turn_and_no_core_rests(cores, kept, groups):
    cluster = cluster_of(**cores)
    assert [device.name for device in representatives(cluster).values()] == kept
    assert [[device.name for device in group] for group in turns(cluster, cluster.devices)] == groups


def test_a_crowd_is_measured_only_where_cores_are_shared():
    spec, search = NetworkSpec("n", Training(64)), Search()
    crowded, apart = cluster_of(a0=[0], b0=[1], b1=[0]), cluster_of(a0=[0], b0=[1])
    assert [device.name for device in sharing(crowded)] == ["a0", "b1"]
    assert [p for p in curve_points(spec, search, crowded) if p.crowd] == [Point((("a", 21), ("b", 21)), crowd=True)]
    assert not any(p.crowd for p in curve_points(spec, search, apart))
