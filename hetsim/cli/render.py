"""What a validation leaves in its run directory and on the screen: timelines, traces, pictures, tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hetsim.cli.planning import Planned
from hetsim.report.result import result_document
from hetsim.report.rows import CaseRow, DeviceRow
from hetsim.report.summary import batch_curves, summarise_costs, summarise_devices
from hetsim.runs import RunWriter
from hetsim.validation import Case, Validation


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
    """Timelines as CSV, a trace and a Gantt chart for each case, and the comparison of all."""
    from hetsim.report.bars import draw_comparison
    from hetsim.report.gantt import draw_gantt
    from hetsim.report.trace import write_trace

    for case in validation.cases:
        name = f"{case.network}-{case.label.replace(' ', '-')}"
        predicted, measured, plan = case.prediction.timeline, case.measurement.timeline, case.prediction.plan
        run.write_timeline(f"{name}-predicted", predicted)
        run.write_timeline(f"{name}-measured", measured)
        write_trace(run.file(f"traces/{name}.trace.json"), {"predicted": predicted, "measured": measured}, plan)
        if case.chosen:
            for suffix in ("svg", "png"):
                draw_gantt(
                    predicted, measured, plan, run.file(f"figures/{name}.{suffix}"), title=f"{case.network}: {case.label}"
                )
    for suffix in ("svg", "png"):
        draw_comparison(case_rows(validation), run.file(f"figures/comparison.{suffix}"), title=validation.scenario)


def validation_document(validation: Validation, planned: Sequence[Planned]) -> dict[str, Any]:
    """What `result.json` holds and `--format json` prints."""
    tables = [p.costs.table for p in planned]
    rows = result_document(
        case_rows(validation),
        device_rows(validation.cases),
        [curve for table in tables for curve in batch_curves(table)],
        [summarise_costs(table) for table in tables],
    )
    return {**rows, **validation.to_json()}


def show(validation: Validation) -> None:
    """The tables on stdout: the cases of each network, then how the devices spend the chosen plans' steps."""
    from hetsim.report.tables import case_tables, device_table, print_tables
    from hetsim.report.text import answer, regret

    rows = case_rows(validation)
    for table in case_tables(rows):
        mine = [row for row in rows if row.network == table.title]
        print_tables(table, answer(mine), regret(mine), "")
    print_tables(device_table(device_rows([case for case in validation.cases if case.chosen])))
