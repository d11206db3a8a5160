"""How well predictions hold across two hosts, over links of unlike bandwidth: `python -m benchmarks.hosts_live`.

The hosts are network namespaces of this machine, a full core in one and a capped core in the other; `tc tbf` limits the link
between them. For each bandwidth `hetsim validate` calibrates, plans, writes its predictions down, runs the plans and compares. It
prints Markdown. Needs root, ip and tc; keep the machine quiet, it takes a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.matrix_live import cell
from benchmarks.namespaces import Hosts
from benchmarks.publish import add_option, machine, publish
from hetsim.errors import RunError
from hetsim.files import write_text
from hetsim.scenario.local import usable_cores
from hetsim.units import format_seconds

RATES = {"1gbit": "1 Gbit/s", "200mbit": "200 Mbit/s"}
"""A bandwidth as tc writes it -> as people do."""

STEPS = 30

SCENARIO = """
hetsim: 1
name: two-hosts-{rate}
networks:
  conv: {{zoo: vgg, image: 16, width: 64, levels: 2, depth: 4}}
  gpt: {{zoo: gpt, vocabulary: 512, sequence: 128, width: 128, depth: 8, heads: 4, global_batch: 16}}
training: {{global_batch: 64, optimizer: sgd, learning_rate: 0.01, momentum: 0.9}}
cluster:
  device_types:
    full: {{backend: cpu, memory: 4 GiB}}
    capped: {{backend: cpu, memory: 4 GiB, isa: sse4.2}}
  nodes:
{nodes}
  network: {{latency: 100 us, bandwidth: {bandwidth}}}
"""

Case = Mapping[str, Any]
"""A case of a validation's result, as docs/formats.md has it."""


def validate(rate: str, folder: Path, budget_s: float) -> list[Case]:
    """The cases of two hosts with `rate` between them. Raises RunError where the command fails."""
    one, other = usable_cores()[:2]
    devices = (f"{{full: {{cores: [[{one}]]}}}}", f"{{capped: {{cores: [[{other}]]}}}}")
    path = folder.resolve() / f"{rate}.yaml"
    with Hosts([rate, rate]) as hosts:
        write_text(path, SCENARIO.format(rate=rate, nodes=hosts.nodes(devices), bandwidth=RATES[rate]))
        options = ["--steps", STEPS, "--budget", budget_s, "--runs", path.parent / "runs", "--format", "json", "-q"]
        done = hosts.hetsim(Path.cwd(), "validate", path, "--costs", path.parent / "costs", *options, timeout=3600)
    if done.returncode:
        raise RunError(f"hetsim validate ended with exit code {done.returncode}: {done.stderr.strip()}")
    write_text(path.with_suffix(".json"), done.stdout)
    return list(json.loads(done.stdout)["cases"])


def report(found: Mapping[str, Sequence[Case]]) -> str:
    """Everything as Markdown; `found`: rate -> its cases."""
    lines = ["| link | cases | median error | largest | in the 90 % interval | chosen is the fastest |", "|" + "---|" * 6]
    for rate, cases in found.items():
        errors = sorted(abs(case["error"]) for case in cases)
        inside = sum(case["inside_interval"] for case in cases) / len(cases)
        best = sum(_is_fastest(case, cases) for case in cases if case["chosen"])
        networks = len({case["network"] for case in cases})
        figures = f"{statistics.median(errors):.1%} | {errors[-1]:.1%} | {inside:.0%} | {best} of {networks}"
        lines.append(f"| {RATES[rate]} | {len(cases)} | {figures} |")
    lines += ["", "| link | network | chosen | plan | predicted | measured | error | in interval |", "|" + "---|" * 8]
    for rate, cases in found.items():
        for case in cases:
            times = f"{format_seconds(case['predicted_step_s'])} | {format_seconds(case['measured_step_s'])}"
            verdict = f"{case['error']:+.1%} | {'yes' if case['inside_interval'] else 'no'}"
            chosen = "yes" if case["chosen"] else ""
            lines.append(f"| {RATES[rate]} | {case['network']} | {chosen} | {cell(case['plan'])} | {times} | {verdict} |")
    return "\n".join([*lines, ""])


def _is_fastest(case: Case, cases: Sequence[Case]) -> bool:
    return bool(case["measured_step_s"] <= min(c["measured_step_s"] for c in cases if c["network"] == case["network"]))


def main() -> int:
    """Validate over each link, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/hosts"), help="where costs, runs and results go")
    parser.add_argument("--budget", type=float, default=4.0, help="seconds for a point of the calibration")
    parser.add_argument(
        "--only", nargs="*", choices=list(RATES), help="only these links; of the others, what is in the folder"
    )
    add_option(parser)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for rate in options.only or RATES:
        validate(rate, options.folder, options.budget)
    files = {rate: options.folder / f"{rate}.json" for rate in RATES}
    found = {rate: json.loads(file.read_text())["cases"] for rate, file in files.items() if file.exists()}
    sys.stdout.write(report(found))
    publish(options.publish, "hosts", f"{machine()}\n\n{report(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
