"""Which points are measured."""

from itertools import pairwise

from calibration.links import reduce_groups
from calibration.points import Point, curve_microbatches, curve_points, gradient_sizes, message_sizes, plan_points
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.plan import Plan
from hetsim.scenario.types import NetworkSpec, Search
from hetsim.workload import Chain, Layer, Training

LINK = Link("bus", 0.0, 1e9)
TYPES = {"A": DeviceType("A"), "B": DeviceType("B")}
CLUSTER = Cluster((Node("n", (Device("a0", "A", "n"), Device("a1", "A", "n"), Device("b0", "B", "n")), LINK),), TYPES, LINK)


def test_curves_span_what_plans_ask_for():
    sizes = curve_microbatches(NetworkSpec("n", Training(64)), Search())
    assert sizes[0] == 4  # 64 samples in 16 microbatches
    assert sizes[-1] == 64
    assert len(sizes) == 4
    ratios = [b / a for a, b in pairwise(sizes)]
    assert max(ratios) / min(ratios) < 1.3, "even on a log scale"


def test_curves_have_pipelined_points_at_both_ends():
    points = curve_points(NetworkSpec("n", Training(64)), Search(), CLUSTER)
    assert [p for p in points if p.in_flight > 1] == [Point.of({"A": 32, "B": 32}, 2), Point.of({"A": 4, "B": 4}, 4)]
    alone = curve_points(NetworkSpec("n", Training(64)), Search(strategies=("data_parallel",)), CLUSTER)
    assert all(p.in_flight == 1 for p in alone)


def test_a_tiny_batch_has_few_points():
    assert curve_microbatches(NetworkSpec("n", Training(2)), Search()) == (1, 2)


def test_the_shares_of_a_plan_are_measured_together():
    plans = [Plan.parse("a0[0:2] 28/1 | b0[0:2] 4/1"), Plan.parse("a0[0:1] > b0[1:2] 32/8; 1f1b")]
    assert plan_points(plans, CLUSTER) == (Point.of({"A": 28, "B": 4}), Point.of({"A": 4, "B": 4}, 4))


def test_message_sizes_reach_the_largest_boundary():
    chain = Chain("n", (Layer("l0", (), 5000), Layer("l1", (), 100)))
    assert message_sizes(chain, 64) == (1024, 8192, 65536, 320000)


def test_gradient_sizes_hold_the_very_buckets():
    chain = Chain("n", (Layer("l0", (10_000,)), Layer("l1", (500_000,))))
    sizes = gradient_sizes(chain, CLUSTER)
    assert {2_000_000, 40_000} <= set(sizes)


def test_every_small_group_is_reduced_and_large_worlds_keep_to_pairs_and_the_whole():
    assert reduce_groups(2) == [(0, 1)]
    assert len(reduce_groups(4)) == 6 + 4 + 1
    assert len(reduce_groups(8)) == 28 + 1
    assert reduce_groups(8)[-1] == tuple(range(8))
