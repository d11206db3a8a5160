"""How well this machine's own batch curves tell the microbatches between their points.

`python -m benchmarks.curves_live [SCENARIO]` measures, for each network of the scenario, the points of its batch curves and four
more microbatches between them, on every device type; then holds the sum over the chain that the curves through the former give
for the latter against what was measured. Keep the machine quiet meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from benchmarks.curve_cases import TO_90
from calibration.coordinator import Effort
from calibration.points import Point, curve_microbatches
from hetsim.cli.progress import progress
from hetsim.cli.session import Session
from hetsim.costs import CostTable, LayerCost
from hetsim.costs.curve import Curve, CurvePoint
from hetsim.costs.shape import distance

HELD_OUT = 4


@dataclass(frozen=True, slots=True)
class Comparison:
    """Forward and backward of the whole chain and the loss at one microbatch that the curves have not seen."""

    network: str
    device_type: str
    microbatch: int
    predicted_s: float
    spread: float
    """Half the 95 % interval of `predicted_s`, relative: all layers are taken to stray together."""

    measured_s: float

    @property
    def error(self) -> float:
        """Predicted over measured, minus 1."""
        return self.predicted_s / self.measured_s - 1

    @property
    def inside(self) -> bool:
        """Whether the measured time is in the 90 % interval."""
        return abs(self.measured_s / self.predicted_s - 1) <= TO_90 * self.spread


def held_out_microbatches(measured: Iterable[int], count: int = HELD_OUT) -> list[int]:
    """So many sizes between the smallest and the largest of `measured`, each as far by log scale from all others as can be.

    Fewer where there are not so many whole numbers between them.
    """
    taken = sorted(measured)
    free = set(range(taken[0], taken[-1])) - set(taken)
    held: list[int] = []
    while free and len(held) < count:
        best = max(sorted(free), key=lambda size: min(distance(size, other) for other in taken))
        held.append(best)
        taken.append(best)
        free.remove(best)
    return sorted(held)


def compare(table: CostTable, measured: Iterable[int]) -> list[Comparison]:
    """What curves through the microbatches `measured` say of all others that are between them and in the table, layer by layer."""
    known = set(measured)
    layers: dict[tuple[str, str], list[LayerCost]] = defaultdict(list)
    for row in table.layers:
        if row.in_flight == 1 and row.tensor_parallel == 1 and row.forward_s + row.backward_s > 0:
            layers[row.device_type, row.layer].append(row)
    sums: dict[tuple[str, int], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for (device_type, _), rows in layers.items():
        for field in ("forward_s", "backward_s"):
            curve = Curve.through(
                CurvePoint(r.microbatch, getattr(r, field), r.spread) for r in rows if r.microbatch in known
            )
            for row in rows:
                if row.microbatch not in known and min(known) < row.microbatch < max(known):
                    estimate = curve.at(row.microbatch)
                    total = sums[device_type, row.microbatch]
                    total[0] += estimate.seconds
                    total[1] += estimate.seconds * estimate.spread
                    total[2] += getattr(row, field)
    return [
        Comparison(table.network, device_type, size, predicted_s, weighted_s / predicted_s, measured_s)
        for (device_type, size), (predicted_s, weighted_s, measured_s) in sorted(sums.items())
    ]


def text(comparisons: Sequence[Comparison]) -> str:
    """A line for each comparison, and the sums by network and device type."""
    groups: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    lines = [
        f"{'network':12} {'device type':16} {'microbatch':>10} {'curve':>11} {'measured':>11} {'error':>7}  in 90 % interval"
    ]
    for c in comparisons:
        groups[c.network, c.device_type].append(c)
        lines.append(
            f"{c.network:12} {c.device_type:16} {c.microbatch:10d} {c.predicted_s * 1e3:8.2f} ms {c.measured_s * 1e3:8.2f} ms "
            f"{c.error:+7.1%}  {'yes' if c.inside else 'no'} (± {TO_90 * c.spread:.1%})"
        )
    lines.append("")
    for (network, device_type), rows in [*groups.items(), (("all", ""), comparisons)]:
        errors = [abs(row.error) for row in rows]
        lines.append(
            f"{network:12} {device_type:16} mean {fmean(errors):6.1%}  worst {max(errors):6.1%}  "
            f"in 90 % interval {sum(row.inside for row in rows)} of {len(rows)}"
        )
    return "\n".join(lines) + "\n"


def measure(scenario: Path, networks: Sequence[str] | None, costs: Path, budget_s: float) -> list[Comparison]:
    """The comparisons of all live networks; what lies in `costs` already is not measured again."""
    session = Session(scenario, networks, costs)
    kinds = [kind.name for kind in session.scenario.cluster.used_types]
    curves = {spec.name: curve_microbatches(spec, session.scenario.search) for spec in session.live}
    # All in one go, in shuffled order, so that a drift of the machine is no difference between points and held-out ones.
    points = {
        name: [Point.of(dict.fromkeys(kinds, size)) for size in (*sizes, *held_out_microbatches(sizes))]
        for name, sizes in curves.items()
    }
    with progress("measuring", quiet=False) as report:
        session.calibration.measure(points, Effort(budget_s=budget_s), report)
    found = []
    for name, sizes in curves.items():
        table = session.calibration.measured(name).table
        held = {*sizes, *held_out_microbatches(sizes)}
        mine = replace(table, layers=tuple(row for row in table.layers if row.microbatch in held))
        found += compare(mine, sizes)
    return found


def report() -> int:
    """Measure as the command line says, and write the comparison; the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves_live", description=__doc__.split("\n\n")[0])
    parser.add_argument("scenario", nargs="?", type=Path, default=Path("scenarios/mixed_cpu.yaml"))
    parser.add_argument("--network", action="append", help="only this one; may be given several times")
    parser.add_argument("--budget", type=float, default=5.0, help="seconds for each point (default 5)")
    parser.add_argument("--costs", type=Path, help="folder to keep the samples in, and to go on from; else a temporary one")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = measure(arguments.scenario, arguments.network, arguments.costs or Path(folder), arguments.budget)
    if not found:
        sys.stderr.write(
            "nothing was measured: no network of the scenario is live, or no microbatch lies between its points\n"
        )
        return 2
    sys.stdout.write(text(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(report())
