"""Whether the parts of a step add up: the closing test over the zoo, unlike CPU device types and three batches.

`python -m benchmarks.closing_live` makes this machine one CPU device after the other (full, capped to AVX2, capped to SSE4.2; with
one thread and with two) and holds, for each network of the zoo and each batch, the sum of the separately timed parts of a step
against the untouched whole step, timed in alternation. Keep the machine quiet meanwhile; it takes some minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from calibration.coordinator import Effort
from calibration.points import Point
from hetsim.cli.progress import progress
from hetsim.cli.session import Session
from hetsim.scenario.local import usable_cores

BATCHES = (2, 8, 32)
TYPES = tuple((isa, threads) for threads in (1, 2) for isa in ("full", "avx2", "sse4.2"))

SCENARIO = """
hetsim: 1
name: closing-{name}
networks:
  mlp: {{zoo: mlp, width: 512, depth: 4}}
  vgg: {{zoo: vgg, image: 16}}
  resnet: {{zoo: resnet, image: 16}}
  gpt: {{zoo: gpt, depth: 3}}
  bert: {{zoo: bert, depth: 3}}
training: {{global_batch: 32, optimizer: sgd, momentum: 0.9}}
cluster:
  device_types:
    {name}: {{backend: cpu, isa: {isa}, threads: {threads}}}
  nodes:
    - {{name: here, devices: {{{name}: {{cores: [{cores}]}}}}}}
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One network on one device type at one batch."""

    network: str
    device_type: str
    batch: int
    parts_s: float
    whole_s: float

    @property
    def error(self) -> float:
        """Parts over whole, minus 1."""
        return self.parts_s / self.whole_s - 1


def measure(folder: Path, networks: Sequence[str] | None, budget_s: float, batches: Sequence[int]) -> Iterator[Case]:
    """All cases of the device types that this machine can be."""
    cores = usable_cores()
    for isa, threads in TYPES:
        if threads > len(cores):
            sys.stderr.write(f"{isa} with {threads} threads: this machine has {len(cores)} cores\n")
            continue
        name, session = calibrated(folder, isa, threads, networks, budget_s, batches)
        for spec in session.live:
            for test in session.calibration.measured(spec.name).closing:
                yield Case(spec.name, name, test.microbatch, test.parts_s, test.whole_s)


def calibrated(
    folder: Path, isa: str, threads: int, networks: Sequence[str] | None, budget_s: float, batches: Sequence[int]
) -> tuple[str, Session]:
    """One device type of that cap and so many threads, and a session that has its points; those in `folder` are kept."""
    name = f"{isa.replace('.', '')}-x{threads}"
    path = folder / f"{name}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(SCENARIO.format(name=name, isa=isa, threads=threads, cores=list(usable_cores()[:threads])))
    session = Session(path, networks, folder / "costs")
    points = {spec.name: [Point.of({name: batch}) for batch in batches] for spec in session.live}
    with progress(f"measuring {name}", quiet=False) as report:
        session.calibration.measure(points, Effort(budget_s=budget_s), report)
    return name, session


def text(cases: Sequence[Case]) -> str:
    """A line for each case, and the summary by network, by device type and over all."""
    lines = [f"{'network':8} {'device type':12} {'batch':>5} {'parts':>11} {'whole':>11} {'error':>7}"]
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.network].append(case)
        groups[case.device_type].append(case)
        lines.append(
            f"{case.network:8} {case.device_type:12} {case.batch:5d} {case.parts_s * 1e3:8.2f} ms {case.whole_s * 1e3:8.2f} ms "
            f"{case.error:+7.1%}"
        )
    lines.append("")
    lines += [_summary(name, rows) for name, rows in (*groups.items(), ("all", cases))]
    return "\n".join(lines) + "\n"


def _summary(name: str, cases: Iterable[Case]) -> str:
    errors = [abs(case.error) for case in cases]
    return f"{name:12} median {median(errors):5.1%}  worst {max(errors):5.1%}  of {len(errors)}"


def report() -> int:
    """Measure as the command line says, and write the cases; the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.closing_live", description=__doc__.split("\n\n")[0])
    parser.add_argument("--network", action="append", help="only this one; may be given several times")
    parser.add_argument(
        "--batch", action="append", type=int, help=f"instead of {', '.join(map(str, BATCHES))}; may be repeated"
    )
    parser.add_argument("--budget", type=float, default=4.0, help="seconds for each point (default 4)")
    parser.add_argument("--folder", type=Path, help="where to keep the samples, and to go on from; else a temporary one")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        cases = list(
            measure(arguments.folder or Path(folder), arguments.network, arguments.budget, arguments.batch or BATCHES)
        )
    sys.stdout.write(text(cases))
    return 0


if __name__ == "__main__":
    raise SystemExit(report())
