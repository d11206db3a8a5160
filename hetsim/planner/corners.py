"""The corners of the search: the best plan of one device type alone, of pure data parallelism and of one pure pipeline.

Unlike the baselines, which are what one would do by hand, these are searched: they tell what mixing types, and mixing replicas with
stages, is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from hetsim.costs import CostModel
from hetsim.hardware import Cluster
from hetsim.planner.families import Effort
from hetsim.planner.plain_families import data_parallel, pipelines
from hetsim.planner.pools import only
from hetsim.planner.result import Candidate, Proposal
from hetsim.planner.watch import Watch
from hetsim.scenario.types import Search
from hetsim.workload import Training

ONE_TYPE, DATA_PARALLEL, PIPELINE = "best on one device type", "best data parallel", "best pipeline"

EFFORT = Effort(pipelines=8)
"""For the pipelines of one device type, which have few shapes."""


def propose_of_one_type(
    costs: CostModel, training: Training, search: Search, take: Callable[[Proposal], float], watch: Watch
) -> None:
    """Let the best plan of each device type alone be evaluated, of as many devices as help.

    Data parallelism where a device holds the network, else a pipeline, as far as either is searched. Nothing is done where there is
    only one type.
    """
    kinds = [kind.name for kind in costs.cluster.used_types]
    for kind in kinds if len(kinds) > 1 else ():
        mine = {device.name for device in costs.cluster.devices if device.type == kind}
        own = CostModel(costs.chain, only(costs.cluster, mine), costs.table)
        steps = [float("inf")]

        def taken(proposal: Proposal, steps: list[float] = steps) -> float:
            steps.append(take(proposal))
            return steps[-1]

        def best_s(steps: list[float] = steps) -> float:
            return min(steps)

        if "data_parallel" in search.strategies and not watch.over:
            data_parallel(own, training, search, taken)
        fits = best_s() < float("inf")
        if not fits and {"model_parallel", "pipeline"} & set(search.strategies) and not own.missing([kind]):
            pipelines(own, training, search, taken, best_s, watch, EFFORT)


def corners(ranked: Sequence[Candidate], costs: CostModel) -> tuple[Candidate, ...]:
    """The best of `ranked`, which are in order, at each corner, under its name; without corners at which nothing fits."""
    return tuple(_corners(ranked, costs.cluster))


def _corners(ranked: Sequence[Candidate], cluster: Cluster) -> Iterator[Candidate]:
    kind_of = {device.name: device.type for device in cluster.devices}
    corner_tests: list[tuple[str, Callable[[Candidate], bool]]] = [
        (ONE_TYPE, lambda row: len({kind_of[name] for name in row.plan.devices}) == 1),
        (DATA_PARALLEL, lambda row: row.strategy == "data_parallel"),
        (PIPELINE, lambda row: row.strategy in ("pipeline", "model_parallel")),
    ]
    for name, belongs in corner_tests:
        if (best := next(filter(belongs, ranked), None)) is not None:
            yield replace(best, name=name)
