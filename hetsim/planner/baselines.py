"""What one would do without a planner: even splits, splits by a single figure of speed, one device type alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hetsim.costs import CostModel
from hetsim.memory import memory_use
from hetsim.plan import Plan, Replica, Stage
from hetsim.planner.stage_costs import stage_costs
from hetsim.scenario.types import Search
from hetsim.workload import Chain, Training


@dataclass(frozen=True, slots=True)
class Baseline:
    """One idea, and the plans that it allows; the best of them stands for it."""

    name: str
    plans: tuple[Plan, ...]


@dataclass(frozen=True, slots=True)
class Speeds:
    """One figure of speed for each device, in any unit."""

    by_device: Mapping[str, float]
    source: str
    """What the figure is, for names: `peak FLOP/s`, or `speed at microbatch 16`."""


def baselines(costs: CostModel, training: Training, search: Search) -> list[Baseline]:
    """The baselines of the searched strategies over the devices on which the whole chain is priced."""
    priced = [kind.name for kind in costs.cluster.used_types if not costs.missing([kind.name])]
    devices = [device.name for device in costs.cluster.devices if device.type in priced]
    if not devices:
        return []
    speeds = device_speeds(costs, devices, training.global_batch)
    weights = [speeds.by_device[name] for name in devices]
    even = [1.0] * len(devices)
    rows: list[Baseline] = []
    if "data_parallel" in search.strategies:
        splits = {"even batch split": (devices, even), f"batch split by {speeds.source}": (devices, weights)}
        for kind in priced if len(priced) > 1 else ():
            alone = [name for name in devices if costs.cluster.device(name).type == kind]
            splits[f"{kind} alone"] = (alone, [1.0] * len(alone))
        for name, (members, member_weights) in splits.items():
            plan = _batch_plan(costs, training, search, members, proportional_shares(training.global_batch, member_weights))
            rows.append(Baseline(name, (plan,)))
    stages = min(len(devices), len(costs.chain))
    if stages > 1:
        cuts = {
            "even layer split": even_cuts(len(costs.chain), stages),
            f"layer split by {speeds.source}": proportional_cuts(costs.chain, weights[:stages]),
        }
        for name, places in cuts.items():
            rows += _layer_baselines(name, _stages(devices[:stages], places), training, search)
    return rows


def device_speeds(costs: CostModel, devices: Sequence[str], global_batch: int) -> Speeds:
    """The textbook's figure of speed: peak FLOP/s of the specification, where every type's is known.

    Else samples per second of the whole chain on one device, at the largest microbatch not above the global batch that was
    measured for all of them (the smallest where none is that small).
    """
    types = list(dict.fromkeys(costs.cluster.device(name).type for name in devices))
    peaks = [costs.cluster.device_types[kind].peak_flops_per_s for kind in types]
    if all(peaks):
        by_type, source = {kind: float(peak or 0) for kind, peak in zip(types, peaks, strict=True)}, "peak FLOP/s"
    else:
        size = _common_microbatch(costs, types, global_batch)
        seconds = stage_costs(costs, types, size).compute_s[:, -1]
        by_type = {kind: size / max(float(s), 1e-9) for kind, s in zip(types, seconds, strict=True)}
        source = f"speed at microbatch {size}"
    return Speeds({name: by_type[costs.cluster.device(name).type] for name in devices}, source)


def proportional_shares(total: int, weights: Sequence[float]) -> list[int]:
    """`total` cut in proportion to `weights` by largest remainders; on a tie the earlier one gets more."""
    exact = total * np.asarray(weights, dtype=float) / float(np.sum(weights))
    shares = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(-(exact - shares).round(9), kind="stable")
    shares[order[: total - int(shares.sum())]] += 1
    return [int(share) for share in shares]


def even_cuts(layers: int, stages: int) -> list[int]:
    """Cuts into `stages` runs of as equal length as can be, the longer ones first: 0, …, `layers`."""
    lengths = proportional_shares(layers, [1.0] * stages)
    return [0, *(int(cut) for cut in np.cumsum(lengths))]


def proportional_cuts(chain: Chain, weights: Sequence[float]) -> list[int]:
    """Cuts whose stages hold forward FLOPs in proportion to `weights`, as near as layers allow; every stage has a layer.

    Where the chain's FLOPs are not known, each layer counts the same.
    """
    flops = np.array([layer.forward_flops_per_sample for layer in chain.layers])
    done = np.concatenate(([0.0], np.cumsum(flops if flops.sum() > 0 else np.ones(len(chain)))))
    goals = done[-1] * np.cumsum(weights) / float(np.sum(weights))
    cuts = [0]
    for place, goal in enumerate(goals[:-1], start=1):
        first, last = cuts[-1] + 1, len(chain) - (len(weights) - place)
        cuts.append(first + int(np.abs(done[first : last + 1] - goal).argmin()))
    return [*cuts, len(chain)]


def _batch_plan(costs: CostModel, training: Training, search: Search, devices: Sequence[str], shares: Sequence[int]) -> Plan:
    """Data parallelism with `shares`, each in as few microbatches as the memory allows (one, where none does)."""
    rows = []
    for name, share in zip(devices, shares, strict=True):
        tries = [Replica((Stage(name, 0, len(costs.chain)),), share, m) for m in sorted({1, *search.microbatches})]
        whole = [replica for replica in tries if share and share % replica.microbatches == 0]
        fitting = (replica for replica in whole if memory_use(Plan((replica,)), costs, training)[0].fits)
        if whole:
            rows.append(next(fitting, whole[0]))
    return Plan(tuple(rows))


def _layer_baselines(name: str, stages: tuple[Stage, ...], training: Training, search: Search) -> list[Baseline]:
    """Model parallelism, and a pipeline whose schedule and number of microbatches are the best of those searched."""

    batch = training.global_batch
    rows = []
    if "model_parallel" in search.strategies:
        rows.append(Baseline(f"{name}, model parallel", (Plan((Replica(stages, batch),)),)))
    counts = [m for m in search.microbatches if m > 1 and batch % m == 0]
    if "pipeline" in search.strategies and counts:
        plans = (Plan((Replica(stages, batch, m),), schedule) for schedule in search.plain_schedules for m in counts)
        rows.append(Baseline(f"{name}, pipeline", tuple(plans)))
    return rows


def _stages(devices: Sequence[str], cuts: Sequence[int]) -> tuple[Stage, ...]:
    return tuple(Stage(name, start, stop) for name, start, stop in zip(devices, cuts, cuts[1:], strict=False))


def _common_microbatch(costs: CostModel, types: Sequence[str], global_batch: int) -> int:
    sizes: dict[tuple[str, str], set[int]] = {}
    names = {layer.name for layer in costs.chain.layers}
    for row in costs.table.layers:
        if row.device_type in types and row.layer in names and row.tensor_parallel == 1:
            sizes.setdefault((row.device_type, row.layer), set()).add(row.microbatch)
    common = sorted(set.intersection(*sizes.values()))
    return max((size for size in common if size <= global_batch), default=common[0] if common else global_batch)
