"""Generated problems of sixteen devices: whatever the network and the cluster, the answer is no worse than what one would do
without a
planner, fits, and is not under its bound."""

import re

import pytest

from benchmarks.bench_planner import batch_split, layer_split
from benchmarks.planner_cases import cases
from hetsim.planner import Effort, Watch, search
from hetsim.planner.replica_split import NEAR
from hetsim.scenario.types import Search
from hetsim.simulator import least_step_s, shared_step_s, step_s

LITTLE = Effort(pipelines=20, replicas=40)
CASES = {problem.name: problem for problem in cases(16)}


def answer(problem, effort=LITTLE, **options):
    costs = problem.costs
    return search(
        costs,
        problem.training,
        Search(),
        lambda plan: least_step_s(plan, costs),
        settle=lambda plan: shared_step_s(plan, costs),
        effort=effort,
        **options,
    )


@pytest.mark.parametrize("name", [name for name in CASES if "48x2048" not in name])
def test_never_worse_than_a_baseline_nor_under_the_bound(name):
    problem = CASES[name]
    result = answer(problem)
    chosen = result.chosen
    chosen.plan.check(problem.costs.chain, problem.costs.cluster, problem.training.global_batch)
    assert all(use.fits for use in chosen.memory)
    assert all(chosen.step_s <= row.step_s for row in result.baselines)
    assert 0 < result.lower_bound_s <= chosen.step_s
    assert chosen.step_s == shared_step_s(chosen.plan, problem.costs) >= least_step_s(chosen.plan, problem.costs)
    assert least_step_s(chosen.plan, problem.costs) >= step_s(chosen.plan, problem.costs)


def test_a_network_that_no_device_holds_is_split_into_hybrids():
    """2.6 billion parameters with Adam's moments on 40 and 16 GB: neither data parallelism nor one pipeline is the answer."""
    result = answer(CASES["16 devices, gpt 32x2560, A100 and V100, 100 Gbit/s"])
    assert result.chosen.strategy == "hybrid"
    pipeline = min(row.step_s for row in result.candidates if row.strategy == "pipeline")
    assert result.chosen.step_s < 0.9 * pipeline


def test_more_effort_never_makes_it_worse():
    problem = CASES["16 devices, gpt 32x2560, A100 and V100, 100 Gbit/s"]
    little, more = answer(problem), answer(problem, Effort(pipelines=40, replicas=90))
    assert more.chosen.step_s <= little.chosen.step_s
    assert more.lower_bound_s >= little.lower_bound_s * (1 - 1e-9)


def test_who_interrupts_gets_the_best_so_far():
    problem = CASES["16 devices, gpt 32x2560, A100 and V100, 100 Gbit/s"]

    def enough(what, best_s, bound_s):
        if what == "hybrids" and best_s < float("inf"):
            raise KeyboardInterrupt

    result = answer(problem, watch=Watch(report=enough))
    assert result.ended_early
    assert 0 < result.lower_bound_s < result.chosen.step_s, "by then only the work is known"
    assert result.gap is not None


def test_the_benchmark_of_single_solvers_tells_how_near_they_come():
    proved = re.search(r"(\d+\.\d+)% from its bound$", layer_split())
    assert float(proved[1]) <= 2 * 100 * NEAR
    assert batch_split(cases(16)[0]).endswith("| 0.00% |")
