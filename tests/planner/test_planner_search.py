"""The whole choice: never worse than a baseline, never below the bound, deterministic, and honest about what it left out."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_cases import problems, recurrence, simple_costs

from hetsim.costs import CostModel, CostTable
from hetsim.errors import CostError, InfeasibleError, InputError
from hetsim.hardware import Cluster, Device, Link, Node
from hetsim.memory import memory_use
from hetsim.plan import Plan
from hetsim.planner import search
from hetsim.planner.batch_split import BatchSplit
from hetsim.planner.corners import DATA_PARALLEL, ONE_TYPE, PIPELINE
from hetsim.planner.pipelines import PipelineSearch
from hetsim.planner.pools import pools_of
from hetsim.planner.remedy import PRECISION
from hetsim.planner.watch import Watch
from hetsim.scenario.types import STRATEGIES, Search
from hetsim.workload import Training

SMALL = Search(microbatches=(1, 2, 4))
strategies = st.lists(st.sampled_from(STRATEGIES), min_size=1, unique=True).map(tuple)


def without(costs, device_type, layer):
    """The same costs, less those of one layer on one type."""
    rows = tuple(row for row in costs.table.layers if (row.device_type, row.layer) != (device_type, layer))
    return CostModel(costs.chain, costs.cluster, CostTable("net", rows))


@given(problems(most_devices=3, most_layers=3, most_batch=4), strategies)
@settings(max_examples=60, deadline=None)
def test_invariants_of_every_result(case, chosen_strategies):
    costs, training = case
    space = replace(SMALL, strategies=chosen_strategies)
    try:
        result = search(costs, training, space, recurrence(costs))
    except InfeasibleError:
        return
    steps = [row.step_s for row in result.candidates]
    assert steps == sorted(steps)
    assert result.chosen is result.candidates[0]
    assert {row.strategy for row in result.candidates} <= set(chosen_strategies)
    assert {row.plan for row in result.baselines} <= {row.plan for row in result.candidates}
    assert len({row.plan for row in result.candidates}) == len(result.candidates)
    assert all(steps[0] <= row.step_s for row in (*result.baselines, *result.corners))
    assert {row.plan for row in result.corners} <= {row.plan for row in result.candidates}
    assert 0 <= result.lower_bound_s <= steps[0]
    counts = (result.solved, result.ruled_out, result.left_open, *result.infeasible_counts.values())
    assert all(count >= 0 for count in counts)
    assert sum(counts) == result.considered
    assert not result.left_open or result.gap is None or result.gap > 0
    for row in result.candidates:
        row.plan.check(costs.chain, costs.cluster, training.global_batch)
        assert row.memory == memory_use(row.plan, costs, training)
        assert all(use.fits for use in row.memory)
        assert row.headroom is None or 0 <= row.headroom <= 1


def with_groups(costs, factor):
    """The same costs, and those of groups of two devices, in so much of the time."""
    rows = [
        replace(row, tensor_parallel=2, forward_s=factor * row.forward_s, backward_s=factor * row.backward_s)
        for row in costs.table.layers
    ]
    return CostModel(costs.chain, costs.cluster, CostTable("net", (*costs.table.layers, *rows)))


def test_a_ring_goes_by_turns_of_the_nodes_where_their_own_links_are_worse_than_the_network():
    own, network = Link("own", 1e-5, 3e9), Link("network", 1e-5, 12.5e9)
    nodes = tuple(
        Node(n, tuple(Device(f"a{i}", "a", n) for i in places), own) for n, places in (("n", (0, 1)), ("m", (2, 3)))
    )
    costs = simple_costs({"a": [0.003]}, ["a"], parameters=(25_000_000,))
    costs = CostModel(costs.chain, Cluster(nodes, costs.cluster.device_types, network), costs.table)
    found = search(costs, Training(64), SMALL, recurrence(costs))
    by_turns = Plan.parse("a0[0:1] 16/1 | a2[0:1] 16/1 | a1[0:1] 16/1 | a3[0:1] 16/1")
    by_node = Plan.parse("a0[0:1] 16/1 | a1[0:1] 16/1 | a2[0:1] 16/1 | a3[0:1] 16/1")
    assert recurrence(costs)(by_turns) < 0.8 * recurrence(costs)(by_node)
    assert found.chosen.step_s <= recurrence(costs)(by_turns)
    assert found.lower_bound_s <= recurrence(costs)(by_turns)


@pytest.mark.parametrize(("devices", "layers"), [(2, 1), (2, 2), (3, 1), (3, 2)])
def test_a_group_of_devices_may_hold_the_network_alone_or_beside_a_device(devices, layers):
    bus = Link("bus", 1e-5, 1e6)
    costs = with_groups(simple_costs({"a": [0.03] * layers}, ["a"] * devices, link=bus, parameters=(100,)), 0.52)
    found = search(costs, Training(8), SMALL, recurrence(costs))
    texts = [f"a0+a1[0:{layers}] 8/1"]
    texts += [f"a0+a1[0:{layers}] {share}/1 | a2[0:{layers}] {8 - share}/1" for share in range(1, 8) if devices == 3]
    best_s = min(recurrence(costs)(Plan.parse(text)) for text in texts)
    assert found.lower_bound_s <= best_s * (1 + 1e-9)
    assert found.chosen.step_s <= best_s * (1 + 1e-9)
    assert found.chosen.strategy == ("data_parallel" if devices == 2 else "hybrid")
    assert any(row.name.startswith("a0+a1 alone") for row in found.candidates)


def test_where_time_is_over_at_once_a_plan_that_fits_is_found_all_the_same():
    costs = simple_costs(
        {"a": [0.03] * 2}, ["a"] * 3, link=Link("bus", 0.01, 1e5), parameters=(1000,), output_bytes_per_sample=1024
    )
    space = replace(SMALL, strategies=("pipeline", "hybrid"), microbatches=(3,), microbatch_samples=(1,))
    found = search(costs, Training(5), space, recurrence(costs), watch=Watch(0.0))
    assert found.ended_early
    assert found.chosen.strategy == "hybrid"


def test_layers_that_some_types_lack_do_not_end_the_search():
    costs = simple_costs({"a": [0.011, 0.013, 0.02], "b": [0.02, 0.01, 0.03]}, ["a", "a", "b"], parameters=(500,))
    found = search(without(costs, "b", "l0"), Training(4), Search(), recurrence(without(costs, "b", "l0")))
    assert found.unpriceable == ("layer l0 on b",)


def test_depths_that_are_not_searched_are_told(monkeypatch):
    costs = simple_costs({"a": [0.001] * 6}, ["a"] * 5)
    told = search(costs, Training(8), SMALL, recurrence(costs))
    assert told.unsearched == ()
    monkeypatch.setattr("hetsim.planner.pipelines.MOST_STAGES", 3)
    monkeypatch.setattr("hetsim.planner.hybrid_problem.MOST_STAGES", 2)
    told = search(costs, Training(8), SMALL, recurrence(costs))
    assert set(told.unsearched) == {"pipelines of more than 3 stages", "hybrids with replicas of more than 2 stages"}
    assert any(line.endswith("were not looked for; the bound does not speak of them.") for line in told.explanation)


@given(problems(most_devices=4, most_layers=4, most_batch=4), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_order_of_devices_does_not_change_the_optimum(case, shuffler):
    costs, training = case
    nodes = [replace(node, devices=tuple(shuffler.sample(node.devices, len(node.devices)))) for node in costs.cluster.nodes]
    cluster = replace(costs.cluster, nodes=tuple(shuffler.sample(nodes, len(nodes))))

    def optima(model):
        pools = pools_of(model.cluster, model.cluster.device_types)
        rows = BatchSplit(model, training, pools, (1, 2)).best()
        pipelines = PipelineSearch(model, training, (1, 2, 4), ("1f1b",))
        return rows[0].objective_s if rows else None, least_objective(pipelines)

    for one, other in zip(optima(costs), optima(CostModel(costs.chain, cluster, costs.table)), strict=True):
        assert one == other or one == pytest.approx(other, rel=1e-2)


def least_objective(pipelines):
    """The smallest estimate of any pipeline; None where none fits."""
    found = list(pipelines.run(lambda: float("inf"), 0.0, 1000, Watch()))
    return min((proposal.objective_s for proposal in found), default=None)


def test_useless_device_is_left_out_and_the_sentence_says_why():
    costs = simple_costs({"fast": [0.001], "slow": [0.1]}, ["fast", "slow"], link=Link("bus", 0.1, 1e9), parameters=(1000,))
    result = search(costs, Training(64), Search(), recurrence(costs))
    assert str(result.chosen.plan) == "fast0[0:1] 64/1"
    assert result.explanation == (
        "fast0 alone takes 64.0 ms a step; nothing beats the baseline fast alone.",
        "No plan of the searched strategies is faster: the lower bound is reached.",
        "slow0 is worth nothing here: the best plan with slow, data parallel 63|1, takes 300 ms, 368.8 % longer.",
    )


def test_one_idle_device_of_a_type_that_works():
    costs = simple_costs({"a": [0.001]}, ["a"] * 3, link=Link("bus", 0.0, 1e30))
    result = search(costs, Training(2), Search(("data_parallel",)), recurrence(costs))
    assert result.explanation[-1] == "a2 stays idle: no plan with more of a is possible."
    assert [(row.reason, row.count) for row in result.infeasible] == [("batch", 1)]


def test_missing_costs_keep_a_device_from_its_layers_and_are_listed():
    costs = without(simple_costs({"a": [0.001] * 3, "b": [0.001] * 3}, ["a", "b"]), "b", "l0")
    result = search(costs, Training(8), SMALL, recurrence(costs))
    assert result.unpriceable == ("layer l0 on b",)
    assert any("b0[1:3]" in str(row.plan) or "b0[2:3]" in str(row.plan) for row in result.candidates)
    assert not any("b0[0:" in str(row.plan) for row in result.candidates)
    assert result.explanation[-1] == "The cost table lacks layer l0 on b; no plan that needs these was considered."


def test_costs_that_no_device_has_are_an_error():
    costs = simple_costs({"a": [0.001] * 2, "b": [0.001] * 2}, ["a", "b"])
    costs = without(without(costs, "a", "l0"), "b", "l0")
    with pytest.raises(CostError, match="layer l0 on a; layer l0 on b"):
        search(costs, Training(8), SMALL, recurrence(costs))


def test_memory_is_blamed_before_missing_costs():
    costs = simple_costs({"a": [0.001] * 2, "b": [0.001] * 2}, ["a", "b"], memory={"a": 100, "b": 100}, parameters=(100,))
    with pytest.raises(InfeasibleError, match="has 100 B"):
        search(without(costs, "b", "l0"), Training(4), SMALL, recurrence(costs))


def infeasible(costs, training, space):
    with pytest.raises(InfeasibleError) as caught:
        search(costs, training, space, recurrence(costs))
    (problem,) = caught.value.problems
    return problem


def test_what_does_not_fit_is_told_with_numbers_and_a_wider_search():
    costs = simple_costs({"a": [0.001]}, ["a"], memory={"a": 900}, saved_bytes_per_sample=100)
    problem = infeasible(costs, Training(64), Search(microbatches=(1, 2, 4)))
    assert problem.what == (
        'no plan of the searched strategies fits the memory; of the nearest, "a0[0:1] 64/4", a0 needs 1.56 KiB and has 900 B'
    )
    assert problem.help == 'Let the search use 8 microbatches: then "a0[0:1] 64/8" fits'


def test_another_strategy_is_the_remedy_where_it_fits():
    costs = simple_costs({"a": [0.001] * 2}, ["a", "a"], memory={"a": 2000}, parameters=(100,))
    problem = infeasible(costs, Training(4), Search(("data_parallel",)))
    assert problem.help == 'Let the search use all strategies and schedules: then "a0[0:1] > a1[1:2] 4/4; gpipe" fits'


def test_more_memory_is_the_last_remedy():
    costs = simple_costs({"a": [0.001]}, ["a"], memory={"a": 1000}, parameters=(100,))
    problem = infeasible(costs, Training(4), Search())
    assert problem.what.endswith("a0 needs 1.17 KiB and has 1000 B")
    assert problem.help == "Take devices with more memory: a with 200 B more"
    enough = simple_costs({"a": [0.001]}, ["a"], memory={"a": 1200}, parameters=(100,))
    assert search(enough, Training(4), Search(), recurrence(enough)).chosen.headroom == 0
    assert PRECISION < 1.2


def test_with_the_memory_that_is_asked_for_a_plan_fits():
    def costs_with(memory):
        return simple_costs({"a": [0.001] * 3, "b": [0.002] * 3}, ["a", "b"], memory=memory, parameters=(10_000,))

    memory = {"a": 10_000, "b": 10_000}
    help_text = infeasible(costs_with(memory), Training(4), Search()).help
    asked = re.findall(r"(a|b) with ([0-9.]+) KiB more", help_text)
    assert len(asked) == 2, "either lacks some"
    enough = {kind: memory[kind] + int(float(more) * 1024) for kind, more in asked}
    assert search(costs_with(enough), Training(4), Search(), recurrence(costs_with(enough))).chosen.headroom >= 0


def test_pipeline_of_one_device_names_what_is_lacking():
    costs = simple_costs({"a": [0.001] * 3}, ["a"])
    with pytest.raises(InfeasibleError, match="needs two devices and two layers; there are 1 and 3"):
        search(costs, Training(4), Search(("pipeline",)), recurrence(costs))


def test_batch_that_microbatches_do_not_divide_is_counted():
    costs = simple_costs({"a": [0.001] * 3}, ["a", "a"])
    result = search(costs, Training(10), Search(("pipeline",), microbatches=(2, 4)), recurrence(costs))
    assert {row.what: row.detail for row in result.infeasible} == {
        "pipelines of 4 microbatches": "4 does not divide the global batch of 10"
    }
    assert result.considered == 2 + 2


_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from planner_cases import recurrence, simple_costs
from hetsim.hardware import Cluster, Device, Link, Node
from hetsim.plan import Plan
from hetsim.planner import search
from hetsim.planner.batch_split import BatchSplit
from hetsim.planner.corners import DATA_PARALLEL, ONE_TYPE, PIPELINE
from hetsim.planner.pipelines import PipelineSearch
from hetsim.planner.pools import pools_of
from hetsim.scenario.types import Search
from hetsim.workload import Training
costs = simple_costs({{"a": [0.001, 0.003, 0.002], "b": [0.002, 0.002, 0.002]}}, ["a", "b", "b"],
                     link=Link("bus", 1e-4, 1e6), output_bytes_per_sample=10, parameters=(1000,))
print(search(costs, Training(16), Search(), recurrence(costs)))
"""


def test_same_input_same_result_under_any_hash_seed():
    script = _SCRIPT.format(tests=str(Path(__file__).parent))
    outputs = set()
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_chains_beyond_memory_are_refused_with_a_way_out():
    long = simple_costs({kind: [0.001] * 1500 for kind in "ab"}, "aabb")
    with pytest.raises(InputError, match="Make one layer of several"):
        search(long, Training(4), Search(strategies=("pipeline",), microbatches=(2,)), recurrence(long))


def test_sets_of_devices_that_cannot_be_listed_are_searched_by_their_number():
    """Twelve devices of each of six types make five million sets; all of equal speed, all of them take part."""
    wide = simple_costs({kind: [0.001] for kind in "abcdef"}, "abcdef" * 12)
    result = search(wide, Training(720), Search(strategies=("data_parallel",)), recurrence(wide))
    assert result.considered > 13**6 - 1
    assert {replica.samples for replica in result.chosen.plan.replicas} == {10}
    assert result.gap == pytest.approx(0, abs=1e-3)


@given(problems(most_devices=4, most_layers=3, most_batch=5))
@settings(max_examples=40, deadline=None)
def test_corners_are_what_a_search_of_that_corner_alone_finds(case):
    """The best of data parallelism is exact; so is that of one device type, where only that is searched."""
    costs, training = case
    space = replace(SMALL, strategies=("data_parallel",))
    try:
        result = search(costs, training, space, recurrence(costs))
    except InfeasibleError:
        return
    found = {row.name: row for row in result.corners}
    assert found[DATA_PARALLEL].step_s == result.chosen.step_s
    alone = []
    for kind in costs.cluster.device_types:
        pools = pools_of(costs.cluster, [kind])
        split = BatchSplit(costs, training, pools, SMALL.microbatches) if pools else None
        if split and (best := split.best()):
            alone.append(recurrence(costs)(best[0].plan))
    assert (ONE_TYPE in found) == bool(alone)
    if alone:
        assert found[ONE_TYPE].step_s <= min(alone) + 1e-8


def test_where_no_device_holds_the_network_the_best_of_one_type_is_a_pipeline():
    costs = simple_costs(
        {"a": [0.001] * 4, "b": [0.002] * 4}, ["a", "a", "b", "b"], memory={"a": 30_000, "b": 30_000}, parameters=(1000,)
    )
    result = search(costs, Training(8), Search(microbatches=(1, 2, 4)), recurrence(costs))
    found = {row.name: row for row in result.corners}
    assert set(found[ONE_TYPE].plan.devices) == {"a0", "a1"}
    assert found[PIPELINE].step_s <= found[ONE_TYPE].step_s
    assert DATA_PARALLEL not in found


def test_a_time_limit_that_is_over_from_the_start_leaves_what_is_known():
    costs = simple_costs({"a": [0.01] * 4, "b": [0.03] * 4}, ["a", "b", "b"])
    hurried = search(costs, Training(8), SMALL, recurrence(costs), watch=Watch(-1.0))
    whole = search(costs, Training(8), SMALL, recurrence(costs))
    assert hurried.ended_early
    assert not whole.ended_early
    assert hurried.chosen.step_s <= min(row.step_s for row in hurried.baselines)
    assert 0 <= hurried.lower_bound_s <= whole.chosen.step_s
    assert hurried.left_open >= whole.left_open


def test_plans_that_mirror_each_other_are_shown_once():
    """Two devices of a type, in one node: whichever of them rests or has the first layers, it is the same plan."""
    costs = simple_costs({"a": [1.0, 2.0, 3.0], "b": [2.0, 4.0, 6.0]}, "aabb")
    result = search(costs, Training(8), SMALL, recurrence(costs))
    kind = {device.name: device.type for device in costs.cluster.devices}

    def look(row):
        replicas = sorted(
            (r.samples, r.microbatches, [(kind[s.device], s.start, s.stop) for s in r.stages]) for r in row.plan.replicas
        )
        return str(replicas), row.plan.schedule, row.step_s

    looks = [look(row) for row in result.candidates]
    assert len(set(looks)) == len(looks) > 5
