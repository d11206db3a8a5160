"""What replicas put at least on the links of the nodes that they lie in, which all devices of a node share.

Gradients of a layer go round a ring of as many devices as there are replicas, R. Unless one node holds them all, each node with one
of them sends 2 (R - 1) / R of the layer's bytes over its link, whatever the order of the ring, and however many of its devices
hold the layer. So a node sends that of all layers that any of its devices holds; where it has up to w devices of a type, that is no
less than the sum over these of a w-th part. Each device is charged for its own layers, and for those of the stages of its replica
that are known to be in the same node. Activations and their gradients go over the links of both nodes where two stages that follow
each other lie in different ones. With T for the step, and all nodes together that have devices of a type::

    sum over devices of the type of [exchange / w + messages]                                 <=  nodes * T
    sum over devices of the type of [exchange / w + (when its replica's gradients begin) / w] <=  nodes * T

The first line is what the links carry. The second: no exchange begins before all replicas have gradients of some layer, and none
has before its last microbatch is forward through all stages, behind all others at each of them; nodes have no more than w devices
of the type. Both lines are linear in the replicas, so that links get prices beside those of devices (`market`).

Where replicas lie is not known, only their shapes. Stages on one type may be in one node, where each of them is charged for the
gradients of all; or some are not, and messages cross the links between them. Either way is counted by the least that it takes, and
of the messages between layers those count that are shortest. So no placement is under all ways.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hetsim.costs import CostModel
from hetsim.planner.kinds import Kind
from hetsim.planner.known import Others
from hetsim.planner.shortest_cut import Shape
from hetsim.planner.stage_costs import Bools, Floats, Ints

ROUNDING_S = 1e-9
"""What rounding to whole nanoseconds can take off a transfer."""

MANY = 1 << 40
"""More microbatches than there are."""


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """A way to count what replicas of some shapes put on links."""

    shapes: Ints
    fixed_s: Floats
    """[shape, row]: whatever they do."""

    sample_s: Floats
    """[row]: for each sample that they take."""


@dataclass(frozen=True, slots=True, eq=False)
class _Alike:
    """Shapes of the same kinds."""

    kinds: tuple[int, ...]
    types: tuple[int, ...]
    apart: bool
    """Whether no node has devices of two of the types."""

    messages: int
    """Between so many pairs of stages, at least, messages have to leave their node."""

    shapes: Ints


@dataclass(frozen=True)
class Crossings:
    """The links of one cluster's nodes to the network. There are two rows for each device type: first the first lines of all."""

    costs: CostModel
    kinds: Sequence[Kind]
    types: Sequence[str]
    shapes: Sequence[Shape]
    forward_s: Floats
    """[kind]: the least that a forward of a sample takes through the whole chain; 0 where it is not priced."""

    @cached_property
    def matter(self) -> bool:
        """Whether there are several nodes, each with one link to the network of which the bandwidth tells all."""
        # What was measured may be shorter than bytes over bandwidth, and what posting takes is not counted twice.
        table = self.costs.table
        timed = table.has_measured_links or any(row.operation == "post_send" for row in table.transfers)
        return len(self.costs.cluster.nodes) > 1 and not timed and not self.costs.cluster.is_wired

    def room_s(self, step_s: float) -> list[float]:
        """[row]: the right sides, for a step of `step_s`; none where links do not matter."""
        return [len(nodes) * step_s for _ in range(2) for nodes in self._homes] if self.matter else []

    def ways(self, others: Others) -> Iterator[Way]:
        """What replicas of each shape take beside `others`: no less than one of the ways to count it says, in all rows."""
        message_s = np.sort(self._message_s(1))
        for alike in self._alike:
            for kind in alike.kinds:
                fixed_s = np.tile(self._exchange_s(kind, others), (len(alike.shapes), 1))
                sample_s = np.zeros(2 * len(self.types))
                if len(alike.kinds) > 1:
                    if len(alike.types) > 1 and alike.apart:
                        sample_s[list(alike.types)] = message_s[:1].sum()
                    yield Way(alike.shapes, fixed_s, sample_s)
                    continue
                sample_s[len(self.types) + self._type[kind]] = self._charged(others)[kind] * self.forward_s[kind]
                if not alike.messages:
                    yield Way(alike.shapes, fixed_s * self._places[alike.shapes, None], sample_s.copy())
                sample_s[self._type[kind]] = 2 * message_s[: max(1, alike.messages)].sum()
                yield Way(alike.shapes, fixed_s, sample_s)

    def of_alone(self, kind: int, begins_s: Floats, others: Others) -> Floats:
        """[share, row] of one device that holds the whole chain, and has gradients after `begins_s[share]`."""
        rows = np.tile(self._exchange_s(kind, others), (len(begins_s), 1))
        possible_s = np.where(np.isfinite(begins_s), begins_s, 0.0)
        rows[:, len(self.types) + self._type[kind]] += self._charged(others)[kind] * possible_s
        return rows

    def most_sent(self, microbatch: int, step_s: float) -> Ints:
        """[shape]: of so many samples, the microbatches whose messages a link carries within `step_s`; `MANY` where none leaves its
        node for certain."""
        message_s = np.concatenate(([0.0], np.sort(self._message_s(microbatch))))
        many = np.full(len(self.shapes), MANY)
        for alike in self._alike if self.matter else ():
            # As many messages leave their node at different layers: one of them is no shorter than this.
            longest_s = float(message_s[min(alike.messages, len(message_s) - 1)])
            if longest_s * MANY > step_s:
                many[alike.shapes] = int(step_s * (1 + 1e-9) / longest_s)
        return many

    # --- inside ------------------------------------------------------------------------------------------------------

    def _exchange_s(self, kind: int, others: Others) -> Floats:
        """[row]: a place of the kind for the gradients of all layers."""
        chain, rounds = self.costs.chain, 2 * (others.holders - 1) / others.holders
        speed = self.costs.cluster.network.bandwidth_bytes_per_s
        sizes = [rounds * chain.element_bytes * layer.parameter_count / speed for layer in chain.layers]
        sent_s = sum(
            max(0.0, size - ROUNDING_S * len(layer.parameters)) for size, layer in zip(sizes, chain.layers, strict=True)
        )
        rows = np.zeros(2 * len(self.types))
        rows[[self._type[kind], len(self.types) + self._type[kind]]] = self._charged(others)[kind] * sent_s
        return rows

    def _charged(self, others: Others) -> Floats:
        """[kind]: the part of what its node sends that a place is charged for; 0 where gradients may stay in the node.

        They surely leave it where no node with devices of the kind, and of all types that single devices have, has room for one of
        every replica.
        """
        wanted = [others.single_types | {kind.device_type} for kind in self.kinds]
        leave: Bools = np.array(
            [all(room < others.holders for room, there in self._rooms if types <= there) for types in wanted]
        )
        return np.where(leave, self._part, 0.0)

    def _message_s(self, microbatch: int) -> Floats:
        """[cut between two layers]: what the activations of a microbatch, or their gradients, take of a link."""
        chain, speed = self.costs.chain, self.costs.cluster.network.bandwidth_bytes_per_s
        sizes = [microbatch * chain.boundary_bytes_per_sample(cut) for cut in range(1, len(chain))]
        # Rounding is by message, and a message is never of less than a sample.
        return np.maximum(np.array(sizes, dtype=float) / speed - microbatch * ROUNDING_S, 0.0)

    @cached_property
    def _type(self) -> list[int]:
        """[kind]: number of its type."""
        return [list(self.types).index(kind.device_type) for kind in self.kinds]

    @cached_property
    def _part(self) -> Floats:
        """[kind]: the part of a node's devices of the type that a place takes, at least."""
        nodes = self.costs.cluster.nodes
        most = [max(sum(d.type == kind.device_type for d in node.devices) for node in nodes) for kind in self.kinds]
        return np.array([kind.width / there for kind, there in zip(self.kinds, most, strict=True)])

    @cached_property
    def _homes(self) -> list[set[str]]:
        """[type]: the nodes that have devices of it."""
        return [{d.node for d in self.costs.cluster.devices if d.type == name} for name in self.types]

    @cached_property
    def _rooms(self) -> set[tuple[int, frozenset[str]]]:
        """Devices of a node, and their types."""
        return {(len(node.devices), frozenset(d.type for d in node.devices)) for node in self.costs.cluster.nodes}

    @cached_property
    def _places(self) -> Ints:
        """[shape]: places in all."""
        return np.array([sum(shape) for shape in self.shapes], dtype=np.int64)

    @cached_property
    def _alike(self) -> list[_Alike]:
        """Shapes by their kinds, and by how many nodes their places need."""
        found: dict[tuple[tuple[int, ...], int], list[int]] = defaultdict(list)
        for row, shape in enumerate(self.shapes):
            share: dict[int, float] = defaultdict(float)
            for kind, places in enumerate(shape):
                if places:
                    share[self._type[kind]] += places * float(self._part[kind])
            nodes = [math.ceil(part - 1e-9) for part in share.values()]
            needed = sum(nodes) if self._are_apart(tuple(share)) else max(nodes)
            found[tuple(kind for kind, places in enumerate(shape) if places), needed - 1].append(row)
        rows = []
        for (kinds, messages), members in found.items():
            types = tuple(dict.fromkeys(self._type[kind] for kind in kinds))
            rows.append(_Alike(kinds, types, self._are_apart(types), messages, np.array(members, dtype=np.int64)))
        return rows

    def _are_apart(self, types: Sequence[int]) -> bool:
        """Whether no node has devices of two of the types."""
        homes = [self._homes[row] for row in types]
        return sum(map(len, homes)) == len(set().union(*homes))
