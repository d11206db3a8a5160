"""Where gradients stay: plans in cases, by whether those of some layer are all in one node.

The gradients of a layer stay in a node if all its holders, one of each replica, are devices of it. Then they do not cross the link
of the node, whatever the number of replicas. Order the layers that have gradients by their bytes, most first. In every plan either
none stay; or some do, all in the same node; or some do in one node, and some in another. In the second case there is a first in
the order that stays, and the layers before it leave every node: they cross the network, and the links of all nodes that hold them.
So do all layers that are on a device of a type that the node has not. In the third case each replica has a stage in either node, so
that none is all in one. With the devices that these nodes have, that makes cases which are together all plans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, combinations_with_replacement

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

    second: Home | None = None
    """Those of another layer stay in another node, that has such devices; None: with a home, they stay in no other one."""

    first: int = 0
    """So many layers leave every node: those with most bytes."""

    last: int = 0
    """With a home: one of the layers from `first` to `last` - 1 of that order stays."""

    def has(self, types: Collection[str]) -> bool:
        """Whether a replica on devices of these types may be in the nodes where gradients stay, as far as it has to be."""
        return all(home is None or not set(home.types).isdisjoint(types) for home in (self.home, self.second))


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
    def homes(self) -> Counter[Home]:
        """The nodes, and how many of them are alike."""
        return Counter(Home(tuple(sorted(d.type for d in node.devices))) for node in self.costs.cluster.nodes)

    def leaving(self, stay: Stay) -> tuple[int, ...]:
        """The layers whose gradients leave every node."""
        return self.order[: stay.first]

    def leave(self, stay: Stay) -> frozenset[str]:
        """The types of devices whose layers' gradients leave every node."""
        types = frozenset(kind.name for kind in self.costs.cluster.used_types)
        if stay.home is None:
            return types if stay.first else frozenset()
        return types.difference(stay.home.types) if stay.second is None else frozenset()

    def staying(self, stay: Stay) -> tuple[int, ...]:
        """The layers of which one stays in the node that is assumed."""
        return self.order[stay.first : stay.last]

    def cases(self, others: Others) -> Iterator[Stay]:
        """Cases that together are all plans beside `others`; first the one in which no gradients stay in a node."""
        many = len(self.order)
        yield Stay(first=many)
        homes = [home for home in self.homes if others.holders <= home.devices]
        for home in homes:
            if others.devices <= set(home.types):
                yield Stay(home, first=0, last=many)
        for home, second in combinations_with_replacement(homes, 2):
            if not others.devices and (home != second or self.homes[home] > 1):
                yield Stay(home, second, 0, many)

    def halves(self, stay: Stay) -> tuple[Stay, ...]:
        """Two cases that together are `stay`, by which layer is the first that stays; none where the smallest are left out already.

        The largest layer is looked at by itself, the others are divided by half of their bytes.
        """
        if stay.home is None or stay.second is not None or stay.last < len(self.order) or stay.last - stay.first < 2:
            return ()
        sizes = [self.costs.chain.layers[layer].parameter_count for layer in self.staying(stay)]
        half = sum(2 * done <= sum(sizes) for done in accumulate(sizes))
        middle = 1 if stay.first == 0 else stay.first + min(max(1, half), len(sizes) - 1)
        return replace(stay, last=middle), replace(stay, first=middle)
