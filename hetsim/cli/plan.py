"""`hetsim plan`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hetsim.cli.ctrl_c import ctrl_c_stops
from hetsim.cli.options import OutputFormat
from hetsim.cli.output import print_json, talk
from hetsim.cli.planning import Planned, Risk, candidate_rows, improvements, plan_network
from hetsim.cli.progress import search_progress
from hetsim.cli.render import ASSUMPTIONS, network_report, write_networks
from hetsim.cli.risk import by_risk
from hetsim.cli.session import Session
from hetsim.costs.transfer import transferred_types
from hetsim.objective import Figure, Objective, limit_name, with_limits
from hetsim.planner import Candidate, PlanningResult, Watch
from hetsim.planner.names import outline
from hetsim.planner.result import figure_of
from hetsim.planner.sensitivity import Sensitivity
from hetsim.report.result import plans_document
from hetsim.report.rows import EVEN_SPLIT, CandidateRow, CaseRow
from hetsim.report.summary import summarise_devices
from hetsim.report.tables import Rows, figure_columns
from hetsim.report.text import NONE, TIMES
from hetsim.scenario.types import NetworkSpec
from hetsim.simulator import Prediction
from hetsim.units import format_seconds

if TYPE_CHECKING:
    from hetsim.report.page import NetworkReport


@dataclass(frozen=True, slots=True)
class Wish:
    """How the user wants plans to be searched and ranked."""

    least: Figure | None = None
    """None: as the scenario says."""

    limits: tuple[str, ...] = ()
    """In text, such as `step=0.5s`; they go before the scenario's."""

    time_limit_s: float | None = None
    risk: Risk = "median"
    quiet: bool = False


def plan(
    path: Path,
    networks: Sequence[str] | None,
    costs: Path,
    runs: Path,
    wish: Wish,
    *,
    allow_outdated: bool,
    output: OutputFormat,
) -> None:
    """Search the best plan of each network; show it beside the others, and keep it in a run directory."""
    from hetsim.report.gantt import draw_gantt
    from hetsim.report.plan_picture import draw_plan
    from hetsim.report.tables import candidate_tables, print_tables

    session = Session(path, networks, costs, allow_outdated=allow_outdated)
    space = session.scenario.search
    objective = replace(with_limits(space.objective, wish.limits), least=wish.least or space.objective.least)
    session.scenario = replace(session.scenario, search=replace(space, objective=objective))
    answers = [_answer(session, spec, wish) for spec in session.scenario.networks]
    planned = [p for p, _ in answers]
    rows = {p.spec.name: mine for p, mine in answers}
    better = {p.spec.name: improvements(p) for p in planned}
    document = _document(session, planned, rows, better)
    with session.new_run(runs) as run:
        run.write_json("plans.json", document)
        reports = []
        for p in planned:
            best = p.predict(p.result.chosen.plan)
            run.write_timeline(f"{p.spec.name}-predicted", best.timeline)
            draw_gantt(
                best.timeline, None, best.plan, run.file(f"figures/{p.spec.name}.svg"), title=f"{p.spec.name}: {best.plan}"
            )
            draw_plan(best.plan, p.costs.chain, run.file(f"figures/{p.spec.name}-plan.svg"))
            reports.append(_report(p, rows[p.spec.name], best, better[p.spec.name]))
        write_networks(run, session, reports, ASSUMPTIONS, shlex.join(["hetsim", *run.manifest.argv[1:]]))
    if output == "json":
        print_json(document)
    else:
        for p in planned:
            print_tables(
                *candidate_tables(rows[p.spec.name], by_p90=p.risk == "p90"),
                _beside(p),
                *_in_full(p),
                *p.result.explanation,
                *_next(better[p.spec.name]),
                _counts(p),
                "",
            )
    talk(f"saved {run.path}")


def _report(
    planned: Planned, rows: Sequence[CandidateRow], best: Prediction, better: Sequence[Sensitivity]
) -> NetworkReport:
    """What the page says of one network: the chosen plan, beside the even split where that fits."""
    from hetsim.report.page import Step

    even = next((row.plan for row in planned.result.baselines if row.name == EVEN_SPLIT), None)
    cases = {EVEN_SPLIT if even == best.plan else planned.result.chosen.name: best}
    if even is not None and even != best.plan:
        cases = {EVEN_SPLIT: planned.predict(even)} | cases
    devices = summarise_devices(best.timeline, best.plan, network=planned.spec.name, case="chosen", label="predicted")
    report = network_report(planned, rows, Step(best.plan, best.timeline), devices)
    shown = (
        CaseRow(planned.spec.name, name, str(p.plan), p.step_s, p.low_s, p.high_s, chosen=p is best)
        for name, p in cases.items()
    )
    explanation = planned.result.explanation
    return replace(
        report,
        cases=tuple(shown),
        headline="" if planned.result.objective.is_time_alone else explanation[0],
        by_p90=planned.risk == "p90",
        reasons=(*explanation, *_next(better), _counts(planned)),
        beside=_beside(planned),
    )


def _answer(session: Session, spec: NetworkSpec, wish: Wish) -> tuple[Planned, list[CandidateRow]]:
    """The planner's answer for one network, and its best candidates with their intervals."""
    with search_progress(spec.name, quiet=wish.quiet) as report:
        watch = Watch(wish.time_limit_s, report)
        with ctrl_c_stops(watch):
            planned = plan_network(session, spec, watch)
        if watch.stopped:
            talk("stopped; Ctrl-C once more leaves out what is still to be worked out for the plans found")
        report("intervals of the best candidates", planned.result.chosen.step_s, planned.result.lower_bound_s)
        planned = by_risk(planned, watch) if wish.risk == "p90" else planned
        return planned, candidate_rows(planned)


def _beside(planned: Planned) -> Rows:
    """The baselines and the corners of the search, the best first, with how much more they come to than the chosen plan."""
    chosen, result = planned.result.chosen, planned.result
    least = result.objective.least
    bills = {row.plan: planned.bill(row.plan, row.step_s) for row in (chosen, *result.baselines, *result.corners)}

    def value(row: Candidate) -> float:
        return figure_of(least, row.step_s, bills[row.plan])

    beside = sorted((*result.baselines, *result.corners), key=value)
    figures = [(bills[row.plan].per_million, bills[row.plan].kwh_per_million) for row in beside]
    names, texts = figure_columns(figures, planned.tariff.economics.currency)
    rows = (
        (
            row.name,
            outline(row.plan, planned.costs.cluster),
            format_seconds(row.step_s),
            *told,
            f"{value(row) / value(chosen):.2f}{TIMES}" if value(chosen) else NONE,
            "beyond" if row.excess(result.objective) > 0 else "",
        )
        for row, told in zip(beside, texts, strict=True)
    )
    ratio = {"time": "of the chosen step", "money": "of the chosen cost", "energy": "of the chosen energy"}[least]
    return Rows("beside it", ("case", "plan"), ("step time", *names, ratio, "limits"), tuple(rows)).without_empty()


def _in_full(planned: Planned) -> list[str]:
    """The chosen plan as `--plan` takes it, where the table shows an outline."""
    plan = planned.result.chosen.plan
    return [f"Plan 1 in full: {plan}"] if outline(plan, planned.costs.cluster) != str(plan) else []


def _next(better: Sequence[Sensitivity]) -> list[str]:
    """The best three improvements, in one sentence."""
    best = [f"{row.what} takes {row.gain:.1%} off the step" for row in better[:3]]
    return [f"What would help next: {'; '.join(best)}."] if best else []


def _counts(planned: Planned) -> str:
    """How much was looked at, and how far from the best possible the answer can be."""
    result = planned.result
    infeasible = ", ".join(f"{reason} {count}" for reason, count in result.infeasible_counts.items())
    left_open = f"left open {result.left_open}" if result.left_open else ""
    parts = [
        f"considered {result.considered}",
        f"solved {result.solved}",
        f"ruled out by bounds {result.ruled_out}",
        f"infeasible {sum(result.infeasible_counts.values())}" + (f" ({infeasible})" if infeasible else ""),
        left_open,
        f"not priceable {len(result.unpriceable)}",
        f"plans evaluated {result.evaluated}",
        _gap(result) or "no lower bound",
        "the search was ended early" if result.ended_early else "",
    ]
    return " · ".join(filter(None, parts))


def _gap(result: PlanningResult) -> str:
    """How far from the best possible the answer can be; empty where that is not known."""
    if result.gap is None:
        return ""
    better = {"time": "faster", "money": "cheaper", "energy": "more frugal"}[result.objective.least]
    if result.objective.least == "time":
        return f"the best possible is at most {result.gap:.1%} {better}"
    return f"the best possible is at most {result.gap / (1 + result.gap):.1%} {better}"


def _document(
    session: Session,
    planned: Sequence[Planned],
    rows: dict[str, list[CandidateRow]],
    better: dict[str, tuple[Sensitivity, ...]],
) -> dict[str, Any]:
    networks = [
        {
            "network": p.spec.name,
            "chosen": str(p.result.chosen.plan),
            "risk": p.risk,
            "objective": {"least": p.result.objective.least, "limits": _limits(p.result.objective)},
            **_figures(p, p.result.chosen),
            "lower_bound": p.result.lower_bound,
            "lower_bound_s": p.result.lower_bound_s,
            "plain_bound_s": p.result.plain_bound_s,
            "gap": p.result.gap,
            "ended_early": p.result.ended_early,
            "sensitivity": [{"what": row.what, "gain": row.gain} for row in better[p.spec.name]],
            "explanation": list(p.result.explanation),
            "baselines": [{"name": b.name, "plan": str(b.plan), **_figures(p, b)} for b in p.result.baselines],
            "corners": [{"name": c.name, "plan": str(c.plan), **_figures(p, c)} for c in p.result.corners],
            "considered": p.result.considered,
            "solved": p.result.solved,
            "ruled_out": p.result.ruled_out,
            "left_open": p.result.left_open,
            "evaluated": p.result.evaluated,
            "unsearched": list(p.result.unsearched),
            "infeasible": [
                {"what": r.what, "reason": r.reason, "detail": r.detail, "count": r.count} for r in p.result.infeasible
            ],
            "unpriceable": list(p.result.unpriceable),
            "transferred": transferred_types(p.costs.table),
            "outdated": session.outdated if p.spec in session.live else [],
        }
        for p in planned
    ]
    candidates = [row for p in planned for row in rows[p.spec.name]]
    return {
        **plans_document(candidates),
        "scenario": session.scenario.name,
        "currency": session.scenario.economics.currency,
        "networks": networks,
    }


def _figures(planned: Planned, row: Candidate) -> dict[str, float | None]:
    """What a plan comes to; null where it is unknown."""
    bill = planned.bill(row.plan, row.step_s)
    return {"step_s": row.step_s, "money_per_million": bill.per_million, "kwh_per_million": bill.kwh_per_million}


def _limits(objective: Objective) -> dict[str, float]:
    return {limit_name(figure): limit for figure, limit in objective.limits.items()}
