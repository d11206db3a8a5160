"""The problem of packing a cluster's devices into replicas: shapes, sizes, and what devices and replicas take at least."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hetsim.costs import CostModel
from hetsim.planner.batch_split import whole_chain_buckets
from hetsim.planner.capacity import SizeTable, microbatch_grid, shapes_of, size_table
from hetsim.planner.crossings import Crossings
from hetsim.planner.exchange_floor import ExchangeFloor
from hetsim.planner.kinds import Kind, devices_used, kinds_of
from hetsim.planner.known import Others
from hetsim.planner.share_costs import ShareCosts, share_costs
from hetsim.planner.share_sum import Pieces
from hetsim.planner.shortest_cut import Shape
from hetsim.planner.spending_floor import least_step_s
from hetsim.planner.stage_costs import Floats, Ints
from hetsim.planner.stage_grid import StageGrid
from hetsim.planner.work_floor import work_floor
from hetsim.workload import Training

MOST_STAGES = 16
"""Replicas of hybrids are no longer."""

MOST_SHAPES = 1000
"""Where there are more, replicas are shorter."""


@dataclass(frozen=True)
class HybridProblem:
    """Several replicas on one cluster, of one device or of several stages."""

    costs: CostModel
    training: Training
    sizes: Sequence[int]
    """Microbatch sizes of replicas of several stages."""

    counts: Sequence[int]
    """Numbers of microbatches of replicas of one device."""

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """Places for stages."""
        return kinds_of(self.costs)

    @cached_property
    def types(self) -> list[str]:
        """Device types, in the order of the cluster."""
        return [kind.name for kind in self.costs.cluster.used_types]

    @cached_property
    def available(self) -> list[int]:
        """Devices by type."""
        return [sum(device.type == name for device in self.costs.cluster.devices) for name in self.types]

    @cached_property
    def heaviest_layer(self) -> int:
        """The layer with the most parameters."""
        layers = self.costs.chain.layers
        return max(range(len(layers)), key=lambda layer: layers[layer].parameter_count)

    @cached_property
    def floor(self) -> ExchangeFloor:
        """What communication takes at least."""
        return ExchangeFloor(self.costs)

    @cached_property
    def crossings(self) -> Crossings:
        """What replicas put on the links of nodes."""
        whole_s = [
            [table.grid.forward_s[kind, 0, -1] / table.grid.microbatch for table in self.tables] for kind in self._numbers
        ]
        forward_s = np.array([min(row, default=0.0) for row in whole_s])
        return Crossings(self.costs, self.kinds, self.types, self.shapes, np.where(np.isfinite(forward_s), forward_s, 0.0))

    @cached_property
    def shapes(self) -> list[Shape]:
        """Shapes of replicas that the tables are about."""
        limits, widths = [kind.count for kind in self.kinds], [kind.width for kind in self.kinds]
        return shapes_of(limits, widths, min(self.deepest, MOST_STAGES), MOST_SHAPES)

    @property
    def deepest(self) -> int:
        """The most stages that a replica beside another one can have."""
        return min(len(self.costs.chain), sum(self.available) - 1)

    @cached_property
    def tables(self) -> list[SizeTable]:
        """The least steps of all shapes that cost nothing to know, by microbatch size."""
        batch = self.training.global_batch
        grids = [StageGrid(self.costs, self.training, self.kinds, size, self.floor) for size in self.sizes]
        usable = [grid for grid in grids if 2 * grid.microbatch <= batch]
        depths = [sum(shape) for shape in self.shapes]
        fewest = 1 if 1 in depths else 2  # a group of devices alone may take its share at once
        counts = [microbatch_grid(batch // grid.microbatch, max(depths, default=0), fewest) for grid in usable]
        return [size_table(grid, self.shapes, mine, pipelined=True) for grid, mine in zip(usable, counts, strict=True)]

    @cached_property
    def own(self) -> Ints:
        """Samples of a microbatch, by number of its size."""
        return np.array([table.grid.microbatch for table in self.tables], dtype=np.int64)

    @cached_property
    def usage(self) -> Ints:
        """[column, type]: devices that it uses; first the shapes, then a device of each kind alone."""
        by_kind = np.array(devices_used(self.kinds, self.types), dtype=np.int64).T
        return np.vstack((np.array(self.shapes, dtype=np.int64).reshape(-1, len(self.kinds)) @ by_kind, by_kind))

    def alone_pieces(self, number: int, holders: int) -> tuple[Pieces, ...]:
        """What shares cost a device of kind `number` that holds the whole chain beside `holders` - 1 other replicas."""
        kind = self.kinds[number]
        curves = self.curves.get(kind.device_type)
        if kind.width > 1 or curves is None:
            return ()
        sizes = np.array([bucket.size_bytes for bucket in whole_chain_buckets(self.costs.chain)], dtype=float)
        tails_s = np.cumsum(self.floor.reduce_s(holders, sizes)[::-1])[::-1]
        return curves.together(self.counts, tails_s, curves.update_s)

    def alone_expected_s(self, holders: int) -> dict[int, Floats]:
        """By kind of single device: what each share costs it, with the buckets of a plan of such devices alone."""
        every = {number: self._by_share(self.alone_pieces(number, holders)) for number in self._numbers}
        return {number: best for number, best in every.items() if np.isfinite(best).any()}

    def alone_at_least_s(self, others: Others) -> dict[int, Floats]:
        """By kind: what each share costs a device that holds the whole chain, at least, beside replicas that are cut anywhere."""
        if others not in self._alone_s:
            pieces = self.alone_at_least_pieces(others)
            self._alone_s[others] = {number: self._by_share(mine) for number, mine in pieces.items()}
        return self._alone_s[others]

    def alone_at_least_pieces(self, others: Others) -> dict[int, tuple[Pieces, ...]]:
        """The same for each number of microbatches."""
        return dict(self._work_out_alone(others))

    @cached_property
    def alone_begins_s(self) -> dict[int, Floats]:
        """By kind of single device: when each share has the first of its gradients, at the earliest."""
        curves = {number: self.curves.get(kind.device_type) for number, kind in enumerate(self.kinds) if kind.width == 1}
        return {number: self._by_share(mine.begins(self.counts)) for number, mine in curves.items() if mine is not None}

    def last_tensor_s(self, others: Others) -> float:
        """The exchange of the first layer's first tensor, which comes after all backwards; 0 where that layer has none."""
        chain = self.costs.chain
        last = (chain.layers[0].parameters or (0,))[0] * chain.element_bytes
        return float(self.floor.reduce_s(others.holders, last, others.single_types))

    def longest_exchange_s(self, others: Others) -> float:
        """The exchange of the layer whose gradients take longest, wherever it lies, which no step is shorter than."""
        chain = self.costs.chain
        sizes = np.array([layer.parameter_count for layer in chain.layers]) * chain.element_bytes
        ways = [self.floor.reduce_s(others.holders, sizes, others.single_types | {kind.device_type}) for kind in self.kinds]
        return float(np.min(ways, axis=0).max())

    @cached_property
    def least_s(self) -> float:
        """Under every step: the work alone, shared perfectly."""
        return least_step_s(work_floor(self.costs, self.training.global_batch), self.costs.cluster) / self.costs.least_factor

    @cached_property
    def some_step_s(self) -> float:
        """A step long enough for whatever is possible."""
        every = [*(table.least_s for table in self.tables), *self.alone_at_least_s(Others(2)).values()]
        longest_s = max((float(row[np.isfinite(row)].max(initial=0.0)) for row in every), default=0.0)
        cluster, sent_bytes = self.costs.cluster, 2 * self.costs.chain.parameter_bytes()
        links = [cluster.network, *(node.link for node in cluster.nodes)]
        hops = 2 * len(cluster.devices) * len(self.costs.chain)
        exchange_s = max(link.latency_s * hops + sent_bytes / link.bandwidth_bytes_per_s for link in links)
        return 2 * longest_s + 1.0 + exchange_s + sum(curves.update_s for curves in self.curves.values())

    # --- inside ------------------------------------------------------------------------------------------------------

    @property
    def _numbers(self) -> range:
        """Of the kinds."""
        return range(len(self.kinds))

    def _work_out_alone(self, others: Others) -> Iterator[tuple[int, tuple[Pieces, ...]]]:
        updates_s = [self.curves[name].update_s for name in others.single_types if name in self.curves]
        chain = self.costs.chain
        below_bytes = np.cumsum([layer.parameter_count for layer in chain.layers]) * chain.element_bytes
        for number, kind in enumerate(self.kinds):
            curves = self.curves.get(kind.device_type)
            if kind.width > 1 or curves is None:
                continue
            among = others.single_types | {kind.device_type}
            below_s = self.floor.reduce_s(others.holders, below_bytes, among, self.floor.fewest_buckets[0, 1:])
            slowest_s = max([curves.update_s, *updates_s])
            yield number, curves.beside(self.counts, below_s, slowest_s)

    def _by_share(self, options: Sequence[Pieces]) -> Floats:
        """The least cost of each share of the batch."""
        best = np.full(self.training.global_batch + 1, np.inf)
        for pieces in options:
            shares = pieces.count * np.arange(len(pieces.cost))
            best[shares] = np.minimum(best[shares], pieces.cost)
        return best

    @cached_property
    def curves(self) -> Mapping[str, ShareCosts]:
        return share_costs(self.costs, self.training, self.types, whole_chain_buckets(self.costs.chain))

    @cached_property
    def _alone_s(self) -> dict[Others, dict[int, Floats]]:
        return {}
