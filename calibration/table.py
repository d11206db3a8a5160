"""From raw samples to the cost table, and the closing test of the calibration."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calibration.statistics import summarise
from hetsim.costs import ALONE, CANARY, CONTEXT, CROWD, STEP, WORKSPACE, CostTable, LayerCost, TransferCost
from hetsim.costs.gathered import are_few

WAITING_MARKS = 0.03
"""An accelerator on which marks lengthen a step by more than this share waits for its host: one that has work ahead hides them."""

CANARY_SPREAD = 0.02
"""What two timings minutes apart still differ by when both are brought to one speed: what repeated calibrations showed."""


@dataclass(frozen=True, slots=True)
class Closing:
    """The sum of a step's measured parts beside the same step without marks, on one device type at one microbatch."""

    device_type: str
    microbatch: int
    parts_s: float
    whole_s: float
    marks: float
    """What the marks add to forward and backward, as a share of them: the median of the pairs of steps with and without."""

    waits_for_host: bool
    """Whether the device is an accelerator that has less to do than its host has in telling it."""

    @property
    def error(self) -> float:
        """parts / whole - 1."""
        return self.parts_s / self.whole_s - 1


def cost_table(
    network: str,
    points: Iterable[Mapping[str, Any]],
    transfers: Iterable[Mapping[str, Any]],
    canaries: Mapping[str, Sequence[float]],
    alone: Iterable[Mapping[str, Any]] = (),
    crowd: Iterable[Mapping[str, Any]] = (),
) -> CostTable:
    """The table of `network` from the store's rows, at the speed of `canaries` (device type -> timings of its canary).

    Each point's times are multiplied by canary of the table / canary beside the point, so that a drift of the machine between
    two points does not look like a property of the network.
    """
    rows = list(points)
    speeds_s = {kind: _median(timings_s) for kind, timings_s in canaries.items()}
    layers: list[LayerCost] = []
    for kind, mine in _by_type(rows).items():
        accumulation_s = _accumulation_s(mine, speeds_s[kind])
        for row in mine:
            unmarked = _unmarked(row, mine)
            layers += _layer_costs(row, _correction(row, speeds_s[kind]), accumulation_s, unmarked)
    layers += _step_costs(rows)
    layers += _held_bytes(rows)
    layers += _alone_costs(rows, alone, speeds_s)
    layers += map(_crowd_cost, crowd)
    layers += [
        LayerCost(kind, CANARY, 1, seconds, 0.0, samples=len(canaries[kind]))
        for kind, seconds in speeds_s.items()
        if any(row["device_type"] == kind for row in rows)
    ]
    return CostTable(network, tuple(layers), tuple(map(_transfer_cost, transfers)))


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the machine was while a device type was measured."""

    device_type: str
    slowest: float
    """Longest canary of a point over the median one, minus 1."""

    fastest: float
    """Shortest one over the median one, minus 1."""

    crowded: float
    """Share of the rounds in which another program took the core, 0 to 1; they are left out."""


def conditions(points: Iterable[Mapping[str, Any]]) -> tuple[Conditions, ...]:
    """Of every device type, over `points`."""
    return tuple(_conditions(kind, rows) for kind, rows in sorted(_by_type(points).items()))


def _conditions(kind: str, rows: Sequence[Mapping[str, Any]]) -> Conditions:
    canaries_s = [_median(row["canary_s"]) for row in rows]
    usual_s = statistics.median(canaries_s)
    crowded = sum(row["crowded_rounds"] for row in rows) / sum(row["rounds"] for row in rows)
    return Conditions(kind, max(canaries_s) / usual_s - 1, min(canaries_s) / usual_s - 1, crowded)


def closing(points: Iterable[Mapping[str, Any]]) -> tuple[Closing, ...]:
    """The closing test of every point."""
    return tuple(_closing(row) for row in points if row["whole_s"])


def _closing(row: Mapping[str, Any]) -> Closing:
    marks = _marks(row)
    waits = _is_accelerator(row) and marks > WAITING_MARKS
    return Closing(row["device_type"], row["microbatch"], _parts_s(row), summarise(row["whole_s"]).median_s, marks, waits)


def _is_accelerator(row: Mapping[str, Any]) -> bool:
    return bool(row["fingerprint"].get("backend") == "cuda")


def _by_type(points: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    rows_of: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in points:
        rows_of[row["device_type"]].append(row)
    return rows_of


def _correction(row: Mapping[str, Any], speed_s: float) -> float:
    """What a point's times are multiplied by to hold where the canary takes `speed_s`."""
    return speed_s / _median(row["canary_s"])


def _unmarked(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> float:
    """What forward and backward of `row` are multiplied by to be those of a step without marks: below 1 on accelerators alone.

    An accelerator with little to do waits for its host, and every mark takes some of the host's time: a small step on an H100
    took a fifth longer with marks. `rows`, all of the device type, tell by their plain steps; the nearest microbatch counts.
    """
    told = [other for other in rows if other["whole_s"]]
    if not told or not _is_accelerator(row):
        return 1.0
    nearest = min(told, key=lambda other: abs(math.log(other["microbatch"] / row["microbatch"])))
    return min(1.0, statistics.median(whole / marked for whole, marked in _pairs_s(nearest)))


def _accumulation_s(rows: Iterable[Mapping[str, Any]], speed_s: float) -> float | None:
    """What a backward of the whole network takes longer where it adds to gradients; None where no point of a type tells."""
    told = [_correction(row, speed_s) * statistics.median(row["accumulation_s"]) for row in rows if row["accumulation_s"]]
    return max(0.0, statistics.median(told)) if told else None


def _median(samples_s: Sequence[float]) -> float:
    return summarise(samples_s).median_s


def _parts_s(row: Mapping[str, Any]) -> float:
    return sum(cost.forward_s + cost.backward_s + cost.update_s for cost in _layer_costs(row))


def _layer_costs(
    row: Mapping[str, Any], correction: float = 1.0, accumulation_s: float | None = None, unmarked: float = 1.0
) -> list[LayerCost]:
    """One row a layer. Noise of single layers cancels in a stage, so each carries the spread of the whole step.

    One optimizer over all layers has less overhead than one for each, so its time is divided in proportion to theirs, and so is
    what adding to gradients takes: both go through the parameters. With several microbatches in flight, the backwards have
    added to gradients, all but the first where all count, which is taken off. All times but `accumulation_s` are multiplied by
    `correction`, forward and backward by `unmarked` too.
    """
    updates_s = {name: _median(layer["update_s"]) for name, layer in row["layers"].items()}
    whole_update_s = sum(updates_s.values())
    shares = {name: update_s / whole_update_s if whole_update_s else 0.0 for name, update_s in updates_s.items()}
    added_s = {name: share * (accumulation_s or 0.0) for name, share in shares.items()}
    adding = 1.0 if are_few(row["in_flight"]) else 1 - 1 / row["in_flight"]
    whole = summarise(row["marked_s"])
    scale = _median(row["whole_update_s"]) / whole_update_s if row["whole_update_s"] and whole_update_s else 1.0
    spread = whole.spread if math.isfinite(whole.spread) else 1.0
    return [
        LayerCost(
            row["device_type"],
            name,
            row["microbatch"],
            correction * unmarked * _median(layer["forward_s"]),
            max(0.0, correction * unmarked * _median(layer["backward_s"]) - adding * added_s[name]),
            correction * scale * updates_s[name],
            accumulate_s=None if accumulation_s is None else added_s[name],
            saved_bytes=row.get("saved_bytes", {}).get(name),
            spread=spread,
            samples=len(layer["forward_s"]),
            in_flight=row["in_flight"],
        )
        for name, layer in row["layers"].items()
    ]


def _step_costs(rows: Sequence[Mapping[str, Any]]) -> list[LayerCost]:
    """What whole steps take beyond their parts: the median over a device type's points, where it is positive."""
    gaps: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["whole_s"]:
            gaps[row["device_type"]].append(_gap_s(row))
    return [
        LayerCost(device_type, STEP, 1, 0.0, 0.0, max(0.0, statistics.median(mine)), samples=len(mine))
        for device_type, mine in gaps.items()
    ]


def _alone_costs(
    points: Sequence[Mapping[str, Any]], alone: Iterable[Mapping[str, Any]], speeds_s: Mapping[str, float]
) -> list[LayerCost]:
    """A whole step while the other devices rest beside the same step while they work, both at the table's speed."""
    busy = {(row["device_type"], row["microbatch"]): row for row in points if row["in_flight"] == 1}
    costs = []
    for row in alone:
        among = busy.get((row["device_type"], row["microbatch"]))
        if among is not None:
            resting, working = summarise(row["marked_s"]), summarise(among["marked_s"])
            kind = row["device_type"]
            resting_s = resting.median_s * _correction(row, speeds_s[kind])
            working_s = working.median_s * _correction(among, speeds_s[kind])
            spread = math.hypot(resting.spread, working.spread, CANARY_SPREAD)
            sure = spread if math.isfinite(spread) else 1.0
            costs.append(LayerCost(kind, ALONE, row["microbatch"], resting_s, working_s, spread=sure, samples=resting.count))
    return costs


def _crowd_cost(row: Mapping[str, Any]) -> LayerCost:
    """The processor time of a step on a core that is shared beside that on a core of its own: medians over the rounds.

    The two were timed in turns, so that they are at one speed of the machine.
    """
    crowd_s, apart_s = ([_median(mine) for mine in row[key]] for key in ("crowd_s", "apart_s"))
    ratios = [crowded / apart for crowded, apart in zip(crowd_s, apart_s, strict=True)]
    summary = summarise(ratios)
    spread = summary.spread if math.isfinite(summary.spread) else 1.0
    apart = _median(apart_s)
    return LayerCost(
        row["device_type"], CROWD, row["microbatch"], apart * summary.median_s, apart, spread=spread, samples=summary.count
    )


def _held_bytes(rows: Sequence[Mapping[str, Any]]) -> list[LayerCost]:
    """What a step holds beside what is known of the layers, by microbatch; and what a process of a type holds by itself.

    Of that the least counts: old memory that is not given back, because something new lies in it, makes it look like more.
    """
    told = [row for row in rows if row.get("workspace_bytes") is not None]
    contexts: dict[str, int] = {}
    for row in told:
        contexts[row["device_type"]] = min(row["context_bytes"], contexts.get(row["device_type"], row["context_bytes"]))
    steps = [(row["device_type"], WORKSPACE, row["microbatch"], row["workspace_bytes"]) for row in told]
    processes = [(kind, CONTEXT, 1, size) for kind, size in contexts.items()]
    return [LayerCost(kind, name, at, 0.0, 0.0, saved_bytes=size, samples=1) for kind, name, at, size in steps + processes]


def _marks(row: Mapping[str, Any]) -> float:
    return statistics.median(marked / whole - 1 for whole, marked in _pairs_s(row))


def _gap_s(row: Mapping[str, Any]) -> float:
    """Forward and backward of a whole step minus those of the marked one right before it: the median of the pairs.

    A burst of other work on the machine lengthens both of a pair, or spoils one pair alone.
    """
    return statistics.median(whole - marked for whole, marked in _pairs_s(row))


def _pairs_s(row: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Forward and backward of each whole step and of the marked one right before it."""
    columns = ("whole_s", "whole_update_s", "marked_s", "marked_update_s")
    rows = zip(*(row[column] for column in columns), strict=True)
    return [(whole - whole_update, marked - marked_update) for whole, whole_update, marked, marked_update in rows]


def _transfer_cost(row: Mapping[str, Any]) -> TransferCost:
    summary = summarise(row["seconds"])
    spread = summary.spread if math.isfinite(summary.spread) else 1.0
    return TransferCost(row["operation"], tuple(row["group"]), row["size_bytes"], summary.median_s, spread, summary.count)
