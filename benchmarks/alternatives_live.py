"""Is the plan that is found the best one can think of? `python -m benchmarks.alternatives_live`, on a quiet machine.

For each network of `scenarios/mixed_cpu.yaml`: the plan that the planner finds, beside ten that were picked by hand, all run for
real, their steps in alternation. A plan is called faster only where the 90 % interval of the median ratio, step by step, says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.matrix_live import cell
from hetsim.cli.calibrate import curve_points, measure
from hetsim.cli.planning import plan_network
from hetsim.cli.run import execute
from hetsim.cli.session import Session
from hetsim.plan import Plan

STEPS = 30

BY_HAND = {
    "conv": (
        "fast0[0:10] 48/1 | slow0[0:10] 16/1",
        "fast0[0:10] 50/1 | slow0[0:10] 14/1",
        "fast0[0:10] 56/1 | slow0[0:10] 8/1",
        "fast0[0:10] 58/1 | slow0[0:10] 6/1",
        "fast0[0:10] 60/1 | slow0[0:10] 4/1",
        "fast0[0:10] 64/1",
        "fast0[0:8] > slow0[8:10] 64/4; 1f1b",
        "fast0[0:8] > slow0[8:10] 64/8; 1f1b",
        "fast0[0:9] > slow0[9:10] 64/2; 1f1b",
        "fast0[0:7] > slow0[7:10] 64/8; gpipe",
    ),
    "gpt": (
        "fast0[0:10] 8/1 | slow0[0:10] 8/1",
        "fast0[0:10] 11/1 | slow0[0:10] 5/1",
        "fast0[0:10] 12/1 | slow0[0:10] 4/1",
        "fast0[0:10] 14/1 | slow0[0:10] 2/1",
        "fast0[0:10] 15/1 | slow0[0:10] 1/1",
        "fast0[0:10] 16/1",
        "fast0[0:10] 16/2",
        "fast0[0:8] > slow0[8:10] 16/4; 1f1b",
        "fast0[0:8] > slow0[8:10] 16/8; 1f1b",
        "slow0[0:2] > fast0[2:10] 16/8; gpipe",
    ),
}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", type=Path, default=Path("scenarios/mixed_cpu.yaml"))
    options = parser.parse_args()
    head = ("network", "plan", "predicted", "measured", "over the chosen one", "its 90 % interval")
    sys.stdout.write(f"| {' | '.join(head)} |\n{'|---' * len(head)}|\n")
    for name, by_hand in BY_HAND.items():
        session = Session(options.scenario, [name], Path("runs/costs"))
        measure(session, curve_points(session), 5.0, quiet=True)
        (spec,) = session.scenario.networks
        planned = plan_network(session, spec)
        chosen = planned.result.chosen.plan
        plans = {"chosen": chosen} | {text: Plan.parse(text) for text in by_hand if Plan.parse(text) != chosen}
        with TemporaryDirectory() as logs:
            runs = execute(session, spec, plans, STEPS, Path(logs), quiet=True)
        for plan, run in zip(plans.values(), runs, strict=True):
            predicted = f"{planned.predict(plan).step_s * 1e3:.0f} ms"
            cells = (name, cell(plan), predicted, f"{median(run.step_s) * 1e3:.0f} ms", *_over(run.step_s, runs[0].step_s))
            sys.stdout.write(f"| {' | '.join(cells)} |\n")
        sys.stdout.flush()
    return 0


def _over(steps_s: Sequence[float], chosen_s: Sequence[float]) -> tuple[str, str]:
    """The median ratio of steps that alternated, and its 90 % interval by resampling."""
    ratios = sorted(a / b for a, b in zip(steps_s, chosen_s, strict=True))
    spread = [median(np.random.default_rng(seed).choice(ratios, len(ratios))) for seed in range(500)]
    low, high = np.quantile(spread, (0.05, 0.95))
    return f"{median(ratios):.3f} ×", f"{low:.3f}–{high:.3f}"


if __name__ == "__main__":
    sys.exit(main())
