"""Families of plans: data parallelism, a group alone, one pipeline. Each proposes plans, and says what none of them is under."""

from __future__ import annotations

from hetsim.costs import CostModel
from hetsim.memory import memory_use
from hetsim.plan import Plan, Replica, Stage
from hetsim.planner.baselines import even_cuts
from hetsim.planner.batch_split import BatchSplit
from hetsim.planner.families import (
    WORTH_A_LOOK,
    BestStep,
    Effort,
    Family,
    Take,
    check_length,
    deeper_than,
    fullness_text,
    overfull,
)
from hetsim.planner.kinds import kinds_of
from hetsim.planner.pipelines import PipelineSearch
from hetsim.planner.placing import place_by_replica
from hetsim.planner.pools import pools_of, pools_within_nodes
from hetsim.planner.result import Proposal, Reason, Rejection
from hetsim.planner.watch import Watch
from hetsim.scenario.types import Search
from hetsim.workload import Training

KEPT_SETS = 4
"""Sets of devices whose best data-parallel split is evaluated."""

SHOWN_PIPELINES = 12
"""Pipelines that are solved even where other plans are known to be better, so that there is one to compare with."""

MOST_TRIED = 100
"""So many are tried for that at most."""


def data_parallel(costs: CostModel, training: Training, search: Search, take: Take) -> Family:
    """Replicas of one device each."""
    pools = pools_of(costs.cluster, (kind.name for kind in costs.cluster.used_types))
    whole = tuple(pool for pool in pools if not costs.missing([pool.device_type]))
    if not whole:
        lacking = Rejection("data parallel", "costs", "no device type has a cost for every layer", 0)
        return Family("data parallel", float("inf"), rejections=[lacking])
    counts = tuple(sorted({1, *search.microbatches}))
    split = BatchSplit(costs, training, whole, counts)
    found = split.best(KEPT_SETS)
    bound_s = split.bound_s(min((proposal.objective_s for proposal in found), default=float("inf")))
    if len(counts) > 1:
        # Plain data parallelism is proposed too: microbatches may look better by less than the costs are sure of.
        found += BatchSplit(costs, training, whole).best(KEPT_SETS)
    if found:
        # For each pool that the best leaves devices of, what using one more would come to.
        used = set(found[0].plan.devices)
        members = [len(used.intersection(pool.devices)) for pool in whole]
        for number, pool in enumerate(whole):
            if members[number] < len(pool):
                found += split.best(least=[members[number] + 1 if p == number else 0 for p in range(len(whole))])
    if split.many or not all(pool.alike for pool in whole):
        # Sets by number go by what devices take; whether they are near each other they do not see.
        for near in pools_within_nodes(costs.cluster, whole):
            found += BatchSplit(costs, training, near, counts).best()
    for proposal in found:
        take(proposal)
    solved = len({frozenset(proposal.plan.devices) for proposal in found})
    return Family("data parallel", bound_s, split.considered, solved, split.rejections())


def groups_alone(costs: CostModel, training: Training, search: Search, take: Take) -> Family:
    """One tensor-parallel group that holds the whole chain: every one with every number of microbatches is evaluated.

    It exchanges gradients with nobody, so that its step is the same in every node.
    """
    family = Family("groups alone", float("inf"))
    overfilled: list[str] = []
    for kind in (kind for kind in kinds_of(costs) if kind.width > 1):
        places = place_by_replica(costs.cluster, [[kind]])
        assert places is not None, "of each kind there is a place"
        ((first, *partners),) = places[0]
        stage = Stage(first, 0, len(costs.chain), tuple(partners))
        for count in sorted({1, *search.pipeline_counts}):
            if training.global_batch % count:
                continue
            plan = Plan((Replica((stage,), training.global_batch, count),))
            family.considered += 1
            step_s = take(Proposal(plan, 0.0))
            family.bound_s = min(family.bound_s, step_s)
            if worst := overfull(memory_use(plan, costs, training)):
                overfilled.append(fullness_text(worst))
    family.solved = family.considered - len(overfilled)
    if overfilled:
        family.rejections.append(Rejection("tensor-parallel groups", "memory", overfilled[0], len(overfilled)))
    return family


def pipelines(
    costs: CostModel, training: Training, search: Search, take: Take, best_s: BestStep, watch: Watch, effort: Effort
) -> Family:
    """One replica of several stages. Raises InputError where the chain is too long to price all of its stages."""
    check_length(costs)
    counts = search.pipeline_counts
    found = PipelineSearch(costs, training, counts, search.plain_schedules)
    if not found.shapes:
        there = len(costs.cluster.devices), len(costs.chain)
        detail = f"needs two devices and two layers; there are {there[0]} and {there[1]}"
        lacking = Rejection("pipelines and model parallel", "devices", detail, 0)
        return Family("pipelines", float("inf"), rejections=[lacking])
    own_s = float("inf")

    def limit_s() -> float:
        """A good pipeline is looked for whatever else is better; from then on, one that is better than all."""
        is_shown = found.solved < SHOWN_PIPELINES and found.tried < MOST_TRIED
        return own_s if is_shown else min(own_s, best_s())

    for proposal in found.run(limit_s, effort.gap, effort.pipelines, watch):
        watch.report("pipelines", best_s(), found.bound_s)
        if proposal.objective_s <= WORTH_A_LOOK * limit_s():
            own_s = min(own_s, take(proposal))
    rejections = [_not_dividing(count, training, found) for count in counts if count not in found.usable]
    rejections += [_not_possible(costs, training, found, *row) for row in sorted(found.impossible.items())]
    considered = len(found.shapes) * len(counts)
    unsearched = deeper_than("pipelines", found.shapes, found.deepest)
    return Family("pipelines", found.bound_s, considered, found.solved, rejections, unsearched=unsearched)


def _not_dividing(count: int, training: Training, found: PipelineSearch) -> Rejection:
    detail = f"{count} does not divide the global batch of {training.global_batch}"
    return Rejection(f"{_pipeline_name(count)}", "batch", detail, len(found.shapes))


def _not_possible(costs: CostModel, training: Training, found: PipelineSearch, count: int, shapes: int) -> Rejection:
    """Shapes that hold no cut of the chain: for want of memory, or of costs."""
    devices = [device.name for device in costs.cluster.devices][: min(len(costs.chain), len(costs.cluster.devices))]
    cuts = even_cuts(len(costs.chain), len(devices))
    even = tuple(Stage(name, a, b) for name, a, b in zip(devices, cuts[:-1], cuts[1:], strict=True))
    plan = Plan((Replica(even, training.global_batch, count),), "1f1b" if "1f1b" in found.schedules else "gpipe")
    worst = overfull(memory_use(plan, costs, training))
    reason: Reason = "memory" if worst else "costs" if costs.missing(k.device_type for k in found.kinds) else "memory"
    detail = f"of {len(devices)} even stages {fullness_text(worst)}" if worst else "too few devices for what its stages hold"
    if reason == "costs":
        detail = "layers are not priced on enough devices"
    return Rejection(_pipeline_name(count), reason, detail, shapes)


def _pipeline_name(count: int) -> str:
    return "model parallel" if count == 1 else f"pipelines of {count} microbatches"
