"""How well a batch curve through a few points tells the others: published step times of single GPUs, with points held out.

`python -m benchmarks.curves_public`; the folder of the data is $HETSIM_PUBLIC_DATA. Intervals of a network's points come from a fit
that has seen no network of its family, on any GPU, in any source. A curve knows nothing of its held-out points, and the kind of
interpolation has no constant to fit; which kind is best is shown source by source.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple
from itertools import pairwise
from statistics import fmean, median

import numpy as np

from benchmarks.curve_cases import FARTHEST, Case, Curves, between, beyond, family_of, fitted
from benchmarks.public_data import DATA_VARIABLE, data_folder, step_curves
from hetsim.costs.shape import PUBLISHED, Doubt

MEASURED = 4
"""Points by log scale, as a calibration has them."""

MAIN = "sia"
"""The source with most curves, shown one by one: T4, RTX 2080 Ti, Quadro RTX 6000, A100, and a GPU that is not named (azure)."""

Interpolation = Callable[[Case], Sequence[float]]


def proportional(case: Case) -> Sequence[float]:
    """So many samples a second, whatever the batch: as at the largest one."""
    return [case.seconds[-1] / case.sizes[-1] * size for size in case.held_sizes]


def straight_lines(case: Case) -> Sequence[float]:
    """Seconds, linear in the size."""
    return [float(s) for s in np.interp(case.held_sizes, case.sizes, case.seconds)]


def straight_logs(case: Case) -> Sequence[float]:
    """Logarithms of the seconds, linear in that of the size."""
    logs = np.interp(np.log(case.held_sizes), np.log(case.sizes), np.log(case.seconds))
    return [float(s) for s in np.exp(logs)]


def monotone_cubic(case: Case) -> Sequence[float]:
    """Fritsch and Carlson's, of seconds by size."""
    from scipy.interpolate import PchipInterpolator

    return [float(s) for s in PchipInterpolator(case.sizes, case.seconds)(case.held_sizes)]


def cubic_logs(case: Case) -> Sequence[float]:
    """The same on logarithms."""
    from scipy.interpolate import PchipInterpolator

    cubic = PchipInterpolator(np.log(case.sizes), np.log(case.seconds))
    return [float(s) for s in np.exp(cubic(np.log(case.held_sizes)))]


CANDIDATES: Mapping[str, Interpolation] = {
    "proportional": proportional,
    "straight lines": straight_lines,
    "straight lines, log-log": straight_logs,
    "monotone cubic": monotone_cubic,
    "monotone cubic, log-log": cubic_logs,
    "fixed + proportional, bent (hetsim)": lambda case: case.predicted_s,
}


def mean_error(
    cases: Iterable[Case], interpolation: Interpolation = CANDIDATES["fixed + proportional, bent (hetsim)"]
) -> float:
    """The mean over the curves of the mean absolute error of their held-out points."""
    return fmean(
        fmean(abs(p / y - 1) for p, y in zip(interpolation(case), case.held_seconds, strict=True)) for case in cases
    )


def doubts(curves: Curves) -> dict[str, Doubt]:
    """Family -> what is fitted to the curves of all other families."""
    return {
        family: fitted({key: curve for key, curve in curves.items() if family_of(key[1]) != family})
        for family in sorted({family_of(network) for _, network, _ in curves})
    }


# --- what is written ----------------------------------------------------------------------------------------------------


def choice(curves: Curves) -> list[str]:
    """A row for each kind of interpolation, a column for each source."""
    by_source: dict[str, list[Case]] = defaultdict(list)
    for case in between(curves, MEASURED):
        by_source[case.source].append(case)
    names = sorted(by_source)
    lines = ["", f"the kind of interpolation: mean error between {MEASURED} points"]
    lines.append(f"  {'':38}" + "".join(f"{name:>12}" for name in names))
    lines.append(f"  {'curves':38}" + "".join(f"{len(by_source[name]):12d}" for name in names))
    for title, interpolation in CANDIDATES.items():
        cells = (f"{mean_error(by_source[name], interpolation):12.1%}" for name in names)
        lines.append(f"  {title:38}" + "".join(cells))
    return lines


def summary(cases: Sequence[Case], fits: Mapping[str, Doubt]) -> str:
    """A line of figures. In the mean, and where it says so, curves count once each, whatever the number of their points."""
    errors = [abs(error) for case in cases for error in case.errors]
    inside = [case.inside(fits[case.family]) for case in cases]
    of_all = fmean(hit for hits in inside for hit in hits)
    return (
        f"{len(errors):5d} points  mean {mean_error(cases):6.1%}  median {median(errors):6.1%}  max {max(errors):6.1%}  "
        f"in 90 % interval {of_all:4.0%}"
    ) + (f", {fmean(map(fmean, inside)):4.0%} by curve" if len(cases) > 1 else "")


def interpolation_table(curves: Curves, fits: Mapping[str, Doubt]) -> list[str]:
    """A line for each curve of the main source, then the sums."""
    cases = between(curves, MEASURED)
    main = [case for case in cases if case.source == MAIN]
    lines = ["", f"between {MEASURED} points, {MAIN}: curve by curve"]
    lines += [f"  {case.network + ' on ' + case.gpu:28} {summary([case], fits)}" for case in main]
    worst = max(main, key=lambda case: mean_error([case]))
    lines += ["", f"between {MEASURED} points"]
    for source in sorted({case.source for case in cases}):
        lines.append(f"  {source:28} {summary([case for case in cases if case.source == source], fits)}")
    lines.append(f"  {'all':28} {summary(cases, fits)}")
    lines.append(
        f"  the worst curve of {MAIN} is {worst.network} on {worst.gpu}: mean {mean_error([worst]):.1%}; a mean without the two "
        f"of yolov3, whose steps rise and fall with the batch: {mean_error([c for c in main if c.network != 'yolov3']):.1%}"
    )
    for points in (2, 3, 5, 6, 8):
        lines.append(f"  {f'with {points} points, all':28} {summary(between(curves, points), fits)}")
    return lines


def extrapolation_table(curves: Curves, fits: Mapping[str, Doubt]) -> list[str]:
    """Held-out points beyond either end by how far."""
    lines = ["", f"beyond {MEASURED} points, by the factor in size"]
    for above, title in ((True, "above"), (False, "below")):
        cases = list(beyond(curves, MEASURED, above=above))
        for low, high in pairwise((1.0, 1.5, 2.0, 3.0, math.exp(FARTHEST))):
            errors, inside = [], []
            for case in cases:
                for error, hit, far in zip(case.errors, case.inside(fits[case.family]), case.distances, strict=True):
                    if low < math.exp(far) <= high + 1e-9:
                        errors.append(abs(error))
                        inside.append(hit)
            lines.append(
                f"  {f'{title}, {low:g} to {high:g} times':28} {len(errors):5d} points  mean {fmean(errors):6.1%}  "
                f"median {median(errors):6.1%}  in 90 % interval {fmean(inside):4.0%}"
            )
    return lines


def fit_table(curves: Curves) -> list[str]:
    """What all curves together come to, beside what is in use."""
    names = [field.replace("_", " ") for field in Doubt.__dataclass_fields__]
    pairs = zip(names, astuple(fitted(curves)), astuple(PUBLISHED), strict=True)
    return [
        "",
        "doubt fitted to all curves (in use: in brackets)",
        *(f"  {n}: {new:.2f} ({old:g})" for n, new, old in pairs),
    ]


def report() -> int:
    """Write all tables; the process's exit code."""
    folder = data_folder()
    if not folder.is_dir():
        sys.stderr.write(f"there is no published data in {folder}. Set {DATA_VARIABLE} to the folder that has it\n")
        return 2
    curves = step_curves(folder)
    fits = doubts(curves)
    lines = [f"{len(between(curves, MEASURED))} published curves of 7 points or more, from {folder}"]
    lines += [*choice(curves), *interpolation_table(curves, fits), *extrapolation_table(curves, fits), *fit_table(curves)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(report())
