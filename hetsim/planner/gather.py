"""All that the solvers propose for a search space, before anything is evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hetsim.costs import CostModel
from hetsim.errors import InputError
from hetsim.memory import MemoryUse, memory_use
from hetsim.plan import Plan, Replica, ScheduleName, Stage
from hetsim.planner.baselines import even_cuts
from hetsim.planner.batch_split import BatchSplit
from hetsim.planner.layer_split import LayerSplit
from hetsim.planner.pools import Pool, pools_of
from hetsim.planner.result import Proposal, Reason, Rejection
from hetsim.scenario.types import Search
from hetsim.units import format_bytes
from hetsim.workload import Training

KEPT_SETS = 4
"""Sets of devices whose best data-parallel split is evaluated."""

MOST_CELLS = 4_000_000
"""Stages that a layer split prices one by one: some hundred bytes each, and some minutes in all."""

KEPT_CUTS = 3
"""Cuts that are evaluated for each schedule, number of microbatches and number of stages."""

WORSE = 1.5
"""Pipelines whose estimate is more than so many times that of the best are not evaluated, but for the best of each kind."""


@dataclass(slots=True)
class Gathered:
    """What the solvers found."""

    proposals: list[Proposal] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    considered: int = 0
    batch_splits: list[BatchSplit] = field(default_factory=list)
    layer_splits: list[LayerSplit] = field(default_factory=list)


def gather(costs: CostModel, training: Training, search: Search) -> Gathered:
    """The proposals of all strategies of `search`, with counts, and the problems that were solved."""
    found = Gathered()
    pools = pools_of(costs.cluster, (kind.name for kind in costs.cluster.used_types))
    if "data_parallel" in search.strategies:
        _gather_data_parallel(found, costs, training, search, pools)
    if pipelines := list(_pipelines(search)):
        _gather_pipelines(found, costs, training, pools, pipelines)
    return found


def overfull(uses: tuple[MemoryUse, ...]) -> MemoryUse | None:
    """The device that is most overfull, relative to what it has; None where all fit."""
    return max((use for use in uses if not use.fits), key=lambda use: use.peak_bytes / (use.limit_bytes or 1), default=None)


def _gather_data_parallel(
    found: Gathered, costs: CostModel, training: Training, search: Search, pools: tuple[Pool, ...]
) -> None:
    whole = tuple(pool for pool in pools if not costs.missing([pool.device_type]))
    if not whole:
        found.rejections.append(Rejection("data parallel", "costs", "no device type has a cost for every layer", 0))
        return
    counts = tuple(sorted({1, *search.microbatches}))
    split = BatchSplit(costs, training, whole, counts)
    proposals = split.best(KEPT_SETS)
    if len(counts) > 1:
        # Plain data parallelism is proposed too: microbatches may look better by less than the costs are sure of.
        proposals += BatchSplit(costs, training, whole).best(KEPT_SETS)
    if proposals:
        # For each pool that the best leaves devices of, what using one more would come to.
        used = set(proposals[0].plan.devices)
        members = [len(used.intersection(pool.devices)) for pool in whole]
        for number, pool in enumerate(whole):
            if members[number] < len(pool):
                proposals += split.best(least=[members[number] + 1 if p == number else 0 for p in range(len(whole))])
    found.proposals += proposals
    found.rejections += split.rejections()
    found.considered += split.considered
    found.batch_splits.append(split)


def _pipelines(search: Search) -> Iterator[tuple[int, ScheduleName]]:
    """The (microbatches, schedule) to search; model parallelism is one microbatch, for which the schedules are the same."""
    if "model_parallel" in search.strategies:
        yield 1, "gpipe"
    if "pipeline" in search.strategies:
        for microbatches in dict.fromkeys(search.microbatches):
            if microbatches > 1:
                yield from ((microbatches, schedule) for schedule in search.schedules)


def _gather_pipelines(
    found: Gathered,
    costs: CostModel,
    training: Training,
    pools: tuple[Pool, ...],
    pipelines: list[tuple[int, ScheduleName]],
) -> None:
    depth = min(len(costs.chain), sum(map(len, pools)))
    if depth < 2:
        detail = f"needs two devices and two layers; there are {sum(map(len, pools))} and {len(costs.chain)}"
        found.rejections.append(Rejection("pipelines and model parallel", "devices", detail, 0))
        return
    if (cells := len(pools) * len(costs.chain) ** 2) > MOST_CELLS:
        what = f"{len(costs.chain)} layers on {len(pools)} kinds of devices are {cells} stages to price, not {MOST_CELLS} at most"
        raise InputError(f"{what}. Make one layer of several, or search data_parallel alone")
    splits: dict[int, LayerSplit] = {}
    kinds: list[list[Proposal]] = []
    for microbatches, schedule in pipelines:
        found.considered += depth - 1
        if training.global_batch % microbatches:
            detail = f"{microbatches} does not divide the global batch of {training.global_batch}"
            found.rejections.append(Rejection(f"{microbatches} microbatches, {schedule}", "batch", detail, depth - 1))
            continue
        split = splits.setdefault(microbatches, LayerSplit(costs, training, pools, microbatches))
        kinds.append(split.best(schedule, KEPT_CUTS))
        found.rejections += _rejected_stages(split, schedule)
    best_s = min((rows[0].objective_s for rows in kinds if rows), default=0.0)
    found.proposals += [row for rows in kinds for row in rows if row is rows[0] or row.objective_s <= WORSE * best_s]
    found.layer_splits += splits.values()


def _rejected_stages(split: LayerSplit, schedule: ScheduleName) -> Iterator[Rejection]:
    """The numbers of stages for which no placement fits the memory or is priced."""
    possible = split.stage_counts(schedule)
    failed = [stages for stages in range(2, split.table.depth + 1) if stages not in possible]
    if not failed:
        return
    what = f"{split.microbatches} microbatches, {schedule}" if split.microbatches > 1 else "model parallel"
    stages = f"{failed[0]} to {failed[-1]} stages" if len(failed) > 1 else f"{failed[0]} stages"
    devices = [name for pool in split.pools for name in pool.devices][: failed[-1]]
    cuts = even_cuts(split.table.layers, failed[-1])
    even = tuple(Stage(name, a, b) for name, a, b in zip(devices, cuts[:-1], cuts[1:], strict=True))
    plan = Plan((Replica(even, split.training.global_batch, split.microbatches),), schedule)
    worst = overfull(memory_use(plan, split.costs, split.training))
    reason: Reason = "memory" if worst else "costs"
    detail = f"with {failed[-1]} even ones {fullness_text(worst)}" if worst else "layers are not priced on enough devices"
    yield Rejection(f"{what}, {stages}", reason, detail, len(failed))


def fullness_text(use: MemoryUse) -> str:
    """`fast0 needs 3.1 GiB and has 2.0 GiB`."""
    return f"{use.device} needs {format_bytes(use.peak_bytes)} and has {format_bytes(use.limit_bytes or 0)}"
