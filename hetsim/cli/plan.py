"""`hetsim plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hetsim.cli.options import OutputFormat
from hetsim.cli.output import print_json, talk
from hetsim.cli.planning import Planned, by_risk, candidate_rows, improvements, plan_network
from hetsim.cli.progress import search_progress
from hetsim.cli.session import Session
from hetsim.costs.transfer import transferred_types
from hetsim.planner import Watch
from hetsim.planner.sensitivity import Sensitivity
from hetsim.report.result import plans_document
from hetsim.report.rows import CandidateRow
from hetsim.report.tables import Rows
from hetsim.report.text import NONE, TIMES
from hetsim.scenario.types import NetworkSpec
from hetsim.units import format_seconds


@dataclass(frozen=True, slots=True)
class Wish:
    """How the user wants plans to be searched and ranked."""

    time_limit_s: float | None = None
    risk: Literal["median", "p90"] = "median"
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
    answers = [_answer(session, spec, wish) for spec in session.scenario.networks]
    planned = [p for p, _ in answers]
    rows = {p.spec.name: mine for p, mine in answers}
    better = {p.spec.name: improvements(p) for p in planned}
    document = _document(session, planned, rows, better)
    with session.new_run(runs) as run:
        run.write_json("plans.json", document)
        for p in planned:
            best = p.predict(p.result.chosen.plan)
            run.write_timeline(f"{p.spec.name}-predicted", best.timeline)
            draw_gantt(
                best.timeline, None, best.plan, run.file(f"figures/{p.spec.name}.svg"), title=f"{p.spec.name}: {best.plan}"
            )
            draw_plan(best.plan, p.costs.chain, run.file(f"figures/{p.spec.name}-plan.svg"))
    if output == "json":
        print_json(document)
    else:
        for p in planned:
            print_tables(
                *candidate_tables(rows[p.spec.name]),
                _beside(p),
                *p.result.explanation,
                *_next(better[p.spec.name]),
                _counts(p),
                "",
            )
    talk(f"saved {run.path}")


def _answer(session: Session, spec: NetworkSpec, wish: Wish) -> tuple[Planned, list[CandidateRow]]:
    """The planner's answer for one network, and its best candidates with their intervals."""
    with search_progress(spec.name, quiet=wish.quiet) as report:
        planned = plan_network(session, spec, Watch(wish.time_limit_s, report))
        report("intervals of the best candidates", planned.result.chosen.step_s, planned.result.lower_bound_s)
        planned = by_risk(planned) if wish.risk == "p90" else planned
        return planned, candidate_rows(planned)


def _beside(planned: Planned) -> Rows:
    """The baselines and the corners of the search, the fastest first, with how much longer they take than the chosen plan."""
    chosen, result = planned.result.chosen, planned.result
    beside = sorted((*result.baselines, *result.corners), key=lambda row: row.step_s)
    rows = (
        (
            row.name,
            str(row.plan),
            format_seconds(row.step_s),
            f"{row.step_s / chosen.step_s:.2f}{TIMES}" if chosen.step_s else NONE,
        )
        for row in beside
    )
    return Rows("beside it", ("case", "plan"), ("step time", "of the chosen step"), tuple(rows))


def _next(better: Sequence[Sensitivity]) -> list[str]:
    """The best three improvements, in one sentence."""
    best = [f"{row.what} takes {row.gain:.1%} off the step" for row in better[:3]]
    return [f"What would help next: {'; '.join(best)}."] if best else []


def _counts(planned: Planned) -> str:
    """How much was looked at, and how far from the best possible the answer can be."""
    result = planned.result
    infeasible = ", ".join(f"{reason} {count}" for reason, count in result.infeasible_counts.items())
    return (
        f"considered {result.considered} · infeasible {sum(result.infeasible_counts.values())}"
        f"{f' ({infeasible})' if infeasible else ''} · not priceable {len(result.unpriceable)} · "
        + ("no lower bound" if result.gap is None else f"the best possible is at most {result.gap:.1%} faster")
        + (" · the search was ended early" if result.ended_early else "")
    )


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
            "step_s": p.result.chosen.step_s,
            "lower_bound_s": p.result.lower_bound_s,
            "gap": p.result.gap,
            "ended_early": p.result.ended_early,
            "sensitivity": [{"what": row.what, "gain": row.gain} for row in better[p.spec.name]],
            "explanation": list(p.result.explanation),
            "baselines": [{"name": b.name, "plan": str(b.plan), "step_s": b.step_s} for b in p.result.baselines],
            "corners": [{"name": c.name, "plan": str(c.plan), "step_s": c.step_s} for c in p.result.corners],
            "considered": p.result.considered,
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
    return {**plans_document(candidates), "scenario": session.scenario.name, "networks": networks}
