"""`hetsim validate`: the whole loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hetsim.attribution import causes
from hetsim.cli.calibrate import curve_points, measure
from hetsim.cli.options import OutputFormat
from hetsim.cli.output import print_json, talk
from hetsim.cli.planning import Planned, candidate_rows, plan_network, to_run
from hetsim.cli.predict import predictions_document
from hetsim.cli.render import show, validation_document, write_pictures, write_report
from hetsim.cli.run import execute
from hetsim.cli.session import Session
from hetsim.errors import GateError
from hetsim.report.result import plans_document
from hetsim.report.rows import EVEN_SPLIT
from hetsim.runs import RunWriter
from hetsim.validation import Case, Validation, compare

PLANNING_ROUNDS = 2
"""Plan, measure the very shares that the plans use, plan again: the last plan stands on measured costs."""


def validate(
    path: Path,
    networks: Sequence[str] | None,
    steps: int | None,
    costs: Path,
    runs: Path,
    budget_s: float,
    fail_over_percent: float | None,
    *,
    output: OutputFormat,
    quiet: bool,
) -> None:
    """Calibrate what is missing, plan, predict, run, compare. Raises GateError where an error exceeds the threshold."""
    session = Session(path, networks, costs)
    if session.live:
        points = curve_points(session)
        if not session.calibration.missing(points):
            session.calibration.check_speed()  # measuring would have told it
        measure(session, points, budget_s, quiet=quiet)
    planned = _plan(session, budget_s, quiet=quiet)
    with session.new_run(runs) as run:
        validation = _run_and_compare(session, planned, run, steps, quiet=quiet)
        document = validation_document(validation, planned)
        document["corrections"] = {kind: row.factor for kind, row in session.corrections.items()}
        run.write_json("result.json", document)
        write_pictures(run, validation)
        write_report(run, session, validation, planned)
    if output == "json":
        print_json(document)
    else:
        show(validation)
    if fitted := [case.name for case in validation.cases if case.fitted]:
        talk(
            f"the costs were corrected by runs of these very plans, so that their errors prove nothing: {', '.join(fitted)}"
        )
    talk(f"report {run.path / 'report.html'}")
    _check_gate(validation, fail_over_percent)


def _plan(session: Session, budget_s: float, *, quiet: bool) -> list[Planned]:
    """Plan every network, on costs measured at the very microbatches that the plans to be run use."""
    from calibration.points import plan_points

    for _ in range(PLANNING_ROUNDS):
        planned = [plan_network(session, spec) for spec in session.scenario.networks]
        wanted = {
            p.spec.name: list(plan_points((c.plan for c in to_run(p.result).values()), session.scenario.cluster))
            for p in planned
            if p.spec in session.live
        }
        if not wanted or not session.calibration.missing(wanted):
            return planned
        measure(session, wanted, budget_s, quiet=quiet)
    return [plan_network(session, spec) for spec in session.scenario.networks]


def _run_and_compare(
    session: Session, planned: Sequence[Planned], run: RunWriter, steps: int | None, *, quiet: bool
) -> Validation:
    """Write the predictions down, run the plans, and set the two side by side."""
    cases: list[Case] = []
    predictions = {p.spec.name: {label: p.predict(c.plan) for label, c in to_run(p.result).items()} for p in planned}
    run.write_json("plans.json", plans_document(row for p in planned for row in candidate_rows(p)))
    written = [(network, label, prediction) for network, rows in predictions.items() for label, prediction in rows.items()]
    run.write_json("predictions.json", predictions_document(session.scenario.name, written))
    for p in planned:
        name = p.spec.name
        plans = {label: prediction.plan for label, prediction in predictions[name].items()}
        measured = execute(session, p.spec, plans, steps, run.directory / "logs" / name, quiet=quiet)
        for (label, prediction), measurement in zip(predictions[name].items(), measured, strict=True):
            chosen = prediction.plan == p.result.chosen.plan
            cases.append(
                Case(
                    name,
                    label,
                    prediction,
                    measurement,
                    chosen,
                    causes(prediction.plan, p.costs, measurement.timeline),
                    session.is_fitted(name, str(prediction.plan)),
                    p.predict_at_run_speed(prediction.plan, measurement),
                )
            )
    return compare(session.scenario.name, cases, EVEN_SPLIT)


def _check_gate(validation: Validation, fail_over_percent: float | None) -> None:
    if fail_over_percent is None:
        return
    over = [case for case in validation.cases if not case.fitted and abs(case.error) * 100 > fail_over_percent]
    if over:
        shown = ", ".join(f"{case.name} {case.error:+.1%}" for case in over)
        raise GateError(f"the prediction is off by more than {fail_over_percent:g} % for {shown}")
