"""What the work of a step takes at least, whichever plan it is: device-seconds of each layer on each device type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hetsim.costs import CostModel
from hetsim.costs.shape import grid
from hetsim.planner.kinds import Kind, kinds_of
from hetsim.planner.stage_costs import Floats

ROUNDING_S = 0.5e-9
"""What rounding to whole nanoseconds can take off a duration."""


@dataclass(frozen=True, slots=True)
class WorkFloor:
    """Work in pieces, each as a whole or in parts on any device types."""

    types: tuple[str, ...]
    seconds: Floats
    """[type, piece]: the least seconds of devices of a type for the whole piece; infinite where it is not priced there."""

    start_s: Floats
    """[type]: what a step takes of a device before it computes."""


def work_floor(costs: CostModel, global_batch: int) -> WorkFloor:
    """The work of a step of `global_batch` samples: a piece is a layer, or all layers that take the same on all types.

    Of a layer that is the batch at the microbatch of which a sample takes least, and one update; where devices of a type take a
    part of the batch, they take at least as much of that. A tensor-parallel group counts with all of its devices.
    """
    types = tuple(kind.name for kind in costs.cluster.used_types)
    seconds = np.full((len(types), len(costs.chain)), np.inf)
    for kind in kinds_of(costs):
        row = types.index(kind.device_type)
        seconds[row] = np.minimum(seconds[row], kind.width * _seconds(costs, kind, global_batch))
    pieces, copies = np.unique(seconds, axis=1, return_counts=True)
    device_of = {device.type: device.name for device in reversed(costs.cluster.devices)}
    start_s = [max(0.0, costs.step_overhead_s(device_of[name]) - ROUNDING_S) for name in types]
    return WorkFloor(types, pieces * copies, np.array(start_s))


def _seconds(costs: CostModel, kind: Kind, batch: int) -> Floats:
    """[layer]: the least that one place of `kind` takes for the batch and an update; infinite where it is not priced."""
    rows = [row for row in costs.table.layers if (row.device_type, row.tensor_parallel) == (kind.device_type, kind.width)]
    priced = {row.layer for row in rows}
    # Between these sizes costs are straight lines, so that no sample takes less than at one of their ends.
    sizes = sorted({1, batch, *grid(1, batch)} | {row.microbatch for row in rows if row.microbatch <= batch})
    device = next(device.name for device in costs.cluster.devices if device.type == kind.device_type)
    found = np.full(len(costs.chain), np.inf)
    for index, layer in enumerate(costs.chain.layers):
        if layer.name not in priced:
            continue
        samples_s = min(
            sum(
                of(device, index, size, pipelined=pipelined, tensor_parallel=kind.width).seconds * costs.least_factor
                - ROUNDING_S
                for of in (costs.forward, costs.backward)
            )
            / size
            for size in sizes
            for pipelined in (False, True)
        )
        update_s = costs.update_s(device, (index,), kind.width) - ROUNDING_S
        found[index] = max(0.0, batch * samples_s) + max(0.0, update_s)
    return found
