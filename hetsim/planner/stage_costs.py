"""What any run of layers costs on each device type at one microbatch size, as prefix sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from hetsim.costs import CostModel
from hetsim.workload import Chain, Training

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

Number = TypeVar("Number", np.float64, np.int64)

UNLIMITED_BYTES = np.iinfo(np.int64).max
"""Stands for the memory of a device type whose size is not known."""


@dataclass(frozen=True, slots=True, eq=False)
class StageCosts:
    """Costs of one microbatch, by device type (row) and number of layers summed (column, 0 to the whole chain).

    Layers `start` to `stop` - 1 on type `t` take `forward_s[t, stop] - forward_s[t, start]`, and so on. The loss counts with
    the last layer. A layer that the cost table lacks counts nothing in the sums and one in `unpriced`.
    """

    chain: Chain
    types: tuple[str, ...]
    microbatch: int
    """Samples."""

    forward_s: Floats
    backward_s: Floats
    """Of a microbatch that comes first."""

    accumulate_s: Floats
    """What the backward of any other takes longer."""

    update_s: Floats
    saved_bytes: Ints
    unpriced: Ints
    overhead_s: Floats
    """What a step costs a device of the type whatever it holds."""

    extra_bytes: Ints
    """Context and workspace, whatever the stage."""

    limit_bytes: Ints
    """Memory of a device of the type; `UNLIMITED_BYTES` where not known."""

    width: int = 1
    """Devices of a tensor-parallel group that hold each stage together."""

    @property
    def compute_s(self) -> Floats:
        """Prefix sums of forward and backward together, of a microbatch that comes first."""
        return self.forward_s + self.backward_s

    def mean_s(self, microbatches: int) -> Floats:
        """The same, as the mean over so many microbatches of a step."""
        return self.compute_s + self.accumulate_s * ((microbatches - 1) / microbatches)

    def layer_s(self, microbatches: int) -> Floats:
        """`mean_s` of each single layer, by type; infinite where not priced."""
        return np.where(np.diff(self.unpriced) > 0, np.inf, np.diff(self.mean_s(microbatches)))

    def peak_bytes(
        self, training: Training, start: Ints, stop: Ints, *, microbatches: int | Ints, in_flight: int | Ints
    ) -> Ints:
        """Peak memory of stages `start`:`stop` (arrays), by type: the formula of `hetsim.memory` for many at once."""
        elements = np.concatenate(([0], np.cumsum([layer.parameter_count for layer in self.chain.layers])))
        held = -(-(elements[stop] - elements[start]) // self.width)
        fixed_bytes = held * (2 * self.chain.element_bytes + training.optimizer_state_bytes_per_parameter)
        saved_bytes = self.saved_bytes[:, stop] - self.saved_bytes[:, start]
        edge = np.array([self.chain.boundary_bytes_per_sample(cut) for cut in range(len(self.chain) + 1)], dtype=np.int64)
        entry = edge.copy()
        entry[0] = self.chain.input_bytes_per_sample
        buffers_bytes = self.microbatch * microbatches * (entry[start] + edge[stop])
        held_bytes = fixed_bytes + buffers_bytes + saved_bytes * in_flight + self.extra_bytes.reshape(-1, *[1] * start.ndim)
        return np.asarray(held_bytes, dtype=np.int64)


def stage_costs(
    costs: CostModel, types: Sequence[str], microbatch: int, *, pipelined: bool = False, width: int = 1
) -> StageCosts:
    """The prefix sums of `costs` at `microbatch` samples for device types of the cluster; see `CostModel.forward`.

    `width`: of the tensor-parallel groups that hold the stages.
    """
    chain, layers = costs.chain, range(len(costs.chain))
    priced = {(row.device_type, row.layer) for row in costs.table.layers if row.tensor_parallel == width}
    speaks_for = {device.type: device.name for device in reversed(costs.cluster.devices)}
    shape = (len(types), len(chain))
    forward_s, backward_s, accumulate_s, update_s = (np.zeros(shape) for _ in range(4))
    saved_bytes, unpriced = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, kind in enumerate(types):
        device = speaks_for[kind]
        for layer in layers:
            accumulate_s[row, layer] = costs.accumulate(device, layer).seconds
            update_s[row, layer] = costs.update_s(device, (layer,), width)
            saved_bytes[row, layer] = costs.saved_bytes(device, layer, microbatch, tensor_parallel=width)
            if (kind, chain.layers[layer].name) in priced:
                forward, backward = (
                    of(device, layer, microbatch, pipelined=pipelined, tensor_parallel=width)
                    for of in (costs.forward, costs.backward)
                )
                forward_s[row, layer], backward_s[row, layer] = forward.seconds, backward.seconds
            else:
                unpriced[row, layer] = 1
        forward_s[row, -1] += costs.loss_forward(device, microbatch, pipelined=pipelined).seconds
        backward_s[row, -1] += costs.loss_backward(device, microbatch, pipelined=pipelined).seconds
    limits = [costs.cluster.device_types[kind].memory_bytes for kind in types]
    return StageCosts(
        chain=chain,
        types=tuple(types),
        microbatch=microbatch,
        forward_s=_prefix(forward_s),
        backward_s=_prefix(backward_s),
        accumulate_s=_prefix(accumulate_s),
        update_s=_prefix(update_s),
        saved_bytes=_prefix(saved_bytes),
        unpriced=_prefix(unpriced),
        overhead_s=np.array([costs.step_overhead_s(speaks_for[kind]) for kind in types]),
        extra_bytes=np.array([_extra_bytes(costs, speaks_for[kind], microbatch) for kind in types], dtype=np.int64),
        limit_bytes=np.array([UNLIMITED_BYTES if limit is None else limit for limit in limits], dtype=np.int64),
        width=width,
    )


def _extra_bytes(costs: CostModel, device: str, microbatch: int) -> int:
    return costs.context_bytes(device) + costs.workspace_bytes(device, microbatch)


def _prefix(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    return np.pad(np.cumsum(values, axis=1), ((0, 0), (1, 0)))
