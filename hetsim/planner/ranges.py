"""Plans that are asked about together: how many replicas they have, of which kinds single devices are, where gradients stay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hetsim.planner.stays import ANYWHERE, Stay
from hetsim.planner.teams import NEAR

NEXT_GAP = 0.5
"""How far below a T that is possible the next one is, as long as none is ruled out."""


@dataclass(slots=True)
class Range:
    """Plans of `fewest` to `most` replicas."""

    fewest: int
    most: int
    banned: frozenset[int] = frozenset()
    """Kinds of which no replica is a single device."""

    used: frozenset[int] = frozenset()
    """Kinds of which one is."""

    stay: Stay = ANYWHERE
    """Where their gradients are exchanged."""

    low_s: float = 0.0
    """No shorter step is possible."""

    high_s: float = np.inf
    """The shortest that could not be ruled out."""

    alone: tuple[int, ...] = ()
    """Kinds of single devices on which that rests."""

    gave_up: bool = False
    """Whether that is because too many cuts would have been looked for."""

    is_new: bool = False
    """Whether nothing was asked about these plans yet."""

    def next_s(self, best_s: float, gap: float) -> float:
        """The step to ask about: first as near to the best plan as is wanted; where that is possible, one that may be ruled out."""
        goal_s = best_s / (1 + gap)
        if self.high_s > goal_s * (1 + NEAR) and (self.is_new or goal_s < self.low_s * (1 + 4 * gap)):
            return goal_s
        possible_s = min(self.high_s, goal_s)
        return float(np.sqrt(self.low_s * possible_s)) if self.low_s > 0 else possible_s / (1 + NEXT_GAP)

    @property
    def is_settled(self) -> bool:
        """Whether asking further would tell nothing."""
        return self.high_s < self.low_s * (1 + 2 * NEAR)
