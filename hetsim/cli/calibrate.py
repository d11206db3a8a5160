"""`hetsim calibrate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hetsim.cli.options import OutputFormat
from hetsim.cli.output import print_json, print_table, talk
from hetsim.cli.probe import measure_runtime
from hetsim.cli.progress import progress
from hetsim.cli.session import Session
from hetsim.costs.residuals import add_residuals, corrections, residuals_of_run
from hetsim.errors import InputError
from hetsim.runs import RunDirectory

if TYPE_CHECKING:
    from calibration.points import Point
    from calibration.table import Closing, Conditions

SCHEMA_VERSION = 1

WORTH_TELLING = 0.1
"""Share of rounds that other programs disturbed."""

WAITING = (
    "up to microbatch {microbatch} the device waits for its host: what the marks add is taken out, but such steps are as long as "
    "the host's processor is slow, from run to run, and are predicted badly; larger microbatches wait less"
)


def calibrate(
    path: Path,
    networks: Sequence[str] | None,
    costs: Path,
    budget_s: float,
    *,
    dry_run: bool,
    from_run: Path | None = None,
    output: OutputFormat,
    quiet: bool,
) -> None:
    """Measure what the scenario's curves lack and show the closing test.

    Raises InputError where all networks bring their costs, CalibrationError where measuring fails.
    """
    session = Session(path, networks, costs)
    if not session.live:
        raise InputError(f"{path} brings a cost table for each of its networks: there is nothing to measure")
    if from_run is not None:
        _learn(session, from_run, output)
        return
    points = curve_points(session)
    if dry_run:
        _show_gaps(session, points, budget_s, output)
        return
    measure(session, points, budget_s, quiet=quiet)
    _show_closing(session, output)


def _learn(session: Session, folder: Path, output: OutputFormat) -> None:
    """Correct the costs by what a validation measured. Raises RunDirectoryError where `folder` holds none."""
    run = RunDirectory.open(folder)
    types = {device.name: device.type for device in session.scenario.cluster.devices}
    kept = add_residuals(session.directory, residuals_of_run(run.name, run.read_json("result.json"), types))
    rows = corrections(kept)
    if output == "json":
        document = {kind: asdict(row) for kind, row in rows.items()}
        print_json({"schema_version": SCHEMA_VERSION, "corrections": document})
    else:
        print_table(
            "what real runs say of the costs",
            ("device type",),
            ("times", "scatter of a case, 95 %", "cases"),
            [(kind, f"{row.factor:.4f}", f"{row.spread:.1%}", str(row.cases)) for kind, row in rows.items()],
        )
    talk("predictions of these very plans prove nothing from now on; hetsim validate marks them")


def curve_points(session: Session) -> dict[str, list[Point]]:
    """Network -> the points of its batch curves, each measured on all device types at once."""
    from calibration.points import curve_points as points_of

    scenario = session.scenario
    return {spec.name: list(points_of(spec, scenario.search, scenario.cluster)) for spec in session.live}


def measure(session: Session, points: dict[str, list[Point]], budget_s: float, *, quiet: bool) -> None:
    """Measure what is missing of `points`, the links and the runtime, with a bar on stderr."""
    from calibration.coordinator import Effort

    with progress("calibrating", quiet=quiet) as report:
        session.calibration.measure(points, Effort(budget_s=budget_s), report)
    measure_runtime(session, quiet=quiet)  # which compares with the links


def _show_gaps(session: Session, points: dict[str, list[Point]], budget_s: float, output: OutputFormat) -> None:
    gaps = session.calibration.missing(points)
    count = sum(map(len, gaps.values()))
    if output == "json":
        rows = [
            {
                "network": network,
                "microbatches": dict(point.microbatches),
                "in_flight": point.in_flight,
                "alone": point.alone,
                "crowd": point.crowd,
            }
            for network, rows in gaps.items()
            for point in rows
        ]
        print_json({"schema_version": SCHEMA_VERSION, "points": rows, "budget_s": budget_s, "estimated_s": count * budget_s})
        return
    rows_text = [(network, str(point)) for network, row in gaps.items() for point in row]
    print_table(f"{count} points, about {count * budget_s:.0f} s", ("network", "microbatches"), (), rows_text)


def _show_closing(session: Session, output: OutputFormat) -> None:
    tests: list[tuple[str, Closing]] = [
        (spec.name, test) for spec in session.live for test in session.calibration.measured(spec.name).closing
    ]
    tests.sort(key=lambda row: (row[0], row[1].device_type, row[1].microbatch))
    if output == "json":
        rows = [
            {
                "network": network,
                "device_type": test.device_type,
                "microbatch": test.microbatch,
                "step_s": test.whole_s,
                "parts_s": test.parts_s,
                "error": test.error,
                "marks": test.marks,
                "waits_for_host": test.waits_for_host,
            }
            for network, test in tests
        ]
        states = {
            spec.name: [asdict(c) for c in session.calibration.measured(spec.name).conditions] for spec in session.live
        }
        document = {"schema_version": SCHEMA_VERSION, "directory": str(session.directory), "closing": rows}
        print_json(document | {"conditions": states})
        return
    text = [
        (
            network,
            test.device_type,
            str(test.microbatch),
            f"{test.whole_s * 1e3:.1f} ms",
            f"{test.parts_s * 1e3:.1f} ms",
            f"{test.error:+.1%}",
            f"{test.marks:+.1%}",
        )
        for network, test in tests
    ]
    title = "closing test: the sum of a step's measured parts against the whole step"
    print_table(title, ("network", "device type"), ("microbatch", "step", "parts", "error", "marks add"), text)
    for spec in session.live:
        for state in session.calibration.measured(spec.name).conditions:
            talk(f"{spec.name} on {state.device_type}: {_in_words(state)}")
    waiting = {(network, test.device_type): test.microbatch for network, test in tests if test.waits_for_host}
    for (network, kind), largest in waiting.items():  # sorted by microbatch, so that the last one stays
        talk(f"{network} on {kind}: {WAITING.format(microbatch=largest)}")
    talk(f"costs are in {session.directory}")


def _in_words(state: Conditions) -> str:
    """How steady the machine was, and what to do where it was not."""
    said = f"its speed moved by {state.fastest:+.1%} to {state.slowest:+.1%} between the points, which is taken out"
    if state.crowded < WORTH_TELLING:
        return said
    return (
        f"{said}; other programs took its core in {state.crowded:.0%} of the rounds, which are left out where others remain: "
        "better close them, remove the folder of costs and measure again"
    )
