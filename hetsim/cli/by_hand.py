"""`hetsim run --print-commands` and `--slurm`, which start nothing, and `--collect`, which reads what such a start left."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hetsim.cli.options import OutputFormat
from hetsim.cli.output import print_json, talk
from hetsim.cli.session import Session
from hetsim.errors import InputError, Problem
from hetsim.measurement import Measurement
from hetsim.plan import Plan
from hetsim.scenario.types import NetworkSpec

if TYPE_CHECKING:
    from executor.job import Job

SCHEMA_VERSION = 1


def print_start(
    session: Session,
    plans: Mapping[str, Mapping[str, Plan]],
    steps: int | None,
    max_restarts: int,
    runs: Path,
    *,
    slurm: bool,
    output: OutputFormat,
) -> None:
    """Write the job of each network below `runs`, and print how to start it on its nodes. `plans`: network -> label -> plan."""
    from executor.by_hand import commands, slurm_script

    rows: list[dict[str, Any]] = []
    with session.new_run(runs) as run:
        final = run.path.absolute()
        jobs = {}
        for spec in session.scenario.networks:
            job = _job(session, spec, plans[spec.name], steps, max_restarts, final / "logs" / spec.name)
            jobs[spec.name] = job
            lines = commands(job, max_restarts=max_restarts)
            script = slurm_script(job, f"hetsim-{spec.name}", lines)
            rows.append({"network": spec.name, "job": str(job.path), "commands": lines, "slurm": script})
        run.write_json("commands.json", {"schema_version": SCHEMA_VERSION, "starts": rows})
    for job in jobs.values():
        job.save()  # in the folder's final place, which the commands name
    collect = f"hetsim run {session.path} --collect {final}"
    if output == "json":
        print_json({"schema_version": SCHEMA_VERSION, "starts": rows, "collect": collect})
    else:
        for row in rows:
            typer.echo(row["slurm"] if slurm else "\n".join(_listed(row)))
    talk(f"Every node needs {final / 'logs'} at this path. When all have ended: {collect}")


def _listed(row: Mapping[str, Any]) -> list[str]:
    lines = [f"# {row['network']}"] if row["network"] else []
    for node, words in row["commands"].items():
        lines += [f"# on {node}", shlex.join(words)]
    return lines


def collected(session: Session, folder: Path) -> list[tuple[str, str, Measurement]]:
    """(network, label, measurement) of what the commands of `print_start` left below `folder`.

    Raises InputError where nothing is.
    """
    from executor.job import JOB_FILE, Job
    from executor.results import collect

    found: list[tuple[str, str, Measurement]] = []
    for spec in session.scenario.networks:
        logs = folder / "logs" / spec.name
        if (logs / JOB_FILE).exists():
            labels = [request.name for request in Job.load(logs / JOB_FILE).requests]
            for label, measurement in zip(labels, collect(logs), strict=True):
                if measurement is None:
                    talk(f"{spec.name}, {label}: no step was finished by all devices")
                else:
                    found.append((spec.name, label, measurement))
    if not found:
        mend = "It is the folder that hetsim run --print-commands named, once its commands have ended"
        raise InputError(Problem(str(folder), "holds no finished step of a run that was started by hand", mend))
    return found


def _job(
    session: Session, spec: NetworkSpec, plans: Mapping[str, Plan], steps: int | None, max_restarts: int, logs: Path
) -> Job:
    from executor.job import RunRequest, make_job
    from executor.launch import CHECKPOINT_STEPS

    scenario = session.scenario
    return make_job(
        [RunRequest(label, plan) for label, plan in plans.items()],
        spec,
        session.chains[spec.name],
        scenario.cluster,
        measure=replace(scenario.measure, steps=steps or scenario.measure.steps),
        seed=scenario.seed,
        log_dir=logs,
        checkpoint_steps=CHECKPOINT_STEPS if max_restarts else 0,
        identities=session.calibration.identities if spec in session.live else None,
    )
