"""How well predictions hold on real runs: four networks on mixed processor cores of this machine, split in every way.

`python -m benchmarks.matrix_live` calibrates, plans, writes all predictions down, runs the plans for real with their steps in
alternation, and then runs them once more for a few steps: two measurements of one case against each other are the floor, below
which no prediction can be trusted. It prints Markdown and writes `cases.csv` and figures. With `--only` and `--networks` it
measures a part and keeps the other parts of an earlier start. Keep the machine quiet: all of it takes three quarters of an hour.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from scipy.stats import spearmanr

from benchmarks.publish import add_option, machine, publish
from hetsim.attribution import causes
from hetsim.cli.calibrate import curve_points, measure
from hetsim.cli.output import talk
from hetsim.cli.planning import Planned, plan_network
from hetsim.cli.predict import predictions_document
from hetsim.cli.run import execute
from hetsim.cli.session import Session
from hetsim.errors import InfeasibleError
from hetsim.files import write_text
from hetsim.measurement import Measurement
from hetsim.plan import Plan
from hetsim.report import figures as f
from hetsim.report.rows import EVEN_SPLIT
from hetsim.scenario.local import usable_cores
from hetsim.scenario.types import NetworkSpec, Search
from hetsim.simulator import Prediction
from hetsim.units import format_seconds

STEPS, AGAIN_STEPS = 30, 7
PAIRS = {"sse": "sse4.2", "avx2": "avx2"}
"""Name of a pair -> the cap on the second core; the first has all that the processor has."""

SCENARIO = """
hetsim: 1
name: matrix-{name}
networks:
  mlp: {{zoo: mlp, width: 768, depth: 8, global_batch: 256}}
  conv: {{zoo: vgg, image: 16, width: 64, levels: 2, depth: 4}}
  gpt: {{zoo: gpt, vocabulary: 512, sequence: 128, width: 128, depth: 8, heads: 4, global_batch: 16}}
  bert: {{zoo: bert, vocabulary: 512, sequence: 128, width: 128, depth: 8, heads: 4, global_batch: 16}}
training: {{global_batch: 64, optimizer: sgd, learning_rate: 0.01, momentum: 0.9}}
cluster:
  device_types:
    full: {{backend: cpu, memory: 4 GiB}}
    capped: {{backend: cpu, memory: 4 GiB, isa: {isa}}}
  nodes:
    - name: here
      devices: {{full: {{cores: {full}}}, capped: {{cores: {capped}}}}}
      link: {{latency: 50 us, bandwidth: 2 GB/s}}
"""

CROWDED = {
    "3 devices on 2 cores": ([0], [1, 0]),
    "4 devices on 2 cores": ([0, 1], [0, 1]),
}
"""Which of the two cores the full and the capped devices sit on."""

CROWDED_PLANS = {
    ("3 devices on 2 cores", "conv"): (
        "full0[0:10] 40/1 | capped0[0:10] 16/1 | capped1[0:10] 8/1",
        "full0[0:7] > capped0[7:10] 48/4 | capped1[0:10] 16/2; 1f1b",
    ),
    ("3 devices on 2 cores", "gpt"): (
        "full0[0:10] 10/1 | capped0[0:10] 4/1 | capped1[0:10] 2/1",
        "full0[0:7] > capped0[7:10] 12/4 | capped1[0:10] 4/2; 1f1b",
    ),
    ("4 devices on 2 cores", "conv"): (
        "full0[0:10] 24/1 | full1[0:10] 24/1 | capped0[0:10] 8/1 | capped1[0:10] 8/1",
        "full0[0:7] > capped1[7:10] 40/4 | full1[0:8] > capped0[8:10] 24/4; 1f1b",
    ),
    ("4 devices on 2 cores", "gpt"): (
        "full0[0:10] 6/1 | full1[0:10] 6/1 | capped0[0:10] 2/1 | capped1[0:10] 2/1",
        "full0[0:7] > capped1[7:10] 8/4 | full1[0:8] > capped0[8:10] 8/4; 1f1b",
    ),
}
"""Plans that share cores, by network; the second of each is a hybrid whose replicas are cut at different layers."""


@dataclass(frozen=True, slots=True)
class Case:
    """One plan that was predicted, run, and run again."""

    cluster: str
    network: str
    kind: str
    plan: str
    predicted_s: float
    low_s: float
    high_s: float
    measured_s: float
    again_s: float
    """The median of the second, shorter measurement."""

    at_run_speed_s: float
    """What the step would be predicted to take had the machine's speed at the time of the run been known."""

    causes: str
    """JSON: cause -> seconds of measured - predicted."""

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted_s / self.measured_s - 1

    @property
    def error_at_run_speed(self) -> float:
        """The same at the speed that the machine had in the run."""
        return self.at_run_speed_s / self.measured_s - 1

    @property
    def repeat(self) -> float:
        """Second measurement / first - 1."""
        return self.again_s / self.measured_s - 1

    @property
    def inside(self) -> bool:
        """Whether the measured step lies in the predicted 90 % interval."""
        return self.low_s <= self.measured_s <= self.high_s


def kinds_of_plans(planned: Planned, session: Session) -> dict[str, Plan]:
    """Kind -> plan: the even split, and the best of each way to split, as the planner finds it."""
    found = {EVEN_SPLIT: next(row.plan for row in planned.result.baselines if row.name == EVEN_SPLIT)}
    searches = {
        "uneven data parallel": Search(strategies=("data_parallel",)),
        "model parallel": Search(strategies=("model_parallel",)),
        **{
            f"{schedule}, {count} microbatches": Search(
                strategies=("pipeline",), schedules=(schedule,), microbatches=(count,)
            )
            for schedule in ("gpipe", "1f1b")
            for count in (4, 8)
        },
    }
    for kind, search in searches.items():
        mine = Session(session.path, [planned.spec.name], session.directory.parent)
        mine.scenario = replace(mine.scenario, search=search)
        try:
            found[kind] = plan_network(mine, planned.spec).result.chosen.plan
        except InfeasibleError as error:
            talk(f"{planned.spec.name}, {kind}: {error}")
    found["chosen"] = planned.result.chosen.plan
    return found


def measured_plans(session: Session, spec: NetworkSpec, budget_s: float) -> tuple[Planned, dict[str, Plan]]:
    """The plans of one network, found on costs that were measured at the very shares that they use."""
    from calibration.points import plan_points

    for _ in range(3):
        planned = plan_network(session, spec)
        plans = kinds_of_plans(planned, session)
        points = {spec.name: list(plan_points(plans.values(), session.scenario.cluster))}
        if not session.calibration.missing(points):
            break
        measure(session, points, budget_s, quiet=False)
    return planned, plans


def pair_cases(name: str, folder: Path, budget_s: float, networks: Sequence[str] | None = None) -> Iterator[Case]:
    """All cases of one pair of cores; of `networks` alone, where some are named."""
    cores = usable_cores()
    path = folder / f"{name}.yaml"
    write_text(path, SCENARIO.format(name=name, isa=PAIRS[name], full=[[cores[0]]], capped=[[cores[1]]]))
    everything = Session(path, networks, folder / "costs")
    measure(everything, {}, budget_s, quiet=False)
    for spec in everything.scenario.networks:
        # One network after the other, as the machine's speed moves in the quarter of an hour that all of them take.
        session = Session(path, [spec.name], folder / "costs")
        measure(session, curve_points(session), budget_s, quiet=False)
        _, plans = measured_plans(session, spec, budget_s)
        session.calibration.check_speed()
        planned = {spec.name: plan_network(session, spec)}
        yield from run_cases(f"full + {PAIRS[name]}", session, planned, {spec.name: plans}, folder / name)


def crowded_cases(name: str, folder: Path, budget_s: float) -> Iterator[Case]:
    """Cases in which devices share cores; calibrated as they are, and at the very shares of their plans."""
    from calibration.points import plan_points

    cores = usable_cores()
    full, capped = ([[cores[place]] for place in places] for places in CROWDED[name])
    path = folder / f"{name.replace(' ', '-')}.yaml"
    write_text(path, SCENARIO.format(name=name.replace(" ", "-"), isa=PAIRS["sse"], full=full, capped=capped))
    session = Session(path, ["conv", "gpt"], folder / "costs")
    plans = {
        network: {f"{name}, plan {number}": Plan.parse(row) for number, row in enumerate(rows, 1)}
        for (cluster, network), rows in CROWDED_PLANS.items()
        if cluster == name
    }
    measure(session, curve_points(session), budget_s, quiet=False)
    shares = {network: list(plan_points(rows.values(), session.scenario.cluster)) for network, rows in plans.items()}
    measure(session, shares, budget_s, quiet=False)
    session.calibration.check_speed()
    planned = {spec.name: plan_network(session, spec) for spec in session.scenario.networks}
    yield from run_cases(name, session, planned, plans, folder / name.replace(" ", "-"))


def run_cases(
    cluster: str, session: Session, planned: dict[str, Planned], plans: dict[str, dict[str, Plan]], folder: Path
) -> Iterator[Case]:
    """Predict all plans, write that down, run them, and run them again."""
    written = [
        (network, kind, planned[network].predict(plan)) for network, rows in plans.items() for kind, plan in rows.items()
    ]
    document = predictions_document(session.scenario.name, written)
    write_text(folder / f"predictions-{'-'.join(plans)}.json", json.dumps(document, indent=1, default=str))
    different = {network: {str(plan): plan for plan in rows.values()} for network, rows in plans.items()}
    times = []
    for steps, label in ((STEPS, "first"), (AGAIN_STEPS, "again")):
        found: dict[tuple[str, str], Measurement] = {}
        for network, rows in different.items():
            measurements = execute(session, planned[network].spec, rows, steps, folder / f"{label}-{network}", quiet=False)
            found |= {(network, text): row for text, row in zip(rows, measurements, strict=True)}
        times.append(found)
    first, again = times
    for network, kind, prediction in written:
        key = network, str(prediction.plan)
        yield _case(cluster, network, kind, planned[network], prediction, first[key], again[key])


def _case(
    cluster: str, network: str, kind: str, planned: Planned, prediction: Prediction, first: Measurement, again: Measurement
) -> Case:
    parts = causes(prediction.plan, planned.costs, first.timeline)
    at_run_speed_s = planned.predict_at_run_speed(prediction.plan, first)
    # The recurrence knows of no sharing: only the ratio of its two answers is taken.
    as_it_was_s = planned.predict_at_run_speed(
        prediction.plan, replace(first, canary_s=_calibrated(planned, prediction.plan))
    )
    ratio = at_run_speed_s / as_it_was_s if at_run_speed_s and as_it_was_s else 1.0
    return Case(
        cluster,
        network,
        kind,
        str(prediction.plan),
        prediction.step_s,
        prediction.low_s,
        prediction.high_s,
        first.median_s,
        again.median_s,
        prediction.step_s * ratio,
        json.dumps({part.what: part.seconds for part in parts}),
    )


def _calibrated(planned: Planned, plan: Plan) -> dict[str, float]:
    """The canaries as they were when the costs were measured."""
    return {device: found for device in plan.devices if (found := planned.costs.canary_s(device)) is not None}


def summary(title: str, rows: Sequence[Case]) -> list[str]:
    """The figures that the cases come to, as a row of Markdown."""
    once = list({(c.cluster, c.network, c.plan): c for c in rows}.values())
    errors = sorted(abs(c.error) for c in once)
    steady = sorted(abs(c.error_at_run_speed) for c in once)
    floor = sorted(abs(c.repeat) for c in once)
    rank = spearmanr([c.predicted_s for c in once], [c.measured_s for c in once]).statistic
    row = (
        f"| {title} | {len(once)} | {statistics.median(errors):.1%} | {_percentile(errors, 0.95):.1%} | {errors[-1]:.1%} "
        f"| {statistics.median(steady):.1%} | {sum(c.inside for c in once) / len(once):.0%} | {rank:.3f} "
        f"| {statistics.median(floor):.1%} / {_percentile(floor, 0.95):.1%} |"
    )
    return [row]


def cell(plan: object) -> str:
    """A plan as a cell of a Markdown table, whose columns its bars would end."""
    return f"`{str(plan).replace('|', chr(92) + '|')}`"


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def report(rows: Sequence[Case]) -> str:
    """Everything as Markdown."""
    head = (
        "| cases | number | median error | 95th percentile | largest | median without drift | in the 90 % interval | Spearman "
        "| floor: median / 95th |"
    )
    lines = [head, "|" + "---|" * 9]
    pairs = [c for c in rows if c.cluster not in CROWDED]
    crowded = [c for c in rows if c.cluster in CROWDED]
    for title, mine in (("pairs of cores", pairs), ("devices that share cores", crowded)):
        lines += summary(title, mine) if mine else []
    for cluster in dict.fromkeys(c.cluster for c in rows):
        lines += summary(cluster, [c for c in rows if c.cluster == cluster])
    for kind in dict.fromkeys(c.kind for c in pairs):
        lines += summary(kind, [c for c in pairs if c.kind == kind])
    lines += [
        "",
        "| cluster | network | chosen | regret | against the even split, with the range of its two measurements |",
        "|---|---|---|---|---|",
    ]
    for cluster, network in dict.fromkeys((c.cluster, c.network) for c in pairs):
        mine = [c for c in pairs if (c.cluster, c.network) == (cluster, network)]
        chosen = next(c for c in mine if c.kind == "chosen")
        even = next(c for c in mine if c.kind == EVEN_SPLIT)
        gains = sorted((even.measured_s / chosen.measured_s, even.again_s / chosen.again_s))
        regret = chosen.measured_s / min(c.measured_s for c in mine) - 1
        lines.append(f"| {cluster} | {network} | {cell(chosen.plan)} | {regret:.1%} | {gains[0]:.2f}–{gains[1]:.2f} × |")
    lines += [
        "",
        "| cluster | network | kind | plan | predicted | measured | error | in interval | again |",
        "|" + "---|" * 9,
    ]
    lines += [
        f"| {c.cluster} | {c.network} | {c.kind} | {cell(c.plan)} | {format_seconds(c.predicted_s)} "
        f"| {format_seconds(c.measured_s)} | {c.error:+.1%} | {'yes' if c.inside else 'no'} | {c.repeat:+.1%} |"
        for c in rows
    ]
    return "\n".join([*lines, ""])


def draw(rows: Sequence[Case], path: Path) -> None:
    """Predicted against measured steps on the left, the errors by kind of plan on the right."""
    kinds = list(dict.fromkeys(c.kind if c.cluster not in CROWDED else c.cluster for c in rows))
    with f.new_figure(10.0, 4.4) as figure:
        f.add_text(figure, f.MARGIN_IN, 0.34, "Predicted and measured steps", fontsize=12, fontweight="bold")
        left = f.add_axes(figure, 0.9, 0.7, 3.2, 3.1)
        right = f.add_axes(figure, 6.3, 0.7, 3.3, 3.1)
        measured_ms, predicted_ms = [c.measured_s * 1e3 for c in rows], [c.predicted_s * 1e3 for c in rows]
        ends = min(measured_ms) * 0.9, max(measured_ms) * 1.1
        left.set_xscale("log")
        left.set_yscale("log")
        left.plot(ends, ends, color=f.GRID, linewidth=1.0)
        left.scatter(measured_ms, predicted_ms, s=16, color=f.BACKWARD, alpha=0.7, linewidths=0)
        left.set_xlabel("measured, ms", fontsize=7.5)
        left.set_ylabel("predicted, ms", fontsize=7.5)
        right.axvline(0, color=f.INK, linewidth=0.8)
        for number, kind in enumerate(kinds):
            errors = [
                c.error * 100
                for c in rows
                if kind in (c.kind, c.cluster) and (c.cluster not in CROWDED or c.cluster == kind)
            ]
            right.scatter(errors, [number] * len(errors), s=16, color=f.UPDATE, alpha=0.7, linewidths=0)
        right.set_yticks(range(len(kinds)), kinds)
        right.set_ylim(len(kinds) - 0.5, -0.5)
        right.set_xlabel("error, %", fontsize=7.5)
        for axes in (left, right):
            axes.grid(color=f.GRID, linewidth=0.6)
            axes.tick_params(labelsize=7.5)
    f.save_figure(figure, path)


def read_cases(path: Path) -> list[Case]:
    """The cases that `write_cases` wrote."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    texts = {"cluster", "network", "kind", "plan", "causes"}
    return [Case(**{key: value if key in texts else float(value) for key, value in row.items()}) for row in rows]  # type: ignore[arg-type]


def write_cases(path: Path, rows: Sequence[Case]) -> None:
    """The cases as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def main() -> int:
    """Measure what is wanted, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/matrix"), help="where costs, logs, cases and figures go")
    parser.add_argument("--budget", type=float, default=4.0, help="seconds for a point of the calibration")
    parser.add_argument("--networks", nargs="*", help="only these networks, on the pairs of cores")
    parser.add_argument("--from-cases", type=Path, help="run nothing; report what this file of cases has")
    parser.add_argument("--only", nargs="*", choices=[*PAIRS, *CROWDED], help="only these clusters")
    add_option(parser)
    options = parser.parse_args()
    kept = options.from_cases or options.folder / "cases.csv"
    rows = read_cases(kept) if kept.exists() else []
    for name in () if options.from_cases else options.only or [*PAIRS, *CROWDED]:
        if name in PAIRS:
            new = list(pair_cases(name, options.folder, options.budget, options.networks))
        else:
            new = list(crowded_cases(name, options.folder, options.budget))
        rows = joined(rows, new)
        write_cases(options.folder / "cases.csv", rows)
    draw(rows, options.folder / "matrix.svg")
    sys.stdout.write(report(rows))
    if options.publish:
        publish(options.publish, "matrix", f"{machine()}\n\n{report(rows)}")
        draw(rows, options.publish.parent / "figures" / "matrix.svg")
    return 0


def joined(rows: Sequence[Case], new: Sequence[Case]) -> list[Case]:
    """`new`, and those of `rows` whose cluster and network it does not measure again; by cluster."""
    again = {(case.cluster, case.network) for case in new}
    order = [*(f"full + {isa}" for isa in PAIRS.values()), *CROWDED]
    kept = [case for case in rows if (case.cluster, case.network) not in again]
    return sorted([*kept, *new], key=lambda case: order.index(case.cluster))


if __name__ == "__main__":
    sys.exit(main())
