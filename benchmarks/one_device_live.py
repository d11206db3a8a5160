"""One device by itself, its batch in more and more microbatches: `python -m benchmarks.one_device_live`.

Each network is calibrated at its usual four microbatches and run with one, two, four and eight, the steps of all in alternation.
Nothing is sent: what is predicted is what the device computes. The machine's first GPU is taken, with `--local mixed-cpu` a core.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.matrix_live import cell
from benchmarks.publish import machine
from hetsim.cli.calibrate import curve_points, measure
from hetsim.cli.planning import plan_network
from hetsim.cli.run import execute
from hetsim.cli.session import Session
from hetsim.plan import Plan

STEPS = 20
MICROBATCHES = (1, 2, 4, 8)

SCENARIO = """
hetsim: 1
name: one-device-{local}
networks:
  cnn: {{zoo: resnet, image: 64, width: 64, levels: 4, depth: 2, global_batch: 256}}
  gpt: {{zoo: gpt, vocabulary: 8192, sequence: 512, width: 1024, depth: 12, heads: 16, global_batch: 32}}
  mlp: {{zoo: mlp, global_batch: 256}}
training: {{global_batch: 64, optimizer: sgd, learning_rate: 0.01, momentum: 0.9}}
cluster: {{local: {local}}}
measure: {{steps: {steps}, warmup_steps: 3}}
"""


def rows_of(name: str, scenario: Path, costs: Path, budget_s: float) -> Iterator[str]:
    """The rows of one network."""
    session = Session(scenario, [name], costs)
    measure(session, curve_points(session), budget_s, quiet=False)
    (spec,) = session.scenario.networks
    planned = plan_network(session, spec)
    device, layers = session.scenario.cluster.devices[0].name, len(session.chains[name].layers)
    texts = [f"{device}[0:{layers}] {spec.training.global_batch}/{count}" for count in MICROBATCHES]
    plans = {text: Plan.parse(text) for text in texts}
    with TemporaryDirectory() as logs:
        runs = execute(session, spec, plans, STEPS, Path(logs), quiet=False)
    for plan, run in zip(plans.values(), runs, strict=True):
        predicted_s, measured_s = planned.predict(plan).step_s, median(run.step_s)
        times = f"{predicted_s * 1e3:.1f} ms", f"{measured_s * 1e3:.1f} ms", f"{predicted_s / measured_s - 1:+.1%}"
        yield f"| {' | '.join((name, cell(plan), *times))} |"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--local", default="cuda", choices=("cuda", "mixed-cpu"), help="which devices (default cuda)")
    parser.add_argument("--network", action="append", help="only this one; may be given several times")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for a point of the calibration (default 2)")
    options = parser.parse_args()
    head = ("network", "plan", "predicted", "measured", "error")
    with TemporaryDirectory() as folder:
        scenario = Path(folder) / "scenario.yaml"
        scenario.write_text(SCENARIO.format(local=options.local, steps=STEPS))
        rows = [
            row
            for name in options.network or ("cnn", "gpt", "mlp")
            for row in rows_of(name, scenario, Path(folder) / "costs", options.budget)
        ]
    sys.stdout.write("\n".join([machine(), "", f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows, ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
