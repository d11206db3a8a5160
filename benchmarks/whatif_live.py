"""Add the slow device, or retire it: predicted, then run both ways. `python -m benchmarks.whatif_live`, on a quiet machine.

For each network of the scenario: the best plan of the whole cluster, and the best plan without its slow devices. Both are run for
real, their steps in alternation; the gain that was predicted stands beside the one that was measured.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.matrix_live import cell
from hetsim.cli.calibrate import curve_points, measure
from hetsim.cli.run import execute
from hetsim.cli.session import Session
from hetsim.cli.whatif import estimator_of
from hetsim.plan import Plan
from hetsim.study.edits import Variant, edited
from hetsim.study.estimate import change

STEPS = 30


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", type=Path, default=Path("scenarios/mixed_cpu.yaml"))
    parser.add_argument("--retire", default="slow", help="the device type that is retired")
    options = parser.parse_args()
    head = ("network", "with it", "without it", "gain predicted", "90 % interval", "gain measured", "its 90 % interval")
    sys.stdout.write(f"| {' | '.join(head)} |\n{'|---' * len(head)}|\n")
    names = [spec.name for spec in Session(options.scenario, None, Path("runs/costs")).scenario.networks]
    for name in names:
        session = Session(options.scenario, [name], Path("runs/costs"))
        measure(session, curve_points(session), 5.0, quiet=True)
        estimator, cluster = estimator_of(session), session.scenario.cluster
        edits = [f"retire {device.name}" for device in cluster.devices if device.type == options.retire]
        whole = estimator.estimate(Variant("as it is", cluster))
        without = estimator.estimate(edited(cluster, edits))
        gain, low, high = change(without, whole)
        plans = {"with": Plan.parse(whole.answers[0].plan), "without": Plan.parse(without.answers[0].plan)}
        with TemporaryDirectory() as logs:
            both, alone = execute(session, session.scenario.networks[0], plans, STEPS, Path(logs), quiet=True)
        ratios = sorted(b / a - 1 for a, b in zip(both.step_s, alone.step_s, strict=True))
        spread = [median(np.random.default_rng(seed).choice(ratios, len(ratios))) for seed in range(500)]
        cells = (
            name,
            cell(plans["with"]),
            cell(plans["without"]),
            f"{gain:+.1%}",
            f"{low:+.1%} to {high:+.1%}",
            f"{median(ratios):+.1%}",
            f"{np.quantile(spread, 0.05):+.1%} to {np.quantile(spread, 0.95):+.1%}",
        )
        sys.stdout.write(f"| {' | '.join(cells)} |\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
