"""The timeline: what happened when. Predicted and measured timelines are the same type."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Literal, NamedTuple

from hetsim.schedule import Kind

if TYPE_CHECKING:
    import pandas as pd

Lane = Literal["compute", "send", "receive", "reduce"]
"""What of a device is busy: the processor, or one direction of its communication."""

LANES: tuple[Lane, ...] = ("compute", "send", "receive", "reduce")

LANE_OF: dict[Kind, Lane] = {
    Kind.FORWARD: "compute",
    Kind.BACKWARD: "compute",
    Kind.UPDATE: "compute",
    Kind.SEND_F: "send",
    Kind.SEND_B: "send",
    Kind.RECV_F: "receive",
    Kind.RECV_B: "receive",
    Kind.REDUCE: "reduce",
}


class Span(NamedTuple):
    """One action of one device, from `start_ns` to `end_ns` after the start of the step."""

    device: str
    kind: Kind
    action: str
    """The action's text, e.g. `2F0`."""

    start_ns: int
    end_ns: int

    @property
    def lane(self) -> Lane:
        """The lane that it occupies."""
        return LANE_OF[self.kind]

    @property
    def duration_s(self) -> float:
        """Seconds from start to end."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True)
class Timeline:
    """The spans of one step, by device and time."""

    spans: tuple[Span, ...]

    @classmethod
    def of(cls, spans: Iterable[Span]) -> Timeline:
        """A timeline of `spans` in canonical order: by device name, then time."""
        rows = sorted(spans, key=itemgetter(0, 3, 4, 2))
        return cls(tuple(rows))

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices in it, in order."""
        return tuple(dict.fromkeys(span.device for span in self.spans))

    @cached_property
    def step_s(self) -> float:
        """Seconds from the start of the step to the end of its last action."""
        return max((span.end_ns for span in self.spans), default=0) / 1e9

    def busy_s(self, device: str, *kinds: Kind) -> float:
        """Seconds that `device` spends in actions of `kinds` (by default all that occupy its processor)."""
        chosen = kinds or (Kind.FORWARD, Kind.BACKWARD, Kind.UPDATE)
        return sum(span.duration_s for span in self.spans if span.device == device and span.kind in chosen)

    def utilisation(self, device: str) -> float:
        """Share of the step during which the device's processor works, 0 to 1."""
        return self.busy_s(device) / self.step_s if self.step_s else 0.0

    def to_frame(self) -> pd.DataFrame:
        """One row a span: device, lane, action, kind, start_s, end_s."""
        import pandas as pd

        return pd.DataFrame(
            [(s.device, s.lane, s.action, str(s.kind), s.start_ns / 1e9, s.end_ns / 1e9) for s in self.spans],
            columns=["device", "lane", "action", "kind", "start_s", "end_s"],
        )
