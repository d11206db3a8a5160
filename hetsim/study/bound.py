"""A step that no plan on a cluster can be under, whatever it is: cheap enough for thousands of clusters.

In one step every layer has to be worked through for every sample of the batch, by some device. Let x(k, l) be the samples that
devices of type k take through layer l, c(k, l) the least seconds that one sample costs there at any microbatch, n(k) the devices of
type k. Then T >= sum over l of c(k, l) x(k, l) / n(k) for every k, and sum over k of x(k, l) is the batch: a linear program, whose
least T is under every step, of data parallelism, pipelines and hybrids alike: they pay for communication and waiting on top.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from scipy.optimize import linprog

from hetsim.costs import CostModel
from hetsim.hardware import Cluster
from hetsim.planner.stage_costs import Floats


class ClusterBound:
    """The bound for clusters of the device types of one network's costs."""

    def __init__(self, costs: CostModel, global_batch: int) -> None:
        self._batch = global_batch
        self._types = [kind.name for kind in costs.cluster.used_types]
        self._least_s = _least_per_sample_s(costs, self._types, global_batch)

    def step_s(self, cluster: Cluster) -> float:
        """Seconds that a step takes at least on `cluster`; infinite where no type can hold some layer."""
        counts = Counter(device.type for device in cluster.devices)
        kinds = [i for i, kind in enumerate(self._types) if counts[kind]]
        least = self._least_s[kinds]
        types, layers = least.shape
        possible = np.isfinite(least)
        if not possible.any(axis=0).all():
            return float("inf")
        seconds = np.where(possible, least, 0.0)
        held = np.zeros((types, types * layers + 1))
        for k in range(types):
            held[k, k * layers : (k + 1) * layers] = seconds[k] * self._batch
            held[k, -1] = -counts[self._types[kinds[k]]]
        whole = np.hstack([np.tile(np.eye(layers), types), np.zeros((layers, 1))])
        limits = [(0.0, 1.0 if may else 0.0) for may in possible.ravel()] + [(0.0, None)]
        objective = np.append(np.zeros(types * layers), 1.0)
        found = linprog(objective, held, np.zeros(types), whole, np.ones(layers), limits, method="highs")
        # Solved to 1e-7; a bound has to hold whatever the last digits are.
        return float(found.fun or 0.0) * (1 - 1e-6) if found.success else 0.0


def _least_per_sample_s(costs: CostModel, types: list[str], batch: int) -> Floats:
    """[type, layer]: the least seconds of forward and backward for a sample, at any microbatch; infinite: unpriced."""
    if any(row.tensor_parallel > 1 for row in costs.table.layers):
        return np.zeros((len(types), len(costs.chain)))  # a group of devices may share a layer at any price
    device_of = {device.type: device.name for device in reversed(costs.cluster.devices)}
    least = np.full((len(types), len(costs.chain)), np.inf)
    missing = set(costs.missing(types))
    for k, kind in enumerate(types):
        for index, layer in enumerate(costs.chain.layers):
            if f"layer {layer.name} on {kind}" in missing:
                continue
            for size in range(1, batch + 1):
                for pipelined in (False, True):
                    forward_s = costs.forward(device_of[kind], index, size, pipelined=pipelined).seconds
                    backward_s = costs.backward(device_of[kind], index, size, pipelined=pipelined).seconds
                    least[k, index] = min(least[k, index], (forward_s + backward_s) / size)
    return least * costs.least_factor
