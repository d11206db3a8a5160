"""Where gradients stay: plans in cases, by whether those of some layer are all in one node.

The gradients of a layer stay in a node if all its holders, one of each replica, are devices of it. Then they do not cross the node's
link, whatever the number of replicas. Order the layers that have gradients by their bytes, most first. For every plan, either none
stay, or there is a first in this order that stays, and a node that it stays in. So these cases are together all plans: none stay;
or some do in a node with such and such devices, the first of them being one of the layers from `first` to `last`. The layers before
`first` leave every node then, so that they cross the network, and the links of all nodes that hold them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from hetsim.costs import CostModel
from hetsim.planner.known import Others


@dataclass(frozen=True, slots=True)
class Home:
    """A node, by its devices."""

    types: tuple[str, ...]
    """Of each device, in order."""

    @property
    def devices(self) -> int:
        """How many it has."""
        return len(self.types)


@dataclass(frozen=True, slots=True)
class Stay:
    """What is assumed of where gradients are exchanged."""

    home: Home | None = None
    """Those of some layer stay in one node that has such devices; None: nothing is assumed of that."""

    first: int = 0
    """So many layers leave every node: those with most bytes."""

    last: int = 0
    """With a home: one of the layers from `first` to `last` - 1 of that order stays."""


ANYWHERE = Stay()
"""Nothing is assumed."""


@dataclass(frozen=True)
class Stays:
    """The cases of one problem."""

    costs: CostModel

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The layers that have gradients, those with most bytes first."""
        layers = self.costs.chain.layers
        return tuple(sorted((i for i, row in enumerate(layers) if row.parameters), key=lambda i: -layers[i].parameter_count))

    @cached_property
    def homes(self) -> tuple[Home, ...]:
        """The nodes, each of those that are alike once."""
        return tuple({Home(tuple(sorted(d.type for d in node.devices))): None for node in self.costs.cluster.nodes})

    def leaving(self, stay: Stay) -> tuple[int, ...]:
        """The layers whose gradients leave every node."""
        return self.order[: stay.first]

    def staying(self, stay: Stay) -> tuple[int, ...]:
        """The layers of which one stays in the node that is assumed."""
        return self.order[stay.first : stay.last]

    def cases(self, others: Others) -> Iterator[Stay]:
        """Cases that together are all plans beside `others`; first the one in which no gradients stay in a node."""
        many = len(self.order)
        yield Stay(None, many)
        for home in self.homes:
            if others.holders <= home.devices and others.devices <= set(home.types):
                yield from (Stay(home, first, last) for first, last in ((0, 1), (1, many)) if first < min(last, many))
