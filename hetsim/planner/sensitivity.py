"""What the next improvement would be: by how much a plan's step shrinks if one device type, link or layer were faster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from hetsim.costs import CostModel, LayerCost
from hetsim.hardware import Link
from hetsim.plan import Plan

QUICKER = 0.9
"""What the times of the device type or the layer are multiplied by."""

WIDER = 2.0
"""What the bandwidth of the link is."""

MOST_DEVICES = 64
"""Plans of more devices are asked for types and links alone."""

LEAST_GAIN = 0.002
"""Smaller ones are not told."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """One improvement, and what it is worth."""

    what: str
    """`V100 10 % faster`, `the network twice as fast`, `layer head 10 % faster`."""

    gain: float
    """Share of the step that it takes off, with the plan as it is."""


def sensitivities(plan: Plan, costs: CostModel, step_s: Callable[[Plan, CostModel], float]) -> tuple[Sensitivity, ...]:
    """The improvements that help, the best first. Links whose messages and exchanges were measured are not asked for."""
    now_s = step_s(plan, costs)
    if now_s <= 0:
        return ()
    rows = [Sensitivity(what, 1 - step_s(plan, better) / now_s) for what, better in _improved(plan, costs, now_s)]
    return tuple(sorted((row for row in rows if row.gain >= LEAST_GAIN), key=lambda row: (-row.gain, row.what)))


def _improved(plan: Plan, costs: CostModel, now_s: float) -> Iterator[tuple[str, CostModel]]:
    """Every improvement of a plan whose step takes `now_s`, with the costs as they then were."""
    cluster = costs.cluster
    for kind in dict.fromkeys(cluster.device(name).type for name in plan.devices):
        yield f"{kind} 10 % faster", _with_quicker(costs, {(kind, layer) for _, layer in _cells(costs)})
    if not costs.table.transfers:
        wider = replace(cluster, network=_wider(cluster.network))
        yield "the network twice as fast", CostModel(costs.chain, wider, costs.table)
        wider = replace(cluster, nodes=tuple(replace(node, link=_wider(node.link)) for node in cluster.nodes))
        yield "links within nodes twice as fast", CostModel(costs.chain, wider, costs.table)
    if len(plan.devices) <= MOST_DEVICES:
        worth_s = LEAST_GAIN / (1 - QUICKER) * now_s
        for layer, seconds in _longest_s(plan, costs).items():
            if seconds >= worth_s:  # less is taken off than a part of the layer itself
                yield f"layer {layer} 10 % faster", _with_quicker(costs, {(kind, layer) for kind, _ in _cells(costs)})


def _longest_s(plan: Plan, costs: CostModel) -> dict[str, float]:
    """Layer -> what it takes in a step of `plan` where it takes longest."""
    found: dict[str, float] = defaultdict(float)
    for replica in plan.replicas:
        size, pipelined = replica.microbatch_samples, replica.is_pipelined
        for stage in replica.stages:
            for layer in stage.layers:
                width, device = len(stage.group), stage.device
                forward = costs.forward(device, layer, size, pipelined=pipelined, tensor_parallel=width)
                backward = costs.backward(device, layer, size, pipelined=pipelined, tensor_parallel=width)
                each_s = forward.seconds + backward.seconds + costs.accumulate(device, layer).seconds
                whole_s = replica.microbatches * each_s + costs.update_s(device, (layer,), width)
                name = costs.chain.layers[layer].name
                found[name] = max(found[name], whole_s)
    return found


def _cells(costs: CostModel) -> set[tuple[str, str]]:
    """(device type, layer) of all rows."""
    return {(row.device_type, row.layer) for row in costs.table.layers}


def _with_quicker(costs: CostModel, cells: set[tuple[str, str]]) -> CostModel:
    rows = tuple(_quicker(row) if (row.device_type, row.layer) in cells else row for row in costs.table.layers)
    return CostModel(costs.chain, costs.cluster, replace(costs.table, layers=rows))


def _quicker(row: LayerCost) -> LayerCost:
    accumulate_s = None if row.accumulate_s is None else QUICKER * row.accumulate_s
    return replace(
        row,
        forward_s=QUICKER * row.forward_s,
        backward_s=QUICKER * row.backward_s,
        update_s=QUICKER * row.update_s,
        accumulate_s=accumulate_s,
    )


def _wider(link: Link) -> Link:
    return replace(link, bandwidth_bytes_per_s=WIDER * link.bandwidth_bytes_per_s)
