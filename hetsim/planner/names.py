"""Short names of plans, for tables and sentences."""

from __future__ import annotations

from collections import Counter, defaultdict

from hetsim.hardware import Cluster
from hetsim.plan import Exchange, Plan, Stage
from hetsim.scenario.types import Strategy

MOST_SHAPES = 4
"""Nor more unlike replicas of a hybrid."""

MOST_SPELT_OUT = 8
"""Plans of more are outlined."""

MOST_NUMBERS = 16
"""A name lists no more shares or stages than that; beyond, it says how many there are."""


def strategy_of(plan: Plan) -> Strategy:
    """The family of `plan`: replicas of one device, be it one alone, are data parallel; one replica of many is a pipeline, or where
    all its devices work on one microbatch at a time, model parallel."""
    if not plan.is_cut and all(len(stage.group) == 1 for replica in plan.replicas for stage in replica.stages):
        return "data_parallel"
    if len(plan.replicas) > 1:
        return "hybrid"
    return "pipeline" if any(replica.microbatches > 1 for replica in plan.replicas) else "model_parallel"


def plan_name(plan: Plan) -> str:
    """The name of a plan of one of the planner's families, and how gradients are exchanged where it is not over rings.

    `data parallel 56/4|8` (56 samples in 4 microbatches, 8 in one), `fast0 alone`, `model parallel 6|3`,
    `pipeline 6|3, 4 microbatches, 1f1b` or `hybrid 2 × 6|3 + 1 × 9, 1f1b`; stages are named by their numbers of layers.
    """
    name = _name(plan)
    return name if plan.exchange == Exchange() else f"{name}, {plan.exchange}"


def _name(plan: Plan) -> str:
    strategy = strategy_of(plan)
    first = plan.replicas[0]
    if len(plan.replicas) == len(first.stages) == 1:
        group = "+".join(first.stages[0].group)
        return f"{group} alone" + (f", {first.microbatches} microbatches" if first.microbatches > 1 else "")
    if strategy == "data_parallel":
        shares = [f"{r.samples}/{r.microbatches}" if r.microbatches > 1 else f"{r.samples}" for r in plan.replicas]
        return f"data parallel {_listed(shares, 'devices')}"
    if strategy == "hybrid":
        shapes = Counter("|".join(str(len(stage.layers)) for stage in replica.stages) for replica in plan.replicas)
        rows = [f"{number} × {stages}" for stages, number in shapes.items()]
        shown = " + ".join(rows) if len(rows) <= MOST_SHAPES else f"of {len(plan.replicas)} replicas"
        return f"hybrid {shown}, {plan.schedule}"
    stages = _listed([str(len(stage.layers)) for stage in first.stages], "stages")
    if strategy == "model_parallel":
        return f"model parallel {stages}"
    return f"pipeline {stages}, {first.microbatches} microbatches, {plan.schedule}"


def _listed(numbers: list[str], what: str) -> str:
    return "|".join(numbers) if len(numbers) <= MOST_NUMBERS else f"of {len(numbers)} {what}"


def outline(plan: Plan, cluster: Cluster) -> str:
    """`plan` in a line for people: as it is written, or, of more than `MOST_SPELT_OUT`, by device types and alike replicas once.

    `4 × v100[0:4] > p100[4:9] 30–32/4 | 2 × p100[0:9] 6/1; 1f1b`: four replicas of 30 to 32 samples in 4 microbatches, and two.
    """
    if len(plan.devices) <= MOST_SPELT_OUT:
        return str(plan)
    alike: dict[tuple[str, int], list[int]] = defaultdict(list)
    for replica in plan.replicas:
        stages = " > ".join(_by_type(stage, cluster) for stage in replica.stages)
        alike[stages, replica.microbatches].append(replica.samples)
    rows = []
    for (stages, microbatches), samples in alike.items():
        number = f"{len(samples)} × " if len(samples) > 1 else ""
        shares = "–".join(str(share) for share in dict.fromkeys((min(samples), max(samples))))
        rows.append(f"{number}{stages} {shares}/{microbatches}")
    return "; ".join([" | ".join(rows), *str(plan).split("; ")[1:]])


def _by_type(stage: Stage, cluster: Cluster) -> str:
    group = "+".join([cluster.device(stage.device).type] * len(stage.group))
    return f"{group}[{stage.start}:{stage.stop}]"
