"""How long a search may go on, and who is told how far it has come."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Report = Callable[[str, float, float], None]
"""What is looked for, the shortest step found so far in seconds (infinite: none), and what none can be under."""


def _unheard(what: str, best_s: float, bound_s: float) -> None:
    """Nobody listens."""


@dataclass
class Watch:
    """Ends a search in time."""

    time_limit_s: float | None = None
    """From now on; None: until the work that is allotted is done, which takes the same way on every machine."""

    report: Report = _unheard
    stopped: bool = False
    """Whether somebody has had enough."""

    _start_s: float = field(default_factory=time.monotonic)

    @property
    def over(self) -> bool:
        """Whether the search is to end with what it has."""
        late = self.time_limit_s is not None and time.monotonic() - self._start_s > self.time_limit_s
        return self.stopped or late
