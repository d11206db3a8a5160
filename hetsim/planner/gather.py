"""The families of plans that are searched: each proposes plans, and says what none of its plans can be under."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hetsim.costs import CostModel
from hetsim.errors import InputError
from hetsim.memory import MemoryUse, memory_use
from hetsim.plan import Plan, Replica, Stage
from hetsim.planner.baselines import even_cuts
from hetsim.planner.batch_split import BatchSplit
from hetsim.planner.drafting import proposals
from hetsim.planner.hybrid_problem import HybridProblem
from hetsim.planner.joint import JointSearch
from hetsim.planner.kinds import kinds_of
from hetsim.planner.pipelines import PipelineSearch
from hetsim.planner.pools import pools_of, pools_within_nodes
from hetsim.planner.result import Proposal, Reason, Rejection
from hetsim.planner.watch import Watch
from hetsim.scenario.types import Search
from hetsim.units import format_bytes
from hetsim.workload import Training

KEPT_SETS = 4
"""Sets of devices whose best data-parallel split is evaluated."""

MOST_CELLS = 500_000
"""Stages that are priced one by one for each size of a microbatch: some hundred bytes each."""

SHOWN_PIPELINES = 12
"""Pipelines that are solved even where other plans are known to be better, so that there is one to compare with."""

MOST_TRIED = 100
"""So many are tried for that at most."""

WORTH_A_LOOK = 1.03
"""Plans whose estimate is no more than so many times the best step are evaluated: estimates may be too long by so much."""

FAR = 1.1
"""A plan whose step is more than so many times the best one is not tried under another schedule."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How far the search goes where bounds and plans do not meet before."""

    gap: float = 0.01
    """Relative: no more is looked for where the best possible is at most so much faster."""

    pipelines: int = 80
    """Pipelines that are solved exactly."""

    replicas: int = 1200
    """Cuts of single replicas that are looked for."""

    sets: int = 48
    """Sets of devices on which the shortest step is searched, where plans are chosen by what they cost."""


@dataclass(slots=True)
class Family:
    """What was found of one family of plans."""

    name: str
    bound_s: float
    """None of its plans has a shorter step; infinite where there are none."""

    considered: int = 0
    solved: int = 0
    """Of those, how many were solved."""

    rejections: list[Rejection] = field(default_factory=list)
    left_open: int = 0
    """How many were neither solved nor ruled out, because the search ended before."""

    @property
    def ruled_out(self) -> int:
        """How many a bound showed to be no better than the best plan, without their being solved."""
        return self.considered - self.solved - self.left_open - sum(row.count for row in self.rejections)


def _closed(family: Family, best_s: float, gap: float) -> Family:
    """`family`, with what is left of it open unless its bound says that nothing in it can be better than the best."""
    if family.bound_s < best_s / (1 + gap) * (1 - 1e-9):
        family.left_open = family.ruled_out
    return family


BestStep = Callable[[], float]
"""Seconds of the best plan so far; infinite where there is none."""

Take = Callable[[Proposal], float]
"""Evaluates a proposal: the seconds of its step, infinite where it does not fit."""


def overfull(uses: tuple[MemoryUse, ...]) -> MemoryUse | None:
    """The device that is most overfull, relative to what it has; None where all fit."""
    return max((use for use in uses if not use.fits), key=lambda use: use.peak_bytes / (use.limit_bytes or 1), default=None)


def fullness_text(use: MemoryUse) -> str:
    """`fast0 needs 3.1 GiB and has 2.0 GiB`."""
    return f"{use.device} needs {format_bytes(use.peak_bytes)} and has {format_bytes(use.limit_bytes or 0)}"


def any_plan(costs: CostModel, training: Training, search: Search) -> Plan | None:
    """Some plan that fits the memory; None where there is none."""
    found: list[Plan] = []
    watch = Watch()

    def take(proposal: Proposal) -> float:
        if overfull(memory_use(proposal.plan, costs, training)) is None:
            found.append(proposal.plan)
            watch.stopped = True
        return proposal.objective_s

    if "data_parallel" in search.strategies:
        data_parallel(costs, training, search, take)
    every = Effort(pipelines=2000, replicas=500)
    if not found and {"model_parallel", "pipeline"} & set(search.strategies):
        pipelines(costs, training, search, take, lambda: float("inf"), watch, every)
    if not found and "hybrid" in search.strategies:
        hybrids(costs, training, search, take, lambda: float("inf"), watch, every)
    return found[0] if found else None


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
    family = Family("data parallel", split.bound_s(), split.considered, solved, split.rejections())
    return _closed(family, min((proposal.objective_s for proposal in found), default=float("inf")), Effort().gap)


def pipelines(
    costs: CostModel, training: Training, search: Search, take: Take, best_s: BestStep, watch: Watch, effort: Effort
) -> Family:
    """One replica of several stages. Raises InputError where the chain is too long to price all of its stages."""
    _check_length(costs)
    counts = [1] if "model_parallel" in search.strategies else []
    if "pipeline" in search.strategies:
        counts += [count for count in dict.fromkeys(search.microbatches) if count > 1]
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
    return _closed(Family("pipelines", found.bound_s, considered, found.solved, rejections), best_s(), effort.gap)


def hybrids(
    costs: CostModel, training: Training, search: Search, take: Take, best_s: BestStep, watch: Watch, effort: Effort
) -> Family:
    """Several replicas, one of them of several stages. Raises InputError as above."""
    _check_length(costs)
    counts = tuple(sorted({1, *search.microbatches}))
    problem = HybridProblem(costs, training, search.sizes(training.global_batch), counts)
    if not problem.tables or not problem.shapes or len(costs.cluster.devices) < 3:
        return Family("hybrids", float("inf"))
    found = JointSearch(problem)
    seen: set[Plan] = set()
    for draft in found.run(best_s, effort.gap, effort.replicas, watch):
        watch.report("hybrids", best_s(), found.bound_s)
        hopeless: set[tuple[Replica, ...]] = set()
        for proposal in proposals(problem, draft, search.plain_schedules):
            plan = proposal.plan
            if proposal.objective_s <= WORTH_A_LOOK * best_s() and plan not in seen and plan.replicas not in hopeless:
                seen.add(plan)
                if FAR * best_s() < take(proposal) < float("inf"):
                    hopeless.add(plan.replicas)  # another schedule will not make up for that
    # A replica that is cut exactly, for one number of microbatches, settles no case: all are ruled out together, or none is.
    return _closed(Family("hybrids", found.bound_s, found.considered), best_s(), effort.gap)


def _check_length(costs: CostModel) -> None:
    layers, kinds = len(costs.chain), len(kinds_of(costs))
    if (cells := kinds * layers**2) > MOST_CELLS:
        what = f"{layers} layers on {kinds} kinds of devices are {cells} stages to price, not {MOST_CELLS} at most"
        raise InputError(f"{what}. Make one layer of several, or search data_parallel alone")


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
