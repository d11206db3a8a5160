"""What replicas use of one node in which the gradients of some layer stay.

All R replicas have a place in that node, n, for this layer. So each has a stage on a device of one of its types, and uses one of
its devices at least; replicas whose stages are all in n use as many as they have places. With N for the devices of n::

    sum over replicas of (devices in n)                    <=  N
    sum over replicas of (messages out of n + exchange)    <=  T        what its link carries
    sum over replicas of (work in n)                       <=  N * T    its devices compute one thing at a time

A replica that is not all in n has the layer in a run of layers in n that ends before the chain does, or begins later. Activations
or their gradients leave n at each end of the run that is not one of the chain, once for each sample, and n does the work of the run
at least. Whichever run it is, messages and work are over the hull of those of all runs with one of the layers that may stay: so a
replica is counted by the corners of the hull, in fractions. One that is all in n sends no messages, and n does all its work. Where
gradients stay in a second node, too, each replica has a stage there, and none is all in n.

If a replica is all in n, so are the layers that leave every node: n sends their part of the exchange over its link. Of that each
such replica is charged for the N-th part by device, which is no more in all, as n has N devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from hetsim.costs import CostModel
from hetsim.planner.kinds import Kind
from hetsim.planner.shortest_cut import Shape
from hetsim.planner.stage_costs import Floats, Ints
from hetsim.planner.stays import Home, Stay, Stays
from hetsim.planner.work_floor import layer_seconds

Corner = tuple[float, float]
"""Of a sample: seconds of the node's link, and device-seconds of work in it."""


@dataclass(frozen=True, slots=True, eq=False)
class HomeUse:
    """A way to count what replicas use of the node: devices, its link, its work."""

    rows: Ints
    """Of the shapes that are asked about."""

    fixed: Floats
    """[row, 3]: whatever they do."""

    sample: Floats
    """[3]: for each sample that they take."""

    inside: bool
    """Whether all their places are in it."""


@dataclass(frozen=True)
class Homes:
    """The nodes of one problem."""

    costs: CostModel
    kinds: Sequence[Kind]
    shapes: Sequence[Shape]
    message_s: Floats
    """[cut between two layers]: what a message of a sample takes of a link."""

    global_batch: int
    stays: Stays

    def room(self, home: Home, step_s: float) -> list[float]:
        """The right sides, for a step of `step_s`."""
        return [float(home.devices), step_s, home.devices * step_s]

    def uses(self, kinds: Sequence[int], shapes: Ints, stay: Stay, home: Home, leaving_s: float) -> Iterator[HomeUse]:
        """What replicas of `shapes` use, all on these kinds; `leaving_s`: the exchange of the layers that leave every node."""
        if not stay.has([self.kinds[kind].device_type for kind in kinds]):
            return
        widths = [self.kinds[kind].width for kind in kinds if self.kinds[kind].device_type in home.types]
        devices = np.array(
            [[places * kind.width for places, kind in zip(self.shapes[row], self.kinds, strict=True)] for row in shapes]
        )
        taken = devices.sum(axis=1)
        whole_s = self._layer_s(home).sum()
        inside = np.flatnonzero(taken <= home.devices)
        if stay.second is None and len(widths) == len(kinds) and len(inside) and np.isfinite(whole_s):
            part = taken[inside, None] / home.devices
            fixed = part * np.array([home.devices, leaving_s, 0.0])
            yield HomeUse(inside, fixed, np.array([0.0, 0.0, whole_s]), inside=True)
        several = np.flatnonzero([sum(self.shapes[row]) > 1 for row in shapes])
        for link_s, work_s in self.corners(stay, home) if len(several) else ():
            fixed = np.tile([float(min(widths)), 0.0, 0.0], (len(several), 1))
            yield HomeUse(several, fixed, np.array([0.0, link_s, work_s]), inside=False)

    def of_alone(self, shares: int, home: Home, leaving_s: float) -> Floats:
        """[share, 3] of one device of the node that holds the whole chain."""
        work_s = np.arange(shares) * self._layer_s(home).sum()
        return np.column_stack(
            (np.ones(shares), np.full(shares, leaving_s / home.devices), np.nan_to_num(work_s, posinf=0.0))
        )

    def corners(self, stay: Stay, home: Home) -> list[Corner]:
        """The hull of what runs of layers that are not the whole chain take in the node, the fewest messages first."""
        if (stay, home) not in self._corners:
            self._corners[stay, home] = _hull(list(self._runs(stay, home)))
        return self._corners[stay, home]

    # --- inside ------------------------------------------------------------------------------------------------------

    def _runs(self, stay: Stay, home: Home) -> Iterator[Corner]:
        layer_s, layers = self._layer_s(home), len(self.costs.chain)
        border_s = [0.0, *self.message_s.tolist(), 0.0]
        staying = self.stays.staying(stay)
        for start, stop in combinations(range(layers + 1), 2):
            work_s = float(layer_s[start:stop].sum())
            if stop - start < layers and np.isfinite(work_s) and any(start <= layer < stop for layer in staying):
                yield border_s[start] + border_s[stop], work_s

    def _layer_s(self, home: Home) -> Floats:
        """[layer]: the least device-seconds of a sample on a type of the node."""
        types = [kind.name for kind in self.costs.cluster.used_types]
        least: Floats = self._seconds[[types.index(name) for name in set(home.types)]].min(axis=0)
        return least

    @cached_property
    def _seconds(self) -> Floats:
        return layer_seconds(self.costs, self.global_batch) / self.global_batch

    @cached_property
    def _corners(self) -> dict[tuple[Stay, Home], list[Corner]]:
        return {}


def _hull(points: Sequence[Corner]) -> list[Corner]:
    """The corners from which every point is reached by adding to either side of a mean."""
    hull: list[Corner] = []
    for x, y in sorted(points):
        if hull and y >= hull[-1][1]:
            continue
        while len(hull) > 1 and _is_above(hull[-1], hull[-2], (x, y)):
            hull.pop()
        hull.append((x, y))
    return hull


def _is_above(middle: Corner, left: Corner, right: Corner) -> bool:
    """Whether `middle` is not under the line from `left` to `right`."""
    return (middle[1] - left[1]) * (right[0] - left[0]) >= (right[1] - left[1]) * (middle[0] - left[0])
