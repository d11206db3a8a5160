"""How far two calibrations of one scenario differ, as they are and after the canary has taken out the machine's speed.

hetsim calibrate scenarios/mixed_cpu.yaml --costs first      # and an hour or a reboot later
hetsim calibrate scenarios/mixed_cpu.yaml --costs second
python -m benchmarks.repeat_live first/mixed-cpu second/mixed-cpu
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from hetsim.costs import CANARY, PSEUDO_LAYERS, CostTable
from hetsim.costs.files import TRANSFERS_FILE, read_cost_table

Key = tuple[str, int, int]
"""Device type, microbatch, microbatches in flight."""


@dataclass(frozen=True, slots=True)
class Case:
    """Forward and backward of a whole network at one point, in two calibrations."""

    network: str
    device_type: str
    microbatch: int
    in_flight: int
    first_s: float
    second_s: float
    speed: float
    """Canary of the second calibration over that of the first."""

    @property
    def difference(self) -> float:
        """Second over first, minus 1."""
        return self.second_s / self.first_s - 1

    @property
    def corrected(self) -> float:
        """The same at one speed of the machine."""
        return self.second_s / self.speed / self.first_s - 1


def compare(first: CostTable, second: CostTable) -> Iterator[Case]:
    """The points that both tables have, in the order of the first."""
    later, now = _sums(second), _canaries(second)
    then = _canaries(first)
    for key, first_s in _sums(first).items():
        kind, microbatch, in_flight = key
        if key in later:
            yield Case(first.network, kind, microbatch, in_flight, first_s, later[key], now[kind] / then[kind])


def _sums(table: CostTable) -> dict[Key, float]:
    sums: dict[Key, float] = defaultdict(float)
    for row in table.layers:
        if row.layer not in PSEUDO_LAYERS:
            sums[row.device_type, row.microbatch, row.in_flight] += row.forward_s + row.backward_s
    return sums


def _canaries(table: CostTable) -> dict[str, float]:
    return {row.device_type: row.forward_s for row in table.layers if row.layer == CANARY}


def text(cases: Sequence[Case]) -> str:
    """A line for each case, and the medians."""
    lines = [
        f"{'network':8} {'device type':12} {'size':>5} {'in flight':>9} {'first':>11} {'second':>11} {'differ':>7}  at one speed"
    ]
    for c in cases:
        where = f"{c.network:8} {c.device_type:12} {c.microbatch:5d} {c.in_flight:9d}"
        times = f"{c.first_s * 1e3:8.2f} ms {c.second_s * 1e3:8.2f} ms"
        lines.append(f"{where} {times} {c.difference:+7.1%}  {c.corrected:+7.1%}")
    for name, values in (("as they are", [c.difference for c in cases]), ("at one speed", [c.corrected for c in cases])):
        sizes = [abs(value) for value in values]
        lines.append(f"{name:12} median {median(sizes):5.1%}  worst {max(sizes):5.1%}  of {len(sizes)}")
    return "\n".join(lines) + "\n"


def report() -> int:
    """Compare the folders that the command line names; the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repeat_live", description=__doc__.split("\n\n")[0])
    parser.add_argument("first", type=Path, help="folder of cost tables")
    parser.add_argument("second", type=Path, help="folder of cost tables")
    arguments = parser.parse_args()
    names = sorted(path.stem for path in arguments.first.glob("*.csv") if path.name != TRANSFERS_FILE)
    tables = [(read_cost_table(arguments.first, name), read_cost_table(arguments.second, name)) for name in names]
    cases = [case for pair in tables for case in compare(*pair)]
    if not cases:
        sys.stderr.write("the folders have no point of a network in common\n")
        return 2
    sys.stdout.write(text(cases))
    return 0


if __name__ == "__main__":
    raise SystemExit(report())
