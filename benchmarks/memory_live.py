"""Predicted and measured peak memory of plans on this machine, each run alone: `make accuracy-live`.

On a CPU what is measured is the most that the whole process has held; on an accelerator what torch has allocated, with which the
prediction without the context is compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from hetsim.cli.planning import plan_network, to_run
from hetsim.cli.run import execute
from hetsim.cli.session import Session
from hetsim.memory import memory_use
from hetsim.units import format_bytes

STEPS = 3


@dataclass(frozen=True, slots=True)
class Case:
    """One device of one plan."""

    network: str
    plan: str
    device: str
    predicted_bytes: int
    measured_bytes: int

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted_bytes / self.measured_bytes - 1


def cases(session: Session) -> list[Case]:
    """Every plan that a validation would run, each in processes of its own."""
    rows = []
    for spec in session.scenario.networks:
        planned = plan_network(session, spec)
        for label, candidate in to_run(planned.result).items():
            with TemporaryDirectory() as logs:
                alone = {label: candidate.plan}
                (measurement,) = execute(session, spec, alone, STEPS, Path(logs), quiet=True)
            for use in memory_use(candidate.plan, planned.costs, spec.training):
                on_host = session.scenario.cluster.type_of(use.device).backend == "cpu"
                predicted = use.peak_bytes if on_host else use.held_bytes
                measured = measurement.peak_bytes[use.device]
                rows.append(Case(spec.name, str(candidate.plan), use.device, predicted, measured))
    return rows


def table(rows: Sequence[Case]) -> str:
    """The cases and their errors, as Markdown."""
    lines = ["| network | plan | device | measured | predicted | error |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {c.network} | `{c.plan}` | {c.device} | {format_bytes(c.measured_bytes)} | {format_bytes(c.predicted_bytes)} "
        f"| {c.error:+.1%} |"
        for c in rows
    ]
    errors = [abs(c.error) for c in rows]
    return "\n".join([*lines, "", f"{len(rows)} cases, median error {median(errors):.1%}, largest {max(errors):.1%}", ""])


def main() -> int:
    """Print the table, from the costs that were measured for the scenario."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", type=Path, default=Path("scenarios/mixed_cpu.yaml"))
    parser.add_argument("--costs", type=Path, default=Path("runs/costs"))
    options = parser.parse_args()
    session = Session(options.scenario, None, options.costs)
    sys.stdout.write(table(cases(session)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
