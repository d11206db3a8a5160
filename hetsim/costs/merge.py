"""One cost table from several: the device types of all of them, and no number that two of them tell differently."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from hetsim.costs.samples import Fingerprint, Sample, differences, digest
from hetsim.costs.sources import CostSource, NetworkCosts, Placed, Row
from hetsim.costs.table import LayerCost, TransferCost
from hetsim.errors import CostError, Problem

Prefer = Literal["first", "last", "most-samples"]
"""Which of two rows for the same point counts: of the table named first or last, or the one that stands on more timings."""

_SHOWN = 8
"""Of the points that two files tell differently; there may be hundreds."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What came of merging."""

    source: CostSource
    replaced: int
    """Points that two tables told differently, settled by `prefer`."""

    accepted: tuple[str, ...]
    """Differences between fingerprints that were let pass, as sentences."""

    unchecked: tuple[str, ...]
    """Device types that several tables have and whose fingerprint one of them does not know."""


def merge(sources: Sequence[CostSource], name: str, *, prefer: Prefer | None = None, allow_mismatch: bool = False) -> Merged:
    """The tables of `sources` as one, called `name`: every network with all its device types.

    Rows that are equal count once. Raises CostError with the places of all points that two tables tell differently, unless
    `prefer` says which counts; and with what differs where a device type of the same name was measured under different
    fingerprints, unless `allow_mismatch`, which marks the result in the notes.
    """
    mismatches = list(_mismatches(sources))
    problems = [] if allow_mismatch else [mismatch.problem for mismatch in mismatches]
    names = dict.fromkeys(costs.network for source in sources for costs in source.networks)
    networks, replaced = [], 0
    for network in names:
        parts = [costs for source in sources for costs in source.networks if costs.network == network]
        rows, count = _united([part.rows for part in parts], _layer_key, _point, prefer, problems)
        replaced += count
        networks.append(_network(network, parts, rows, mismatches))
    transfers, count = _united([source.transfers for source in sources], _transfer_key, _message, prefer, problems)
    if problems:
        raise CostError(problems)
    times = [source.measured_utc for source in sources if source.measured_utc]
    source = CostSource(
        name=name,
        path=name,
        networks=tuple(networks),
        transfers=transfers,
        transfer_notes=_notes((source.path, source.transfer_notes) for source in sources if source.transfers),
        samples=_samples(sources),
        measured_utc=max(times, default=None),
    )
    return Merged(source, replaced + count, tuple(m.sentence for m in mismatches), _unchecked(sources))


def _network(
    network: str, parts: Sequence[NetworkCosts], rows: tuple[Placed[LayerCost], ...], mismatches: Iterable[_Mismatch]
) -> NetworkCosts:
    prints: dict[str, dict[str, Fingerprint]] = defaultdict(dict)
    for part in parts:
        for kind, found in part.fingerprints.items():
            prints[kind] |= {digest(fingerprint): fingerprint for fingerprint in found}
    kinds = {placed.row.device_type for placed in rows}
    marks = [f"mismatch accepted: {mismatch.sentence}" for mismatch in mismatches if mismatch.device_type in kinds]
    notes = (*_notes((part.path, part.notes) for part in parts), *marks)
    path = parts[0].path if len(parts) == 1 else network
    return NetworkCosts(network, rows, notes, {kind: tuple(found.values()) for kind, found in prints.items()}, path)


def _notes(parts: Iterable[tuple[str, tuple[str, ...]]]) -> tuple[str, ...]:
    """The notes of all parts, below the files that they are from; of one part alone as they stand."""
    rows = list(parts)
    if len(rows) == 1:
        return rows[0][1]
    named = [(" ".join(path.split()), notes) for path, notes in rows]
    return tuple(line for path, notes in named for line in (f"merged from {path}", *notes))


def _samples(sources: Sequence[CostSource]) -> tuple[Sample, ...]:
    """All samples, each key once."""
    return tuple({sample.key: sample for source in reversed(sources) for sample in reversed(source.samples)}.values())[::-1]


# --- the same name for two things ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Mismatch:
    """A device type that two sources measured under different fingerprints."""

    device_type: str
    where: str
    sentence: str

    @property
    def problem(self) -> Problem:
        mend = "Measure both alike, give one of them another name, or accept it: --allow-mismatch"
        return Problem(self.where, self.sentence, mend)


def _mismatches(sources: Sequence[CostSource]) -> Iterator[_Mismatch]:
    """For each device type, the sources whose fingerprints are not those of the first source that knows any."""
    first: dict[str, tuple[CostSource, dict[str, Fingerprint]]] = {}
    for source in sources:
        for kind, mine in _fingerprints(source).items():
            known, theirs = first.setdefault(kind, (source, mine))
            if mine.keys() != theirs.keys():
                unlike = differences(_latest_beside(mine, theirs), _latest_beside(theirs, mine))
                told = ", ".join(f'{key} "{one}" instead of "{other}"' for key, one, other in unlike)
                sentence = f"{kind} was measured under another fingerprint than in {known.path}: {told}"
                yield _Mismatch(kind, source.path, " ".join(sentence.split()))


def _unchecked(sources: Sequence[CostSource]) -> tuple[str, ...]:
    having: dict[str, list[bool]] = defaultdict(list)
    for source in sources:
        known = _fingerprints(source)
        for kind in dict.fromkeys(kind for costs in source.networks for kind in costs.device_types):
            having[kind].append(kind in known)
    return tuple(kind for kind, known in having.items() if len(known) > 1 and not all(known))


def _latest_beside(prints: dict[str, Fingerprint], others: dict[str, Fingerprint]) -> Fingerprint:
    """The latest of `prints` that is not among the `others`; the latest of all where every one is."""
    names = [name for name in prints if name not in others] or list(prints)
    return prints[names[-1]]


def _fingerprints(source: CostSource) -> dict[str, dict[str, Fingerprint]]:
    """Device type -> digest -> fingerprint, over all networks; only of types whose fingerprint is known."""
    found: dict[str, dict[str, Fingerprint]] = defaultdict(dict)
    for costs in source.networks:
        for kind, prints in costs.fingerprints.items():
            found[kind] |= {digest(fingerprint): fingerprint for fingerprint in prints}
    return {kind: prints for kind, prints in found.items() if prints}


# --- the same point twice ------------------------------------------------------------------------------------------------


def _layer_key(row: LayerCost) -> Hashable:
    return row.device_type, row.layer, row.tensor_parallel, row.in_flight, row.microbatch


def _transfer_key(row: TransferCost) -> Hashable:
    return row.operation, row.group, row.size_bytes


def _point(row: LayerCost) -> str:
    extras = [f", {row.in_flight} in flight"] if row.in_flight > 1 else []
    extras += [f", tensor parallel {row.tensor_parallel}"] if row.tensor_parallel > 1 else []
    return f"{row.layer} on {row.device_type} × {row.microbatch}{''.join(extras)}"


def _message(row: TransferCost) -> str:
    return f"{row.operation} {';'.join(row.group)} of {row.size_bytes} bytes"


def _united(
    parts: Sequence[Sequence[Placed[Row]]],
    key_of: Callable[[Row], Hashable],
    name_of: Callable[[Row], str],
    prefer: Prefer | None,
    problems: list[Problem],
) -> tuple[tuple[Placed[Row], ...], int]:
    """The rows of all parts, each point once in the order of its first place; how many points `prefer` had to settle.

    Without `prefer` these are noted in `problems`.
    """
    rows: dict[Hashable, Placed[Row]] = {}
    clashes: list[tuple[Placed[Row], Placed[Row]]] = []
    for placed in (placed for part in parts for placed in part):
        known = rows.setdefault(key_of(placed.row), placed)
        if known.row != placed.row:
            clashes.append((known, placed))
            if prefer == "last" or (prefer == "most-samples" and placed.row.samples > known.row.samples):
                rows[key_of(placed.row)] = placed
    if prefer is None:
        problems += _clash_problems(clashes, name_of)
    return tuple(rows.values()), len(clashes)


def _clash_problems(clashes: Sequence[tuple[Placed[Row], Placed[Row]]], name_of: Callable[[Row], str]) -> Iterator[Problem]:
    mend = "Say which counts: --prefer first, last or most-samples"
    by_files: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for known, placed in clashes:
        mine, theirs = asdict(placed.row), asdict(known.row)
        told = ", ".join(f"{key} {mine[key]} instead of {theirs[key]}" for key in mine if mine[key] != theirs[key])
        files = known.where.rsplit(":", 2)[0], placed.where.rsplit(":", 2)[0]
        by_files[files].append(Problem(placed.where, f"{name_of(placed.row)}: differs from {known.where}: {told}", mend))
    for (one, other), found in by_files.items():
        yield from found[:_SHOWN]
        if len(found) > _SHOWN:
            yield Problem(other, f"{len(found) - _SHOWN} more points differ from {one}", mend)
