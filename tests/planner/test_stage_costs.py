"""Prefix sums, pools and share curves against the cost and memory models asked one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_cases import problems, simple_costs

from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.memory import memory_use, most_in_flight
from hetsim.plan import PLAIN_SCHEDULES, Plan, Replica, Stage
from hetsim.planner.batch_split import whole_chain_buckets
from hetsim.planner.pools import pools_of
from hetsim.planner.share_costs import share_costs
from hetsim.planner.stage_costs import stage_costs
from hetsim.schedule import make_schedule


@given(problems(most_devices=3, most_layers=5, most_batch=6), st.data())
@settings(max_examples=80, deadline=None)
def test_memory_of_stages_equals_the_memory_model(case, data):
    costs, training = case
    devices, layers = costs.cluster.devices, len(costs.chain)
    count = data.draw(st.integers(1, min(len(devices), layers)))
    cuts = [0, *sorted(data.draw(st.permutations(range(1, layers)))[: count - 1]), layers]
    microbatches = data.draw(st.sampled_from([m for m in range(1, 7) if training.global_batch % m == 0]))
    stages = tuple(Stage(d.name, a, b) for d, a, b in zip(devices, cuts[:-1], cuts[1:], strict=False))
    replica = Replica(stages, training.global_batch, microbatches)
    plan = Plan((replica,), data.draw(st.sampled_from(PLAIN_SCHEDULES)))
    schedule = make_schedule(plan, costs.chain)
    types = [kind.name for kind in costs.cluster.used_types]
    at_size = stage_costs(costs, types, replica.microbatch_samples)
    for stage, use in zip(stages, memory_use(plan, costs, training), strict=True):
        peaks = at_size.peak_bytes(
            training,
            np.array([stage.start]),
            np.array([stage.stop]),
            microbatches=microbatches,
            in_flight=most_in_flight(schedule.actions[stage.device]),
        )
        assert peaks[types.index(costs.cluster.device(stage.device).type), 0] == use.peak_bytes


@given(problems(most_devices=2, most_layers=4, most_batch=9), st.sampled_from([1, 2, 3]))
@settings(max_examples=60, deadline=None)
def test_share_curves_equal_the_models_between_and_beyond_measured_sizes(case, microbatches):
    costs, training = case
    # Keep a few of the measured sizes, so that most shares are interpolated or extrapolated.
    kept = tuple(row for row in costs.table.layers if row.microbatch in (1, 4, 6) or row.layer == "@step")
    costs = type(costs)(costs.chain, costs.cluster, type(costs.table)("net", kept))
    curves = share_costs(costs, training, [costs.cluster.devices[0].type], whole_chain_buckets(costs.chain))
    (curve,) = curves.values()
    device, layers = costs.cluster.devices[0].name, range(len(costs.chain))
    for m in range(1, training.global_batch // microbatches + 1):
        plan = Plan((Replica((Stage(device, 0, len(layers)),), m * microbatches, microbatches),))
        assert curve.peak_bytes(microbatches)[m] == memory_use(plan, costs, training)[0].peak_bytes
        seconds = sum(costs.forward(device, i, m).seconds + costs.backward(device, i, m).seconds for i in layers)
        seconds += costs.loss_forward(device, m).seconds + costs.loss_backward(device, m).seconds
        assert curve.round_s[m] == pytest.approx(seconds, rel=1e-9, abs=1e-12)


def test_unpriced_layers_are_counted_and_never_zero_by_silence():
    costs = simple_costs({"a": [0.001, 0.002], "b": [0.001, 0.002]}, ["a", "b"])
    rows = tuple(row for row in costs.table.layers if (row.device_type, row.layer) != ("b", "l1"))
    costs = type(costs)(costs.chain, costs.cluster, type(costs.table)("net", rows))
    at_size = stage_costs(costs, ["a", "b"], 2)
    assert at_size.unpriced.tolist() == [[0, 0, 0], [0, 0, 1]]
    assert np.isinf(at_size.layer_s(2)[1, 1])


def cluster_of(homes, near, network):
    """A cluster of one device type, a device for each entry of `homes`: the number of its node."""
    members = {number: [] for number in homes}
    for index, number in enumerate(homes):
        members[number].append(Device(f"d{index}", "t", f"n{number}"))
    nodes = tuple(Node(f"n{number}", tuple(rows), near) for number, rows in members.items())
    return Cluster(nodes, {"t": DeviceType("t")}, network)


def test_pools_follow_the_links():
    near, network = Link("near", 0.0, 1e9), Link("network", 0.0, 1e8)
    pools = pools_of(cluster_of([0, 0, 1, 2, 3, 3], near, network), ["t"])
    assert [pool.devices for pool in pools] == [("d0", "d1"), ("d2", "d3"), ("d4", "d5")]
    assert [len(pool) for pool in pools_of(cluster_of([0, 0, 1, 2], network, network), ["t"])] == [4]


def test_too_many_pools_are_merged_by_type_and_say_so():
    near, network = Link("near", 0.0, 1e9), Link("network", 0.0, 1e8)
    (pool,) = pools_of(cluster_of([n for n in range(10) for _ in range(2)], near, network), ["t"])
    assert len(pool) == 20
    assert not pool.alike
