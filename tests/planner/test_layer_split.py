"""The layer split against every cut, subset and order of devices, and the textbook."""

from itertools import combinations, pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_cases import problems, recurrence, simple_costs

from hetsim.hardware import Link
from hetsim.memory import memory_use
from hetsim.plan import PLAIN_SCHEDULES, Plan, Replica, Stage
from hetsim.planner.baselines import proportional_cuts
from hetsim.planner.layer_split import LayerSplit
from hetsim.planner.limit_search import NEAR, SLACK
from hetsim.planner.pools import pools_of
from hetsim.workload import Training


def split(costs, training, microbatches):
    return LayerSplit(costs, training, pools_of(costs.cluster, costs.cluster.device_types), microbatches)


def all_plans(costs, batch, microbatches, schedule):
    """Every plan of one replica with two stages or more."""
    names, layers = [device.name for device in costs.cluster.devices], len(costs.chain)
    for count in range(2, min(len(names), layers) + 1):
        for order in permutations(names, count):
            for inner in combinations(range(1, layers), count - 1):
                cuts = [0, *inner, layers]
                stages = tuple(Stage(name, a, b) for name, a, b in zip(order, cuts[:-1], cuts[1:], strict=True))
                yield Plan((Replica(stages, batch, microbatches),), schedule)


def objective_s(plan, costs):
    """(M - 1) * slowest + sum of stages and links + start and update of the first stage, straight from the costs."""
    (replica,) = plan.replicas
    size, stages = replica.microbatch_samples, replica.stages
    times = []
    for stage in stages:
        parts = [
            costs.forward(stage.device, i, size).seconds
            + costs.backward(stage.device, i, size).seconds
            + costs.accumulate(stage.device, i).seconds * (1 - 1 / replica.microbatches)
            for i in stage.layers
        ]
        if stage.stop == len(costs.chain):
            parts += [costs.loss_forward(stage.device, size).seconds, costs.loss_backward(stage.device, size).seconds]
        times.append(sum(parts))
    for a, b in pairwise(stages):
        size_bytes = size * costs.chain.boundary_bytes_per_sample(a.stop)
        times.append(costs.send_s(a.device, b.device, size_bytes) + costs.send_s(b.device, a.device, size_bytes))
    first = stages[0]
    ends = costs.step_overhead_s(first.device) + costs.update_s(first.device, first.layers)
    return (replica.microbatches - 1) * max(times) + sum(times) + ends


@given(problems(most_devices=4, most_layers=6, most_batch=4), st.sampled_from(PLAIN_SCHEDULES), st.data())
@settings(max_examples=120, deadline=None)
def test_equals_brute_force_over_all_cuts_subsets_and_orders(case, schedule, data):
    costs, training = case
    microbatches = data.draw(st.sampled_from([m for m in (1, 2, 3, 4) if training.global_batch % m == 0]))
    expected = {}
    for plan in all_plans(costs, training.global_batch, microbatches, schedule):
        if all(use.fits for use in memory_use(plan, costs, training)):
            stages = len(plan.devices)
            expected[stages] = min(expected.get(stages, float("inf")), objective_s(plan, costs))
    problem = split(costs, training, microbatches)
    found = problem.best(schedule, keep=2)
    assert problem.stage_counts(schedule) == sorted(expected)
    assert bool(found) == bool(expected)
    if found:
        assert found[0].objective_s == pytest.approx(min(expected.values()), rel=1e-8, abs=1e-12)
    for row in found:
        assert row.objective_s == pytest.approx(objective_s(row.plan, costs), rel=1e-9, abs=1e-12)
        assert row.objective_s >= expected[len(row.plan.devices)] * (1 - 1e-9)
        row.plan.check(costs.chain, costs.cluster, training.global_batch)
        assert all(use.fits for use in memory_use(row.plan, costs, training))


@given(problems(most_devices=4, most_layers=7, most_batch=2), st.sampled_from(PLAIN_SCHEDULES))
@settings(max_examples=80, deadline=None)
def test_each_number_of_stages_is_near_its_own_best(case, schedule):
    costs, training = case
    best = {}
    for plan in all_plans(costs, training.global_batch, training.global_batch, schedule):
        if all(use.fits for use in memory_use(plan, costs, training)):
            best[len(plan.devices)] = min(best.get(len(plan.devices), float("inf")), objective_s(plan, costs))
    first = {}
    for row in split(costs, training, training.global_batch).best(schedule):
        first.setdefault(len(row.plan.devices), row.objective_s)
    for stages, expected in best.items():
        if expected < SLACK * min(best.values()) * (1 - 1e-9):
            assert first[stages] <= expected / (1 - NEAR) + 1e-12


@given(problems(most_devices=3, most_layers=5, most_batch=3, nodes=False))
@settings(max_examples=60, deadline=None)
def test_model_parallel_objective_is_never_above_the_simulated_step(case):
    costs, training = case
    evaluate = recurrence(costs)
    for row in split(costs, training, 1).best("gpipe"):
        assert row.objective_s <= evaluate(row.plan) + 1e-7


@pytest.mark.parametrize(
    ("devices", "expected"), [(["a", "b"], (6, 3)), (["a", "a", "b"], (4, 4, 2)), (["b", "a", "b"], (6, 3, 3))]
)
def test_twice_as_fast_holds_twice_the_layers(devices, expected):
    layers = sum(expected)
    costs = simple_costs({"a": [0.001] * layers, "b": [0.002] * layers}, devices)
    best = next(row for row in split(costs, Training(64), 64).best("1f1b") if len(row.plan.devices) == len(devices))
    by_type = sorted((stage.device[0], len(stage.layers)) for stage in best.plan.replicas[0].stages)
    assert by_type == sorted(zip(sorted(devices), sorted(expected, reverse=True), strict=True))


def test_large_problem_beats_the_proportional_cut():
    """96 layers on 16 devices of three types: far beyond enumeration, so held against what it must not lose to."""
    speeds = {"a": 1.0, "b": 2.2, "c": 3.7}
    costs = simple_costs(
        {kind: [1e-4 * speed * (1 + layer % 7) for layer in range(96)] for kind, speed in speeds.items()},
        ["a"] * 6 + ["b"] * 5 + ["c"] * 5,
        link=Link("net", 1e-4, 1e9),
        output_bytes_per_sample=1000,
    )
    best = split(costs, Training(64), 16).best("1f1b")[0]
    assert best.objective_s == pytest.approx(objective_s(best.plan, costs), rel=1e-9)
    names = [device.name for device in costs.cluster.devices]
    cuts = proportional_cuts(costs.chain, [1 / speeds[name[0]] for name in names])
    stages = tuple(Stage(name, a, b) for name, (a, b) in zip(names, pairwise(cuts), strict=True))
    assert best.objective_s < objective_s(Plan((Replica(stages, 64, 16),)), costs)


def test_slow_link_is_not_crossed():
    """The cut goes where few bytes cross, although the stages are then less even."""
    costs = simple_costs({"a": [0.001] * 6}, ["a", "a"], link=Link("slow", 0.0, 1e6), output_bytes_per_sample=2000)
    wide = costs.chain.layers[0]
    narrow = type(wide)("l3", wide.parameters, 1)
    chain = type(costs.chain)("net", (*costs.chain.layers[:3], narrow, *costs.chain.layers[4:]))
    costs = type(costs)(chain, costs.cluster, costs.table)
    assert str(split(costs, Training(8), 4).best("gpipe")[0].plan) == "a0[0:4] > a1[4:6] 8/4; gpipe"


def test_unpriced_layer_stays_off_the_device_that_lacks_it():
    costs = simple_costs({"a": [0.001] * 4, "b": [0.0001] * 4}, ["a", "b"])
    rows = tuple(row for row in costs.table.layers if (row.device_type, row.layer) != ("b", "l1"))
    costs = type(costs)(costs.chain, costs.cluster, type(costs.table)("net", rows))
    best = split(costs, Training(4), 1).best("gpipe")[0]
    assert str(best.plan) == "a0[0:2] > b0[2:4] 4/1; gpipe"


def test_1f1b_fits_where_gpipe_does_not():
    costs = simple_costs({"a": [0.001] * 4}, ["a"] * 2, memory={"a": 4000}, saved_bytes_per_sample=100)
    problem = split(costs, Training(16), 8)
    assert problem.best("gpipe")[0].plan.schedule == "gpipe"
    tight = simple_costs({"a": [0.001] * 4}, ["a"] * 2, memory={"a": 900}, saved_bytes_per_sample=100)
    problem = split(tight, Training(16), 8)
    assert problem.best("gpipe") == []
    assert str(problem.best("1f1b")[0].plan) == "a0[0:2] > a1[2:4] 16/8; 1f1b"
