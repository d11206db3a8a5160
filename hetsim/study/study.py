"""A study: a cluster, variants of it, and what was asked besides, answered side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from hetsim.economics import pay_back_h
from hetsim.scenario.types import Scenario
from hetsim.study.estimate import Estimate, change, hours_for
from hetsim.study.hinges import Hinge
from hetsim.study.purchases import Found
from hetsim.study.worth import Retirement, Worth

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a variant beside that of the cluster as it is. None: unknown, because something that it takes is."""

    name: str
    unit: str
    old: float | None
    new: float | None
    low: float | None = None
    """Ends of the 90 % interval of new / old - 1."""

    high: float | None = None

    @property
    def change(self) -> float | None:
        """new / old - 1."""
        return self.new / self.old - 1 if self.old and self.new is not None else None


@dataclass(frozen=True, slots=True)
class Study:
    """What was asked, answered."""

    scenario: Scenario
    whole: Estimate
    """The cluster as it is."""

    variants: tuple[Estimate, ...] = ()
    worths: tuple[Worth, ...] = ()
    retirements: tuple[Retirement, ...] = ()
    found: Found | None = None
    """The purchases, where a budget was given."""

    advantage: float | None = None
    """Of the last variant, where it was asked what that hinges on."""

    hinges: tuple[Hinge, ...] = ()

    def figures(self, variant: Estimate) -> tuple[Figure, ...]:
        """What `variant` comes to, beside the cluster as it is: in time, money and energy."""
        return tuple(_figures(self, variant))

    def to_frame(self) -> pd.DataFrame:
        """One row a variant, and one for the cluster as it is: samples_per_s, per_million, kwh_per_million, change, low, high."""
        import pandas as pd

        rows = []
        for row in (self.whole, *self.variants):
            middle, low, high = change(self.whole, row)
            rows.append(
                {
                    "variant": row.variant.name,
                    "samples_per_s": row.samples_per_s,
                    f"{self.scenario.economics.currency}_per_million_samples": row.per_million,
                    "kwh_per_million_samples": row.kwh_per_million,
                    "throughput_change": middle,
                    "throughput_change_low": low,
                    "throughput_change_high": high,
                    "plans": {answer.network: answer.plan for answer in row.answers},
                }
            )
        return pd.DataFrame(rows)

    def worth_frame(self) -> pd.DataFrame:
        """One row a kind of device in a node, as in `Worth`; the gain of each network in a column of its own."""
        return _frame({k: v for k, v in asdict(row).items() if k != "by_network"} | row.by_network for row in self.worths)

    def front_frame(self) -> pd.DataFrame:
        """One row a purchase of the front of throughput against money, the cheapest first; none without a budget."""
        rows = self.found.front if self.found else ()
        currency = self.scenario.economics.currency
        return _frame(
            {
                "purchase": "; ".join(row.edits) or "nothing",
                f"spent_{currency}": row.spent,
                "samples_per_s": row.samples_per_s,
                f"{currency}_per_million_samples": row.per_million,
                "kwh_per_million_samples": row.kwh_per_million,
            }
            for row in rows
        )

    def hinges_frame(self) -> pd.DataFrame:
        """One row an input, the largest swing first, as in `Hinge`: factors, and the advantage of the variant at both."""
        return _frame(asdict(row) for row in self.hinges)

    def _repr_html_(self) -> str:
        """All frames that have rows, for notebooks."""
        frames = (self.to_frame(), self.worth_frame(), self.front_frame(), self.hinges_frame())
        return "".join(str(frame.to_html(index=False)) for frame in frames if len(frame))


def _frame(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(rows))


def _figures(study: Study, new: Estimate) -> Iterator[Figure]:
    old, currency = study.whole, study.scenario.economics.currency
    middle, low, high = change(old, new)
    yield Figure("throughput", "samples/s", old.samples_per_s, new.samples_per_s, low, high)
    if len(old.answers) > 1:
        for a, b in zip(old.answers, new.answers, strict=True):
            yield Figure(f"throughput of {a.network}", "samples/s", a.samples_per_s, b.samples_per_s)
    if (samples := study.scenario.what_if.samples) is not None:
        yield Figure(
            "time to train", "h", hours_for(old, samples), hours_for(new, samples), 1 / (1 + high) - 1, 1 / (1 + low) - 1
        )
    costs = (old.per_million, new.per_million)
    yield Figure("cost", f"{currency} per million samples", *costs, *_inverse(costs, middle, low, high))
    energy = (old.kwh_per_million, new.kwh_per_million)
    yield Figure("energy", "kWh per million samples", *energy, *_inverse(energy, middle, low, high))
    yield Figure("price of an hour", f"{currency}/h", old.bill.per_h, new.bill.per_h)
    spent = new.variant.spent
    if new.variant.bought:
        yield Figure("spent", currency, None, spent)
        back = None if spent is None else pay_back_h(spent, old.bill, new.bill, new.variant.amortised_per_h)
        yield Figure("pays back after", "h of training", None, back)


def _inverse(
    values: tuple[float | None, float | None], middle: float, low: float, high: float
) -> tuple[float | None, float | None]:
    """The interval of a figure that goes with the time for a sample, where it is known."""
    old, new = values
    if not old or new is None:
        return None, None
    ratio = new / old
    return ratio * (1 + middle) / (1 + high) - 1, ratio * (1 + middle) / (1 + low) - 1
