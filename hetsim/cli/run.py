"""`hetsim run`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hetsim.cli.by_hand import collected, print_start
from hetsim.cli.options import OutputFormat
from hetsim.cli.output import print_json, print_table, talk
from hetsim.cli.planning import plan_network, plans_of_user
from hetsim.cli.progress import progress
from hetsim.cli.session import Session
from hetsim.measurement import Measurement
from hetsim.plan import Plan
from hetsim.report.text import format_interval
from hetsim.runs import RunWriter
from hetsim.scenario.types import NetworkSpec
from hetsim.units import format_seconds

if TYPE_CHECKING:
    from executor.job import RunRequest

SCHEMA_VERSION = 1

Found: TypeAlias = tuple[str, str, Measurement]
"""Network, the plan's label, and what was measured."""


@dataclass(frozen=True, slots=True)
class Start:
    """How the user wants a run to be started."""

    steps: int | None = None
    max_restarts: int = 0
    by_hand: Literal["commands", "slurm"] | None = None
    """Print how to start it, and start nothing."""

    collect: Path | None = None
    """Read what such a start left in this folder."""

    quiet: bool = False


def run(
    path: Path,
    texts: Sequence[str] | None,
    networks: Sequence[str] | None,
    start: Start,
    costs: Path,
    runs: Path,
    *,
    allow_outdated: bool,
    output: OutputFormat,
) -> None:
    """Run the given plans, or the best one, of each network; show and keep the measured steps."""
    session = Session(path, networks, costs, allow_outdated=allow_outdated)
    if start.by_hand is not None:
        plans = {spec.name: _plans(session, spec, texts) for spec in session.scenario.networks}
        slurm = start.by_hand == "slurm"
        print_start(session, plans, start.steps, start.max_restarts, runs, slurm=slurm, output=output)
        return
    with session.new_run(runs) as directory:
        if start.collect is not None:
            found = collected(session, start.collect)
        else:
            found = [row for spec in session.scenario.networks for row in _run(session, spec, texts, start, directory)]
        document = _keep(session, found, directory)
    if output == "json":
        print_json(document)
    else:
        _show(found)
    for network, label, m in found:
        if not all(map(math.isfinite, m.losses)):
            talk(
                f"{network}, {label}: the loss is no finite number from step {_first_lost(m.losses)} on; timings may be off"
            )
    talk(f"saved {directory.path}")


def _run(
    session: Session, spec: NetworkSpec, texts: Sequence[str] | None, start: Start, directory: RunWriter
) -> list[Found]:
    plans = _plans(session, spec, texts)
    logs = directory.directory / "logs" / spec.name
    measurements = execute(session, spec, plans, start.steps, logs, max_restarts=start.max_restarts, quiet=start.quiet)
    return [(spec.name, label, measurement) for label, measurement in zip(plans, measurements, strict=True)]


def _keep(session: Session, found: Sequence[Found], directory: RunWriter) -> dict[str, Any]:
    """Write the run's files; the document of its result."""
    from hetsim.report.losses import draw_losses
    from hetsim.report.trace import write_trace

    for network, label, measurement in found:
        name = directory.name_for(f"{network}-{label}")
        directory.write_timeline(f"{name}-measured", measurement.timeline)
        write_trace(directory.file(f"traces/{name}.trace.json"), {"measured": measurement.timeline}, measurement.plan)
    for network in dict.fromkeys(name for name, _, _ in found):
        curves = {label: m.losses for name, label, m in found if name == network}
        draw_losses(curves, directory.file(f"figures/{network}-loss.svg"), title=f"{network}: loss")
    rows = [{"network": n, "name": label, **json.loads(m.to_json())} for n, label, m in found]
    document = {"schema_version": SCHEMA_VERSION, "scenario": session.scenario.name, "measurements": rows}
    directory.write_json("result.json", document)
    return document


def _show(found: Sequence[Found]) -> None:
    print_table(
        "measured steps",
        ("network", "case", "plan"),
        ("step", "95 % interval", "steps", "first loss", "last loss"),
        [
            (
                network,
                label,
                str(m.plan),
                format_seconds(m.median_s),
                format_interval(*m.interval_s),
                str(len(m.step_s)),
                f"{m.losses[0]:.4f}",
                f"{m.losses[-1]:.4f}",
            )
            for network, label, m in found
        ],
    )


def _first_lost(losses: Sequence[float]) -> int:
    return next(step for step, loss in enumerate(losses) if not math.isfinite(loss))


def execute(
    session: Session,
    spec: NetworkSpec,
    plans: dict[str, Plan],
    steps: int | None,
    logs: Path,
    *,
    max_restarts: int = 0,
    quiet: bool,
) -> list[Measurement]:
    """Run `plans` (by label) of one network for real, their steps in alternation. Raises RunError where a rank fails."""
    from executor.launch import run as launch
    from hetsim.models.unequal import unequal_layers
    from hetsim.models.zoo import build

    scenario = session.scenario
    if any(len(plan.replicas) > 1 or plan.replicas[0].microbatches > 1 for plan in plans.values()):
        for sentence in unequal_layers(build(spec, scenario.seed).model):
            talk(f"{spec.name}: {sentence}")
    lead_in_steps = 1 if len(plans) > 1 else 0
    measure = replace(scenario.measure, steps=steps or scenario.measure.steps, lead_in_steps=lead_in_steps)
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
            max_restarts=max_restarts,
            on_progress=lambda p: report(f"{p.name}: {format_seconds(p.median_s)}", p.step, p.steps),
        )


def _request(label: str, plan: Plan) -> RunRequest:
    from executor.job import RunRequest

    return RunRequest(label, plan)


def _plans(session: Session, spec: NetworkSpec, texts: Sequence[str] | None) -> dict[str, Plan]:
    if not texts:
        return {"chosen": plan_network(session, spec).result.chosen.plan}
    return {f"plan {number}": plan for number, plan in enumerate(plans_of_user(session, spec, texts), 1)}
