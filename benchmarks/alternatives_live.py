"""Is the plan that is found the best one can think of? `python -m benchmarks.alternatives_live`, on a quiet machine.

For each network of `scenarios/mixed_cpu.yaml`: the plan that the planner finds, beside ten that were picked by hand, all run for
real, their steps in alternation. A plan is called faster only where the 90 % interval of the median ratio, step by step, says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.matrix_live import cell
from benchmarks.publish import add_option, machine, publish
from hetsim.cli.calibrate import curve_points, measure
from hetsim.cli.planning import Planned, plan_network
from hetsim.cli.run import execute
from hetsim.cli.session import Session
from hetsim.plan import Plan
from hetsim.scenario.types import NetworkSpec

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


def planned_as_measured(session: Session, spec: NetworkSpec, budget_s: float) -> Planned:
    """The plan that is found once its very shares have been measured, as `hetsim validate` goes about it."""
    from calibration.points import plan_points

    planned = plan_network(session, spec)
    for _ in range(3):
        points = {spec.name: list(plan_points([planned.result.chosen.plan], session.scenario.cluster))}
        if not session.calibration.missing(points):
            break
        measure(session, points, budget_s, quiet=False)
        planned = plan_network(session, spec)
    return planned


def rows_of(name: str, scenario: Path, budget_s: float) -> Iterator[str]:
    """The rows of one network."""
    session = Session(scenario, [name], Path("runs/alternatives/costs"))
    measure(session, curve_points(session), budget_s, quiet=False)
    (spec,) = session.scenario.networks
    planned = planned_as_measured(session, spec, budget_s)
    chosen = planned.result.chosen.plan
    plans = {"chosen": chosen} | {text: Plan.parse(text) for text in BY_HAND[name] if Plan.parse(text) != chosen}
    predictions = [planned.predict(plan) for plan in plans.values()]
    with TemporaryDirectory() as logs:
        runs = execute(session, spec, plans, STEPS, Path(logs), quiet=False)
    for plan, prediction, run in zip(plans.values(), predictions, runs, strict=True):
        times = f"{prediction.step_s * 1e3:.0f} ms", f"{median(run.step_s) * 1e3:.0f} ms"
        yield f"| {' | '.join((name, cell(plan), *times, *_over(run.step_s, runs[0].step_s)))} |"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", type=Path, default=Path("scenarios/mixed_cpu.yaml"))
    parser.add_argument("--budget", type=float, default=4.0, help="seconds for a point of the calibration")
    add_option(parser)
    options = parser.parse_args()
    head = ("network", "plan", "predicted", "measured", "over the chosen one", "its 90 % interval")
    rows = [row for name in BY_HAND for row in rows_of(name, options.scenario, options.budget)]
    table = "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows, ""])
    sys.stdout.write(table)
    publish(options.publish, "alternatives", f"{machine()}\n\n{table}")
    return 0


def _over(steps_s: Sequence[float], chosen_s: Sequence[float]) -> tuple[str, str]:
    """The median ratio of steps that alternated, and its 90 % interval by resampling."""
    ratios = sorted(a / b for a, b in zip(steps_s, chosen_s, strict=True))
    spread = [median(np.random.default_rng(seed).choice(ratios, len(ratios))) for seed in range(500)]
    low, high = np.quantile(spread, (0.05, 0.95))
    return f"{median(ratios):.3f} ×", f"{low:.3f}–{high:.3f}"


if __name__ == "__main__":
    sys.exit(main())
