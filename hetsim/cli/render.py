"""What plans and validations leave in their run directories and on the screen: timelines, traces, pictures, tables, the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any

from hetsim.cli.planning import Planned, candidate_rows
from hetsim.cli.session import Session
from hetsim.report.result import evidence_document
from hetsim.report.rows import CandidateRow, CaseRow, CauseRow, DeviceRow
from hetsim.report.summary import batch_curves, summarise_costs, summarise_devices
from hetsim.runs import RunWriter
from hetsim.validation import Case, Validation

if TYPE_CHECKING:
    from hetsim.report.page import NetworkReport, Step

ASSUMPTIONS = (
    "Every plan has the same global batch and optimizer, so training is mathematically the same: only the clock differs.",
    "Between the microbatches of the cost table, costs are interpolated.",
    "Data loading is not part of a step: each batch is on its device when the step begins.",
)

OF_RUNS = (
    "The plans were run in alternation, one step of each in turn, so that a drift of the machine meets all of them alike.",
)


def case_rows(validation: Validation) -> list[CaseRow]:
    """The cases as rows of tables and pictures."""
    return [
        CaseRow(
            network=case.network,
            name=case.label,
            plan=str(case.prediction.plan),
            predicted_s=case.prediction.step_s,
            low_s=case.prediction.low_s,
            high_s=case.prediction.high_s,
            measured_s=case.measurement.median_s,
            measured_low_s=case.measurement.interval_s[0],
            measured_high_s=case.measurement.interval_s[1],
            chosen=case.chosen,
            error_at_run_speed=case.error_at_run_speed,
        )
        for case in validation.cases
    ]


def device_rows(cases: Sequence[Case]) -> list[DeviceRow]:
    """How the devices spend the step in each case, predicted and measured."""
    return [
        row
        for case in cases
        for label, timeline in (("predicted", case.prediction.timeline), ("measured", case.measurement.timeline))
        for row in summarise_devices(timeline, case.prediction.plan, network=case.network, case=case.label, label=label)
    ]


def write_pictures(run: RunWriter, validation: Validation) -> None:
    """Timelines as CSV, a trace and a Gantt chart for each case, the errors of all actions, and the comparison of all."""
    from hetsim.report.bars import draw_comparison
    from hetsim.report.gantt import draw_gantt
    from hetsim.report.trace import write_trace

    for case in validation.cases:
        name = run.name_for(f"{case.network}-{case.label}")
        predicted, measured, plan = case.prediction.timeline, case.measurement.timeline, case.prediction.plan
        run.write_timeline(f"{name}-predicted", predicted)
        run.write_timeline(f"{name}-measured", measured)
        timelines = {"predicted": predicted, "measured": measured}
        write_trace(run.file(f"traces/{name}.trace.json"), timelines, plan, memory=case.prediction.memory_curves)
        if case.chosen:
            for suffix in ("svg", "png"):
                draw_gantt(
                    predicted, measured, plan, run.file(f"figures/{name}.{suffix}"), title=f"{case.network}: {case.label}"
                )
    run.write_text("actions.csv", _actions_text(validation))
    for suffix in ("svg", "png"):
        draw_comparison(case_rows(validation), run.file(f"figures/comparison.{suffix}"), title=validation.scenario)


def _actions_text(validation: Validation) -> str:
    """The errors of all cases, action by action, as CSV."""
    columns = ("network", "case", "device", "stage", "action", "count", "predicted_s", "measured_s", "error")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for case in validation.cases:
        for row in case.actions:
            writer.writerow([case.network, case.label, *astuple(row), "" if row.error is None else f"{row.error:.4f}"])
    return text.getvalue()


def validation_document(validation: Validation, planned: Sequence[Planned]) -> dict[str, Any]:
    """What `result.json` holds and `--format json` prints."""
    tables = [p.costs.table for p in planned]
    evidence = evidence_document(
        device_rows(validation.cases),
        [curve for table in tables for curve in batch_curves(table)],
        [summarise_costs(table) for table in tables],
    )
    return {**validation.to_json(), **evidence}


def show(validation: Validation) -> None:
    """The tables on stdout: the cases of each network, then how the devices spend the chosen plans' steps."""
    from hetsim.report.tables import case_tables, cause_table, device_table, print_tables
    from hetsim.report.text import answer, regret

    rows = case_rows(validation)
    for table in case_tables(rows):
        mine = [row for row in rows if row.network == table.title]
        print_tables(table, answer(mine), regret(mine), "")
    print_tables(
        device_table(device_rows([case for case in validation.cases if case.chosen])), cause_table(_causes(validation))
    )


def _causes(validation: Validation) -> list[CauseRow]:
    """What each case's error is made of."""
    return [
        CauseRow(
            case.network,
            case.label,
            case.measurement.median_s,
            {cause.what: cause.seconds for cause in case.causes},
            case.chosen,
        )
        for case in validation.cases
    ]


def write_report(run: RunWriter, session: Session, validation: Validation, planned: Sequence[Planned]) -> None:
    """`report.html`: one page to hand over."""
    networks = [_validated(validation, p) for p in planned]
    write_networks(run, session, networks, (*ASSUMPTIONS, *OF_RUNS), f"hetsim validate {session.path}")


def write_networks(
    run: RunWriter, session: Session, networks: Sequence[NetworkReport], assumptions: Sequence[str], command: str
) -> None:
    """The page about `networks`."""
    from hetsim.report.page import ReportContent, manifest_facts, write_page

    content = ReportContent(
        title=session.scenario.name,
        networks=tuple(networks),
        cluster=session.scenario.cluster,
        provenance=manifest_facts(run.manifest),
        assumptions=(*assumptions, *_sources(session)),
        commands=(command,),
    )
    write_page(run.file("report.html"), content)


def _sources(session: Session) -> list[str]:
    """Where the costs of the networks come from, as sentences."""
    measured = [spec.name for spec in session.live]
    given = [f"{spec.name} ({spec.costs})" for spec in session.scenario.networks if spec.costs is not None]
    rows = [f"Costs of {', '.join(measured)} were measured on these devices while all of them worked."] if measured else []
    return rows + ([f"Costs of {', '.join(given)} come with the scenario."] if given else [])


def _validated(validation: Validation, planned: Planned) -> NetworkReport:
    from hetsim.report.page import Step

    (chosen,) = (case for case in validation.cases if case.chosen and case.network == planned.spec.name)
    step = Step(chosen.prediction.plan, chosen.prediction.timeline, chosen.measurement.timeline)
    report = network_report(planned, candidate_rows(planned), step, device_rows([chosen]))
    cases = tuple(row for row in case_rows(validation) if row.network == planned.spec.name)
    return replace(report, cases=cases, actions=chosen.actions)


def network_report(
    planned: Planned, candidates: Sequence[CandidateRow], chosen: Step, devices: Sequence[DeviceRow]
) -> NetworkReport:
    """What is told of a network whether its plans were run or not."""
    from hetsim.report.page import NetworkReport

    chain, training = planned.costs.chain, planned.spec.training
    parameters = sum(layer.parameter_count for layer in chain.layers)
    return NetworkReport(
        name=planned.spec.name,
        description=f"{len(chain)} layers, {parameters / 1e6:.1f} M parameters, global batch {training.global_batch}, "
        f"{training.optimizer}, {training.dtype}",
        candidates=tuple(candidates),
        devices=tuple(devices),
        chosen=chosen,
        chain=chain,
        curves=batch_curves(planned.costs.table),
        costs=summarise_costs(planned.costs.table),
    )
