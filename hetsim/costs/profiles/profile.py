"""What an importer makes of a profile: a cost table, the network where the profile describes it, and what was assumed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hetsim.costs.table import LayerCost
from hetsim.errors import Problem
from hetsim.workload import Chain

LONGEST_S = 1e6
"""Of a time, and the largest share: as in cost tables."""

LARGEST_COUNT = 10**12

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,59}")
"""What a network may be called."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile, read."""

    network: str
    rows: tuple[LayerCost, ...]
    notes: tuple[str, ...]
    """Where the figures come from, and what was assumed; one line each."""

    chain: Chain | None = None
    """The network as numbers; None where the profile does not say how large its layers are."""

    warnings: tuple[str, ...] = ()
    """What was left out, for the user to know."""

    @property
    def device_types(self) -> tuple[str, ...]:
        """In the order of the profile."""
        return tuple(dict.fromkeys(row.device_type for row in self.rows))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user says of a profile, which the profile does not say itself."""

    device_type: str | None = None
    network: str | None = None
    microbatch: int | None = None
    """PipeDream: samples in the batch that was profiled."""

    model: str | None = None
    gpu: str | None = None
    """Sailor: which of a file with several."""

    backward_share: float = 2 / 3
    """Whole-model curves: of forward + backward. A backward is two products of the forward's size, hence two thirds."""

    parameters: int | None = None
    """Whole-model curves: elements of the network."""

    spread: float = 0.0
    """Half the 95 % interval of each time, relative to it; no profile tells it."""


def in_file_order(problems: Iterable[Problem]) -> list[Problem]:
    """`problems` by file, line and column, whatever the order in which they were found."""

    def place(problem: Problem) -> tuple[str, int, int]:
        file, line, column = (*problem.where.rsplit(":", 2), "", "")[:3]
        return (file, int(line), int(column)) if line.isdecimal() and column.isdecimal() else (problem.where, 0, 0)

    return sorted(problems, key=place)
