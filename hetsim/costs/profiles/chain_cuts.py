"""A graph of operators as a chain: cut wherever a single tensor crosses from all that came before to all that comes after."""

from __future__ import annotations

import heapq
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cut:
    """The nodes between two cuts, in an order in which they can run, and what crosses the cut behind them."""

    nodes: tuple[str, ...]
    crossing_bytes: float
    """Of the one tensor that goes on; at the end of the graph, of what comes out."""


def chain_cuts(sizes: Mapping[str, float], edges: Sequence[tuple[str, str]]) -> list[Cut] | None:
    """The pieces of the graph with nodes of these output `sizes` (bytes); None where its edges lead round in a circle.

    Where two branches are under way, or a skip passes by, there is no cut. What has no bytes may cross anywhere.
    """
    order = _order(list(sizes), edges)
    if order is None:
        return None
    place = {name: number for number, name in enumerate(order)}
    last_use = dict(place)
    for source, target in edges:
        last_use[source] = max(last_use[source], place[target])
    cuts: list[Cut] = []
    open_: dict[str, int] = {}
    start = 0
    for number, name in enumerate(order):
        open_ = {other: end for other, end in open_.items() if end > number}
        if last_use[name] > number and sizes[name] > 0:
            open_[name] = last_use[name]
        at_end = number == len(order) - 1
        if len(open_) == 1 or at_end:
            crossing = sizes[name] if at_end else sizes[next(iter(open_))]
            cuts.append(Cut(tuple(order[start : number + 1]), crossing))
            start = number + 1
    return cuts


def _order(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[str] | None:
    """The nodes so that every edge leads onward: by the numbers in their names where there is a choice, as late as can be."""
    waiting: dict[str, int] = defaultdict(int)
    before: dict[str, list[str]] = defaultdict(list)
    for a, b in edges:
        waiting[a] += 1
        before[b].append(a)
    ranks = {name: rank for rank, name in enumerate(sorted(names, key=_natural))}
    ready = [(-ranks[name], name) for name in names if not waiting[name]]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        _, name = heapq.heappop(ready)
        order.append(name)
        for source in before[name]:
            waiting[source] -= 1
            if not waiting[source]:
                heapq.heappush(ready, (-ranks[source], source))
    return order[::-1] if len(order) == len(names) else None


def _natural(name: str) -> list[tuple[int, str]]:
    """`node10` after `node9`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
