"""What each device is worth: the cluster with it and without it, planned anew both times; and in which order to retire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hetsim.errors import HetsimError, InfeasibleError
from hetsim.study.edits import Variant, edited
from hetsim.study.estimate import Estimate, Estimator, change

Verdict = Literal["keep", "indifferent", "retire"]

NOTICEABLE = 0.005
"""A change of throughput that is worth speaking of; less is neither a gain nor a loss to anybody."""


@dataclass(frozen=True, slots=True)
class Worth:
    """One device of a kind in a node, of which all are alike."""

    device: str
    type: str
    node: str
    count: int
    """How many alike there are in the node."""

    gain: float
    """Throughput with it over that without it, minus 1; negative where it does harm; infinite where nothing goes without it."""

    low: float
    high: float
    """Ends of the 90 % interval of the gain."""

    per_million_without: float | None
    """Money for a million samples without it."""

    hourly: float | None
    """What it costs an hour to own."""

    verdict: Verdict
    by_network: dict[str, float]
    """Network -> the gain of it alone."""


@dataclass(frozen=True, slots=True)
class Retirement:
    """One step of an order to retire in."""

    device: str
    type: str
    node: str
    samples_per_s: float
    """Of what is left."""

    per_million: float | None


def worths(estimator: Estimator, whole: Estimate, on_progress: Callable[[str], None] | None = None) -> tuple[Worth, ...]:
    """What every device is worth in the cluster of `whole`; like devices of a node are planned once, for one of them less."""
    rows = []
    for device, kind, node, count in _kinds(whole.variant):
        if on_progress is not None:
            on_progress(f"without {device}")
        without = _without(estimator, whole.variant, device)
        rows.append(_worth(whole, without, device, kind, node, count))
    return tuple(rows)


def retirements(
    estimator: Estimator, whole: Estimate, steps: int, on_progress: Callable[[str], None] | None = None
) -> tuple[Retirement, ...]:
    """The order in which to retire, up to `steps` devices: each time the one without which a million samples cost least.

    Where prices are unknown or all are 0, the one without which training is fastest. It ends when that gets worse. It is the best
    next device each time, which need not be the best set of so many.
    """
    rows: list[Retirement] = []
    variant = whole.variant
    by_money = bool(whole.per_million)
    before = _cost(whole, by_money=by_money)
    while len(variant.cluster.devices) > 1 and len(rows) < steps:
        found: list[tuple[float, str, str, str, Estimate]] = []
        for device, kind, node, _ in _kinds(variant):
            if on_progress is not None:
                on_progress(f"{len(rows) + 1}. without {device}")
            if (left := _without(estimator, variant, device)) is not None:
                found.append((_cost(left, by_money=by_money), device, kind, node, left))
        if not found:
            break
        cost, device, kind, node, left = min(found, key=lambda row: row[:2])
        if cost > before * (1 + NOTICEABLE):
            break
        before = min(before, cost)
        rows.append(Retirement(device, kind, node, left.samples_per_s, left.per_million))
        variant = left.variant
    return tuple(rows)


def _cost(row: Estimate, *, by_money: bool) -> float:
    """What a sample costs, in money or else in seconds; infinite where its money is unknown."""
    if not by_money:
        return row.seconds_per_sample
    return float("inf") if row.per_million is None else row.per_million


def _kinds(variant: Variant) -> Iterator[tuple[str, str, str, int]]:
    """(last device, type, node, how many) of each type in each node."""
    for node in variant.cluster.nodes:
        for kind in dict.fromkeys(device.type for device in node.devices):
            mine = [device.name for device in node.devices if device.type == kind]
            yield mine[-1], kind, node.name, len(mine)


def _without(estimator: Estimator, variant: Variant, device: str) -> Estimate | None:
    """The estimate of what is left; None where nothing is, or where no plan fits it."""
    try:
        left = edited(variant.cluster, [f"retire {device}"], f"without {device}")
        return estimator.estimate(left)
    except InfeasibleError:
        return None
    except HetsimError:
        if len(variant.cluster.devices) == 1:
            return None
        raise


def _worth(whole: Estimate, without: Estimate | None, device: str, kind: str, node: str, count: int) -> Worth:
    price = whole.variant.cluster.device_types[kind].price
    hourly = price.hourly if price else None
    if without is None:
        gains = {answer.network: float("inf") for answer in whole.answers}
        return Worth(device, kind, node, count, float("inf"), float("inf"), float("inf"), None, hourly, "keep", gains)
    gain, low, high = change(without, whole)
    alone = {a.network: a.samples_per_s for a in without.answers}
    by_network = {a.network: a.samples_per_s / alone[a.network] - 1 for a in whole.answers}
    verdict = _verdict(whole, without, gain, low, high)
    return Worth(device, kind, node, count, gain, low, high, without.per_million, hourly, verdict, by_network)


def _verdict(whole: Estimate, without: Estimate, gain: float, low: float, high: float) -> Verdict:
    """By money where prices are known and not all 0, else by throughput; indifferent where the interval has both answers in it."""
    if by_money := bool(whole.per_million) and without.per_million is not None:
        # Money for a sample goes with the seconds for it, so the draws of the one are those of the other.
        gain = (without.per_million or 0.0) / (whole.per_million or 1.0) - 1
        hourly = (1 + gain) * whole.seconds_per_sample / without.seconds_per_sample
        ratios = hourly * without.draws_s / whole.draws_s
        low, high = float(np.quantile(ratios, 0.05)) - 1, float(np.quantile(ratios, 0.95)) - 1
    if gain <= 0 and not by_money:
        return "retire"  # it does nothing for the training, and costs what it costs
    if abs(gain) < NOTICEABLE or low <= 0 <= high:
        return "indifferent"
    return "keep" if gain > 0 else "retire"
