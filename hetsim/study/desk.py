"""What a search for purchases knows so far, which sets that rules out, and the file that keeps it.

A set is ruled out when another one that was planned is at least as fast as this one can be at all, and costs no more; and another
one is, and takes no more energy than this one has to. So neither front can miss it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hetsim.study.edits import Variant

SAME = 1e-3
"""Relative. Throughputs that differ by no more count as one: nobody could measure the difference, and bounds are about as sharp."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """One set of devices, and what it comes to."""

    edits: tuple[str, ...]
    spent: float
    samples_per_s: float
    """Of the mix."""

    per_million: float | None
    kwh_per_million: float | None
    plans: Mapping[str, str]
    """Network -> its plan."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One set that can be bought, and what it can come to at best."""

    variant: Variant
    spent: float
    most_per_s: float
    """Samples of the mix in a second that no plan exceeds."""

    least_kwh: float | None
    """Energy for a million samples that no plan is under; None: the set's energy is unknown."""


class Desk:
    """Offers, and what became of them."""

    def __init__(self, offers: Sequence[Offer], journal: Path | None) -> None:
        self.offers = offers
        self._place = {offer.variant.edits: place for place, offer in enumerate(offers)}
        self._spent = np.array([offer.spent for offer in offers])
        self._most_per_s = np.array([offer.most_per_s for offer in offers])
        self._least_kwh = np.array([np.inf if offer.least_kwh is None else offer.least_kwh for offer in offers])
        self._beaten_in_money = np.zeros(len(offers), dtype=bool)
        self._beaten_in_energy = np.array([offer.least_kwh is None for offer in offers])
        self._journal = journal
        self._cut_off = _is_cut_off(journal)
        self.found: dict[tuple[str, ...], Purchase | None] = {}
        # The file also holds what was planned within other limits: that is neither to be bought here nor to be counted.
        for edits, purchase in _on_file(journal):
            if edits in self._place:
                self._note(edits, purchase)

    @property
    def purchases(self) -> list[Purchase]:
        """All that were planned and fit."""
        return [row for row in self.found.values() if row is not None]

    @property
    def infeasible(self) -> int:
        """How many no plan fits."""
        return sum(row is None for row in self.found.values())

    @property
    def decided(self) -> int:
        """How many were planned or are ruled out."""
        planned = np.zeros(len(self.offers), dtype=bool)
        planned[[self._place[edits] for edits in self.found]] = True
        return int((planned | (self._beaten_in_money & self._beaten_in_energy)).sum())

    @property
    def fastest(self) -> Purchase | None:
        """The fastest so far."""
        return max(self.purchases, key=lambda row: row.samples_per_s, default=None)

    def may_be_on_the_front(self, place: int) -> bool:
        """Whether no purchase is known that costs no more than this offer and is as fast as it can be."""
        return not self._beaten_in_money[place]

    def may_be_on_the_energy_front(self, place: int) -> bool:
        """Whether no purchase is known that takes no more energy than this offer has to and is as fast as it can be."""
        return not self._beaten_in_energy[place]

    def take(self, variant: Variant, purchase: Purchase | None) -> None:
        """Note what came out, in the file before anything else."""
        if self._journal is not None:
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            row = {name: getattr(purchase, name) for name in purchase.__slots__} if purchase else None
            with self._journal.open("a", encoding="utf-8") as file:
                file.write("\n" * self._cut_off + json.dumps({"edits": variant.edits, "found": row}) + "\n")
            self._cut_off = False
        self._note(variant.edits, purchase)

    def _note(self, edits: tuple[str, ...], purchase: Purchase | None) -> None:
        self.found[edits] = purchase
        if purchase is None:
            return
        as_fast = self._most_per_s <= purchase.samples_per_s * (1 + SAME)
        self._beaten_in_money |= as_fast & (self._spent >= purchase.spent)
        if purchase.kwh_per_million is not None:
            self._beaten_in_energy |= as_fast & (self._least_kwh >= purchase.kwh_per_million)


def _on_file(journal: Path | None) -> Iterator[tuple[tuple[str, ...], Purchase | None]]:
    """(edits, what they came to) of each line; a line that was cut off when its process was killed is planned again."""
    if journal is None or not journal.exists():
        return
    for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            edits, found = tuple(row["edits"]), row["found"]
            purchase = None if found is None else Purchase(**{**found, "edits": edits})
        except (ValueError, KeyError, TypeError):
            continue
        yield edits, purchase


def _is_cut_off(journal: Path | None) -> bool:
    """Whether the file ends within a line."""
    if journal is None or not journal.exists():
        return False
    text = journal.read_bytes()
    return bool(text) and not text.endswith(b"\n")
