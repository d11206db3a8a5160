"""How well costs carry over between this machine's own device types, of which one is taken as never measured.

`python -m benchmarks.transfer_live` times products of matrices and copies of memory on each of three CPU device types (full, capped
to AVX2, capped to SSE4.2; one thread), calibrates the zoo's networks on all of them, and then foretells every type from every other
one by these two rates alone. Keep the machine quiet meanwhile; it takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from benchmarks.closing_live import BATCHES, TYPES, calibrated
from hetsim.costs import PSEUDO_LAYERS, LayerCost
from hetsim.costs.transfer import transferred_layers
from hetsim.hardware import Device, DeviceType
from hetsim.hardware.binding import environment
from hetsim.hardware.rates import AchievedRates
from hetsim.scenario.local import usable_cores

RATES = """
import json, os, sys, time, torch
os.sched_setaffinity(0, {int(sys.argv[1])})
torch.set_num_threads(1)

def fastest_s(work):
    times = []
    for _ in range(30):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 4]

a = torch.randn(512, 512)
product = torch.empty_like(a)
source = torch.randn(1 << 24)
target = torch.empty_like(source)
flops = 2 * 512**3 / fastest_s(lambda: torch.mm(a, a, out=product))
moved = 2 * source.nbytes / fastest_s(lambda: target.copy_(source))
print(json.dumps([flops, moved]))
"""
"""What a process of the device type prints: floating point operations and bytes a second."""


@dataclass(frozen=True, slots=True)
class Case:
    """Forward and backward of a network on a device type taken as never measured."""

    network: str
    source: str
    target: str
    batch: int
    foretold_s: float
    measured_s: float

    @property
    def error(self) -> float:
        """Foretold over measured, minus 1."""
        return self.foretold_s / self.measured_s - 1


def rates_here(name: str, isa: str) -> AchievedRates:
    """What a core of this machine achieves under the cap."""
    core = usable_cores()[0]
    kind = DeviceType(name, "cpu", isa=isa)  # type: ignore[arg-type]
    variables = {**os.environ, **environment(Device(name, name, "here", cores=(core,)), kind)}
    done = subprocess.run(
        [sys.executable, "-c", RATES, str(core)], env=variables, capture_output=True, text=True, check=True, timeout=120
    )
    flops_per_s, bytes_per_s = json.loads(done.stdout)
    return AchievedRates(name, flops_per_s, bytes_per_s)


def measure(folder: Path, networks: Sequence[str] | None, budget_s: float, batches: Sequence[int]) -> Iterator[Case]:
    """Every network and batch on every type, foretold from each other type."""
    rates, sessions = {}, {}
    for isa, threads in TYPES:
        if threads == 1:
            name, session = calibrated(folder, isa, threads, networks, budget_s, batches)
            rates[name], sessions[name] = rates_here(name, isa), session
            sys.stderr.write(
                f"{name}: {rates[name].flops_per_s / 1e9:.1f} GFLOP/s, {rates[name].bytes_per_s / 1e9:.1f} GB/s\n"
            )
    for source, target in permutations(sessions, 2):
        for spec in sessions[source].live:
            known = sessions[source].calibration.measured(spec.name).table
            true = sessions[target].calibration.measured(spec.name).table
            chain = sessions[source].chains[spec.name]
            foretold = _sums(transferred_layers(known, chain, {source: rates[source]}, target, rates[target]))
            for batch, measured_s in _sums(true.layers).items():
                yield Case(spec.name, source, target, batch, foretold[batch], measured_s)


def _sums(rows: Sequence[LayerCost]) -> dict[int, float]:
    """Batch -> forward and backward of the whole network."""
    sums: dict[int, float] = defaultdict(float)
    for row in rows:
        if row.layer not in PSEUDO_LAYERS:
            sums[row.microbatch] += row.forward_s + row.backward_s
    return sums


def text(cases: Sequence[Case]) -> str:
    """A line for each case, and the means by pair of types, by network and over all."""
    lines = [f"{'network':8} {'from':10} {'to':10} {'batch':>5} {'foretold':>11} {'measured':>11} {'error':>7}"]
    groups: dict[str, list[Case]] = defaultdict(list)
    for c in cases:
        groups[f"{c.source} to {c.target}"].append(c)
        groups[c.network].append(c)
        times = f"{c.foretold_s * 1e3:8.2f} ms {c.measured_s * 1e3:8.2f} ms"
        lines.append(f"{c.network:8} {c.source:10} {c.target:10} {c.batch:5d} {times} {c.error:+7.1%}")
    lines.append("")
    for name, rows in (*groups.items(), ("all", cases)):
        errors = [abs(row.error) for row in rows]
        lines.append(f"{name:24} mean {fmean(errors):6.1%}  worst {max(errors):6.1%}  of {len(errors)}")
    return "\n".join(lines) + "\n"


def report() -> int:
    """Measure as the command line says, and write the cases; the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer_live", description=__doc__.split("\n\n")[0])
    parser.add_argument("--network", action="append", help="only this one; may be given several times")
    parser.add_argument(
        "--batch", action="append", type=int, help=f"instead of {', '.join(map(str, BATCHES))}; may be repeated"
    )
    parser.add_argument("--budget", type=float, default=4.0, help="seconds for each point (default 4)")
    parser.add_argument(
        "--folder", type=Path, help="where to keep the samples, and to go on from: may be that of closing_live"
    )
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        kept = arguments.folder or Path(folder)
        cases = list(measure(kept, arguments.network, arguments.budget, arguments.batch or BATCHES))
    sys.stdout.write(text(cases))
    return 0


if __name__ == "__main__":
    raise SystemExit(report())
