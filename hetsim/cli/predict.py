"""`hetsim predict`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hetsim.cli.options import OutputFormat
from hetsim.cli.output import print_json, print_table, talk
from hetsim.cli.planning import plan_network, plans_of_user
from hetsim.cli.session import Session
from hetsim.costs.transfer import transferred_types
from hetsim.plan import Plan
from hetsim.report.rows import CaseRow, DeviceRow
from hetsim.runs import RunWriter
from hetsim.scenario.types import NetworkSpec
from hetsim.simulator import Prediction
from hetsim.simulator import predict as forecast

SCHEMA_VERSION = 1


def predict(
    path: Path,
    texts: Sequence[str] | None,
    networks: Sequence[str] | None,
    costs: Path,
    runs: Path,
    *,
    allow_outdated: bool,
    output: OutputFormat,
) -> None:
    """Predict the given plans, or the best one; show and keep timeline, step, memory and limits."""
    from hetsim.report.summary import memory_text, summarise_devices
    from hetsim.report.tables import case_tables, device_table, print_tables

    session = Session(path, networks, costs, allow_outdated=allow_outdated)
    rows: list[CaseRow] = []
    devices: list[DeviceRow] = []
    memory: list[str] = []
    predictions: list[tuple[str, str, Prediction]] = []
    transferred: dict[str, list[str]] = {}
    for spec in session.scenario.networks:
        model = session.costs(spec)
        transferred[spec.name] = transferred_types(model.table)
        for label, plan in _plans(session, spec, texts).items():
            prediction = forecast(
                plan, model, spec.training, seed=session.scenario.seed, conditions=session.scenario.simulation
            )
            predictions.append((spec.name, label, prediction))
            rows.append(
                CaseRow(
                    spec.name, label, str(plan), prediction.step_s, prediction.low_s, prediction.high_s, chosen=not texts
                )
            )
            mine = summarise_devices(prediction.timeline, plan, network=spec.name, case=label, label="predicted")
            held = {use.device: memory_text(use) for use in prediction.memory}
            devices += mine
            memory += [held[row.device] for row in mine]
    document = {
        **predictions_document(session.scenario.name, predictions),
        "transferred": transferred,
        "outdated": session.outdated,
    }
    with session.new_run(runs) as run:
        run.write_json("result.json", document)
        for network, label, prediction in predictions:
            _keep(run, network, label, prediction)
    if output == "json":
        print_json(document)
    else:
        print_tables(*case_tables(rows), device_table(devices, memory))
        limits = [(n, label, row.what, f"{row.share:.0%}") for n, label, p in predictions for row in p.limits]
        print_table("what the step is made of, along its critical path", ("network", "case", "what"), ("share",), limits)
    talk(f"saved {run.path}")


def _keep(run: RunWriter, network: str, label: str, prediction: Prediction) -> None:
    """Timeline, trace and figure of one prediction, into the run directory."""
    from hetsim.report.gantt import draw_gantt
    from hetsim.report.trace import write_trace

    name, timeline, plan = run.name_for(f"{network}-{label}"), prediction.timeline, prediction.plan
    run.write_timeline(name, timeline)
    write_trace(run.file(f"traces/{name}.trace.json"), {"predicted": timeline}, plan, memory=prediction.memory_curves)
    draw_gantt(timeline, None, plan, run.file(f"figures/{name}.svg"), title=f"{network}: {plan}")


def _plans(session: Session, spec: NetworkSpec, texts: Sequence[str] | None) -> dict[str, Plan]:
    """The plans to predict, by label. Those that the user wrote need no search, and may lie outside the scenario's."""
    if not texts:
        chosen = plan_network(session, spec).result.chosen
        return {chosen.name: chosen.plan}
    return {f"plan {number}": plan for number, plan in enumerate(plans_of_user(session, spec, texts), 1)}


def predictions_document(scenario: str, predictions: Iterable[tuple[str, str, Prediction]]) -> dict[str, Any]:
    """The documented JSON form of predictions, each with its network and label."""
    rows = [_document(*row) for row in predictions]
    return {"schema_version": SCHEMA_VERSION, "scenario": scenario, "predictions": rows}


def _document(network: str, label: str, prediction: Prediction) -> dict[str, Any]:
    return {
        "network": network,
        "name": label,
        "plan": str(prediction.plan),
        "predicted_step_s": prediction.step_s,
        "predicted_low_s": prediction.low_s,
        "predicted_high_s": prediction.high_s,
        "limits": [{"what": row.what, "seconds": row.seconds, "share": row.share} for row in prediction.limits],
        "memory": [
            {"device": use.device, "peak_bytes": use.peak_bytes, "limit_bytes": use.limit_bytes} for use in prediction.memory
        ],
        "utilisation": {device: prediction.timeline.utilisation(device) for device in prediction.timeline.devices},
    }
