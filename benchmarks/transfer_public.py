"""How well costs carry over to a GPU that was not measured: published step times, each held out in turn.

`make accuracy-public`. Two questions are asked of every curve (a network on a GPU, in a source):

* **new device**: nothing timed on the GPU (any variant of it), of any network in any source, is used. Its step factor is 1.
* **new network**: no timing of the architecture, on any GPU in any source, is used for the step factors, and none of it on the
  held-out GPU for the prediction. The GPU's step factor comes from other architectures.

In both the curve of the same network on the source's other GPUs is what is transferred. Nothing is extrapolated: a point is
predicted where another GPU's curve spans its batch. An interval is made of the errors of points that were held out in the same
way within the rest of the data, without what is held out.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

import numpy as np

from benchmarks.public_data import DATA_VARIABLE, Curve, Workload, data_folder, workloads
from hetsim.costs.transfer import HOST_BOUND, SPREADS, blended_s, host_floor_s, transferred_s
from hetsim.hardware.catalogue import accelerator
from hetsim.hardware.rates import STEP_FACTORS, AchievedRates, achieved_rates, model_of

COVERED = 0.90
BACKWARD_AND_FORWARD = 3.0
"""Operations of a step over those of the forward."""

Factors = Mapping[str, float]
"""Device -> step factor."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One point of a target as one measured GPU foretells it, before step factors."""

    workload: Workload
    batch: float
    target: str
    source: str
    true_s: float
    floor_s: float
    above_s: float


@dataclass(frozen=True, slots=True)
class Point:
    """One held-out point."""

    workload: Workload
    batch: float
    target: str
    true_s: float
    predicted_s: float
    host_share: float
    spread: float = math.nan
    """The relative half 90 % interval that the rest of the data gives it."""

    @property
    def error(self) -> float:
        """Predicted over measured, minus 1."""
        return self.predicted_s / self.true_s - 1

    @property
    def miss(self) -> float:
        """How far the measured time lies from the predicted one, relative to the latter, as spreads are."""
        return abs(self.true_s / self.predicted_s - 1)

    @property
    def host_bound(self) -> bool:
        """Whether the host's floor says more than the device; known from the prediction alone."""
        return self.host_share >= HOST_BOUND


def plain_rates(name: str, workload: Workload) -> AchievedRates:
    """What the device achieves in the workload's format, without a step factor."""
    rates = achieved_rates(accelerator(name), workload.kind)
    assert rates is not None, name
    return replace(rates, step_factor=1.0)


def pairs_of(data: Iterable[Workload]) -> list[Pair]:
    """All points of all GPUs as each other GPU of the source foretells them."""
    return [
        pair
        for workload in data
        for target, curve in workload.curves.items()
        for source, measured in workload.curves.items()
        if model_of(source) != model_of(target)
        for pair in _pairs(workload, target, curve, source, measured)
    ]


def _pairs(workload: Workload, target: str, curve: Curve, source: str, measured: Curve) -> Iterable[Pair]:
    floor_s = host_floor_s(measured.items())
    there, here = plain_rates(target, workload), plain_rates(source, workload)
    for batch, true_s in curve.items():
        if (seconds := _between(measured, batch)) is None:
            continue
        gigaflops = workload.gigaflops_per_sample
        flops = None if gigaflops is None else gigaflops * 1e9 * BACKWARD_AND_FORWARD * batch
        whole_s = transferred_s(seconds, floor_s=floor_s, flops=flops, source=here, target=there)
        yield Pair(workload, batch, target, source, true_s, floor_s, whole_s - floor_s)


def _between(curve: Curve, batch: float) -> float | None:
    sizes = list(curve)
    place = bisect_left(sizes, batch)
    if place < len(sizes) and sizes[place] == batch:
        return curve[batch]
    if not 0 < place < len(sizes):
        return None
    low, high = sizes[place - 1], sizes[place]
    return curve[low] + (curve[high] - curve[low]) * (batch - low) / (high - low)


def fitted(pairs: Iterable[Pair]) -> Factors:
    """Step factors that explain the ratios of measured to predicted: least absolute deviations of logarithms, shrunk to 1.

    Each network's curve on a pair of GPUs counts once, by its median over the points that are not host-bound.
    """
    ratios: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for p in pairs:
        if not p.workload.set_aside and p.floor_s < HOST_BOUND * (p.floor_s + p.above_s):
            ratio = p.true_s / (p.floor_s + p.above_s)
            ratios[p.workload.source, p.workload.network, p.source, p.target].append(math.log(ratio))
    models = sorted({model_of(name) for key in ratios for name in key[2:]})
    if not models:
        return {}
    column = {name: i for i, name in enumerate(models)}
    design = np.zeros((len(ratios), len(models)))
    for i, (_, _, source, target) in enumerate(ratios):
        design[i, column[model_of(target)]], design[i, column[model_of(source)]] = 1.0, -1.0
    wanted = np.array([median(rows) for rows in ratios.values()])
    weights, answer = np.ones(len(ratios)), np.zeros(len(models))
    for _ in range(40):  # iteratively reweighted least squares; the smallest deviation that counts is 10 %
        normal = design.T @ (design * weights[:, None]) + np.eye(len(models))
        answer = np.linalg.solve(normal, design.T @ (weights * wanted))
        weights = 1 / np.maximum(np.abs(wanted - design @ answer), 0.1) * 0.1
    return {name: math.exp(answer[i]) for name, i in column.items()}


def foretold(pairs: Iterable[Pair], factors: Factors) -> list[Point]:
    """Points from their pairs: those of all measured GPUs blended; devices without a factor have 1."""
    groups: dict[tuple[str, str, str, float], list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[pair.workload.source, pair.workload.network, pair.target, pair.batch].append(pair)
    points = []
    for rows in groups.values():
        first = rows[0]
        there = plain_rates(first.target, first.workload)
        estimates, floors = [], []
        for p in rows:
            here = plain_rates(p.source, p.workload)
            ratio = factors.get(model_of(p.target), 1.0) / factors.get(model_of(p.source), 1.0)
            estimates.append((p.floor_s + p.above_s * ratio, here))
            floors.append((p.floor_s, here))
        predicted_s = blended_s(estimates, there)
        host_share = min(1.0, blended_s(floors, there) / predicted_s)
        points.append(Point(first.workload, first.batch, first.target, first.true_s, predicted_s, host_share))
    return points


Group = Callable[[Pair], tuple[str, ...]]
"""What a pair is of: it is held out with all of one of these."""


def models_of(pair: Pair) -> tuple[str, ...]:
    """Both GPUs: a pair that involves a held-out one is of no use."""
    return model_of(pair.target), model_of(pair.source)


def family_of(pair: Pair) -> tuple[str, ...]:
    """The architecture."""
    return (pair.workload.family,)


def held_out(pairs: Sequence[Pair], group: Group) -> list[tuple[str, Point]]:
    """Each point with what it was held out with: the first that `group` says of it; factors come from pairs without it."""
    found: list[tuple[str, Point]] = []
    for name in sorted({group(pair)[0] for pair in pairs}):
        factors = fitted(pair for pair in pairs if name not in group(pair))
        found += [(name, point) for point in foretold([p for p in pairs if group(p)[0] == name], factors)]
    return found


def with_intervals(pairs: Sequence[Pair], group: Group) -> list[Point]:
    """The held-out points, each with the interval that a second holding out, within the rest of the data, gives it."""
    points = []
    for name in sorted({group(pair)[0] for pair in pairs}):
        rest = [pair for pair in pairs if name not in group(pair)]
        errors = [point for _, point in held_out(rest, group) if not point.workload.set_aside]
        widths = {bound: covering(p.miss for p in errors if p.host_bound == bound) for bound in (False, True)}
        factors = fitted(rest)
        mine = foretold([p for p in pairs if group(p)[0] == name], factors)
        points += [replace(point, spread=widths[point.host_bound]) for point in mine]
    return points


def covering(misses: Iterable[float]) -> float:
    """What 90 % of `misses` are below; NaN where there are none."""
    rows = list(misses)
    return float(np.quantile(rows, COVERED, method="higher")) if rows else math.nan


# --- what is written ----------------------------------------------------------------------------------------------------


def summary(points: Sequence[Point]) -> str:
    """A line of figures."""
    if not points:
        return "    0"
    errors = [abs(point.error) for point in points]
    covered = [point.miss <= point.spread for point in points if not math.isnan(point.spread)]
    inside = f"  in 90 % interval {fmean(covered):4.0%}" if covered else ""
    return (
        f"{len(points):5d}  mean {fmean(errors):6.1%}  median {median(errors):6.1%}  max {max(errors):6.1%}  "
        f"bias {fmean(point.error for point in points):+6.1%}{inside}"
    )


def table(title: str, points: Iterable[Point], key: Callable[[Point], str]) -> list[str]:
    """A line for each value of `key`."""
    groups: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        groups[key(point)].append(point)
    return ["", title, *(f"  {name:42} {summary(rows)}" for name, rows in sorted(groups.items()))]


def section(title: str, pairs: Sequence[Pair], group: Group) -> list[str]:
    """All that is written of one way to hold out."""
    points = with_intervals(pairs, group)
    main = [p for p in points if not p.workload.set_aside]
    bound = [p for p in main if p.host_bound]
    free = [p for p in main if not p.host_bound]
    lines = ["", f"== {title} ==", f"  {'device-bound points':42} {summary(free)}"]
    lines += [f"  {'host-bound points':42} {summary(bound)}", f"  {'both':42} {summary(main)}"]
    aside = [p for p in points if p.workload.set_aside]
    lines += [f"  {'networks set aside':42} {summary(aside)}"] if aside else []
    lines += table("device-bound, by source", free, lambda p: p.workload.source)
    lines += table("device-bound, by held-out GPU", free, lambda p: p.target)
    lines += table("device-bound, by network", free, lambda p: f"{p.workload.source}/{p.workload.network}")
    lines += table("set aside, all points", aside, lambda p: f"{p.workload.source}/{p.workload.network}")
    lines += pair_table(pairs, group)
    for bound_, name in ((False, "device-bound"), (True, "host-bound")):
        limit = covering(p.miss for p in main if p.host_bound == bound_)
        lines.append(
            f"  90 % of {name} points miss by less than {limit:.0%}, which is a spread of {limit * 1.96 / 1.645:.2f}"
        )
    return lines


def pair_table(pairs: Sequence[Pair], group: Group) -> list[str]:
    """Device-bound points by GPU measured and GPU predicted, without blending."""
    labelled: dict[str, list[Point]] = defaultdict(list)
    for name in sorted({group(pair)[0] for pair in pairs}):
        factors = fitted(pair for pair in pairs if name not in group(pair))
        by_label: dict[str, list[Pair]] = defaultdict(list)
        for p in pairs:
            if group(p)[0] == name and not p.workload.set_aside:
                by_label[f"{p.workload.source}: {p.source} > {p.target}"].append(p)
        for label, members in by_label.items():
            labelled[label] += [point for point in foretold(members, factors) if not point.host_bound]
    rows = [f"  {label:60} {summary(points)}" for label, points in sorted(labelled.items()) if points]
    return ["", "device-bound, by GPU measured and GPU predicted", *rows]


def agreement(data: Iterable[Workload]) -> list[str]:
    """How far sources differ about the same architecture on the same two GPUs: what no specification can tell.

    The ratio of the two GPUs at the largest common batch in one source foretells that in another.
    """
    ratios: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for w in data:
        names = sorted(w.curves)
        for a, b in ((a, b) for a in names for b in names if model_of(a) < model_of(b)):
            common = w.curves[a].keys() & w.curves[b].keys()
            if common and not w.set_aside:
                ratio = w.curves[a][max(common)] / w.curves[b][max(common)]
                ratios[w.family, model_of(a), model_of(b)][f"{w.source}/{w.network}"] = ratio
    lines, errors = [], []
    for (family, a, b), found in sorted(ratios.items()):
        others = [
            abs(one / other - 1)
            for x, one in found.items()
            for y, other in found.items()
            if x.split("/")[0] != y.split("/")[0]
        ]
        if others:
            errors += others
            shown = ", ".join(f"{name} {ratio:.2f}" for name, ratio in found.items())
            lines.append(f"  {family}, {a} over {b}: {shown}")
    title = "the same architecture on the same two GPUs in different sources: seconds on one over the other"
    last = (
        f"  one source foretells another's with a mean error of {fmean(errors):.1%}, median {median(errors):.1%}"
        if errors
        else ""
    )
    return ["", title, *lines, last]


def report() -> int:
    """Write all tables; the process's exit code."""
    folder = data_folder()
    if not folder.is_dir():
        sys.stderr.write(f"there is no published data in {folder}. Set {DATA_VARIABLE} to the folder that has it\n")
        return 2
    data = workloads(folder)
    pairs = pairs_of(data)
    lines = [f"{len(data)} networks on {len({name for w in data for name in w.curves})} GPUs, from {folder}"]
    lines += section("new device: nothing of the GPU was timed", pairs, models_of)
    lines += section("new network: the GPU is known from other networks", pairs, family_of)
    lines += agreement(data)
    lines += ["", "step factors fitted to all of it (in the catalogue of hetsim: in brackets)"]
    lines += [f"  {name}: {factor:.2f} ({STEP_FACTORS.get(name, math.nan):.2f})" for name, factor in fitted(pairs).items()]
    lines += [f"spreads in use, by (step factors known, host-bound): {dict(SPREADS)}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(report())
