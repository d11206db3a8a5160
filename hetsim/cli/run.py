"""`hetsim run`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hetsim.cli.options import OutputFormat
from hetsim.cli.output import print_json, print_table, talk
from hetsim.cli.planning import plan_network, plans_of_user
from hetsim.cli.progress import progress
from hetsim.cli.session import Session
from hetsim.measurement import Measurement
from hetsim.plan import Plan
from hetsim.report.text import format_interval
from hetsim.scenario.types import NetworkSpec
from hetsim.units import format_seconds

if TYPE_CHECKING:
    from executor.job import RunRequest

SCHEMA_VERSION = 1


def run(
    path: Path,
    texts: Sequence[str] | None,
    networks: Sequence[str] | None,
    steps: int | None,
    costs: Path,
    runs: Path,
    *,
    allow_outdated: bool,
    output: OutputFormat,
    quiet: bool,
) -> None:
    """Run the given plans, or the best one, of each network; show and keep the measured steps."""
    from hetsim.report.trace import write_trace

    session = Session(path, networks, costs, allow_outdated=allow_outdated)
    found: list[tuple[str, str, Measurement]] = []
    with session.new_run(runs) as directory:
        for spec in session.scenario.networks:
            plans = _plans(session, spec, texts)
            measurements = execute(session, spec, plans, steps, directory.directory / "logs" / spec.name, quiet=quiet)
            for label, measurement in zip(plans, measurements, strict=True):
                name = directory.name_for(f"{spec.name}-{label}")
                directory.write_timeline(f"{name}-measured", measurement.timeline)
                write_trace(
                    directory.file(f"traces/{name}.trace.json"), {"measured": measurement.timeline}, measurement.plan
                )
                found.append((spec.name, label, measurement))
        rows = [{"network": n, "name": label, **json.loads(m.to_json())} for n, label, m in found]
        document = {"schema_version": SCHEMA_VERSION, "scenario": session.scenario.name, "measurements": rows}
        directory.write_json("result.json", document)
    if output == "json":
        print_json(document)
    else:
        print_table(
            "measured steps",
            ("network", "case", "plan"),
            ("step", "95 % interval", "steps", "last loss"),
            [
                (
                    network,
                    label,
                    str(m.plan),
                    format_seconds(m.median_s),
                    format_interval(*m.interval_s),
                    str(len(m.step_s)),
                    f"{m.losses[-1]:.4f}",
                )
                for network, label, m in found
            ],
        )
    for network, label, m in found:
        if not all(map(math.isfinite, m.losses)):
            talk(
                f"{network}, {label}: the loss is no finite number from step {_first_lost(m.losses)} on; timings may be off"
            )
    talk(f"saved {directory.path}")


def _first_lost(losses: Sequence[float]) -> int:
    return next(step for step, loss in enumerate(losses) if not math.isfinite(loss))


def execute(
    session: Session, spec: NetworkSpec, plans: dict[str, Plan], steps: int | None, logs: Path, *, quiet: bool
) -> list[Measurement]:
    """Run `plans` (by label) of one network for real, their steps in alternation. Raises RunError where a rank fails."""
    from executor.launch import run as launch

    scenario = session.scenario
    measure = replace(scenario.measure, steps=steps or scenario.measure.steps, lead_in_steps=1)
    with progress(f"running {spec.name}", quiet=quiet) as report:
        return launch(
            [_request(label, plan) for label, plan in plans.items()],
            spec,
            session.chains[spec.name],
            scenario.cluster,
            measure=measure,
            seed=scenario.seed,
            log_dir=logs,
            identities=session.calibration.identities if session.live else None,
            on_progress=lambda p: report(f"{p.name}: {format_seconds(p.median_s)}", p.step, p.steps),
        )


def _request(label: str, plan: Plan) -> RunRequest:
    from executor.job import RunRequest

    return RunRequest(label, plan)


def _plans(session: Session, spec: NetworkSpec, texts: Sequence[str] | None) -> dict[str, Plan]:
    if not texts:
        return {"chosen": plan_network(session, spec).result.chosen.plan}
    return {f"plan {number}": plan for number, plan in enumerate(plans_of_user(session, spec, texts), 1)}
