"""What recording every action costs: `python -m benchmarks.recording_live` runs plans with it and without, in alternation.

Without it only the updates are recorded, with which a step ends. Keep the machine quiet; it takes some minutes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.matrix_live import cell
from benchmarks.publish import add_option, machine, publish
from executor.job import RunRequest
from executor.launch import run
from hetsim.cli.session import Session
from hetsim.plan import Plan
from hetsim.scenario.types import Measure
from hetsim.units import format_seconds

STEPS = 60
PLANS = {
    "conv": ("fast0[0:10] 53/1 | slow0[0:10] 11/1", "fast0[0:7] > slow0[7:10] 64/8; 1f1b"),
    "gpt": ("fast0[0:10] 13/1 | slow0[0:10] 3/1", "fast0[0:8] > slow0[8:10] 16/8; gpipe"),
}


def main() -> int:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", type=Path, default=Path("scenarios/mixed_cpu.yaml"))
    add_option(parser)
    options = parser.parse_args()
    session = Session(options.scenario, None, Path("runs/costs"))
    lines = ["| network | plan | with | without | median of ratios |", "|---|---|---|---|---|"]
    for spec in session.scenario.networks:
        requests = [
            RunRequest(f"{text}{'' if recorded else ', unrecorded'}", Plan.parse(text), recorded)
            for text in PLANS[spec.name]
            for recorded in (True, False)
        ]
        chain, cluster = session.chains[spec.name], session.scenario.cluster
        with TemporaryDirectory() as logs:
            measure = Measure(steps=STEPS, lead_in_steps=1)
            found = run(requests, spec, chain, cluster, measure=measure, log_dir=Path(logs))
        for full, sparse in zip(found[::2], found[1::2], strict=True):
            # Step by step, so that a drift of the machine meets both.
            ratio = median(a / b for a, b in zip(full.step_s, sparse.step_s, strict=True))
            seconds = f"{format_seconds(full.median_s)} | {format_seconds(sparse.median_s)}"
            lines.append(f"| {spec.name} | {cell(full.plan)} | {seconds} | {ratio:.4f} |")
    text = "\n".join([*lines, ""])
    sys.stdout.write(text)
    publish(options.publish, "recording", f"{machine()}\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
