"""The page of a what-if: answers, tables, figures, assumptions, where every number comes from. All of it from its run directory."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hetsim.files import slug, write_text
from hetsim.plan import Plan
from hetsim.report.page import rendered
from hetsim.report.rows import BatchCurve
from hetsim.report.study import answers, study_tables
from hetsim.report.text import format_error
from hetsim.timeline import Timeline
from hetsim.units import format_percent, format_seconds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = "study.html.jinja"

Document = Mapping[str, Any]

ASSUMPTIONS = (
    "Every variant is planned anew: a bought device with the old split would be no answer.",
    "The global batch stays as it is, so training is mathematically the same on every variant.",
    "Everything that the cluster owns is paid for, whether the plan uses it or not; purchases are written off evenly.",
    "A figure for which a price or a power is missing is unknown, not zero.",
    "Intervals hold 90 % of what the costs' errors allow; those of two variants are drawn together, so that common errors cancel.",
    "Data loading is not part of a step: each batch is on its device when the step begins.",
)  # fmt: skip

AS_IT_IS = "as it is"


@dataclass(frozen=True, slots=True)
class Step:
    """One step to draw: of a network, on the cluster as it is or on the variant that the page shows beside it."""

    variant: str
    network: str
    predicted: Timeline
    measured: Timeline | None = None
    """Of a run on file of the very plan."""

    @property
    def file(self) -> str:
        """Its timelines in the run directory: `FILE-predicted`, and `FILE-measured` where there is one."""
        return step_file(self.variant, self.network)


def step_file(variant: str, network: str) -> str:
    """How the timelines of a step are called in a run directory, without `-predicted` and `-measured`."""
    return slug(f"{AS_IT_IS if variant == AS_IT_IS else 'variant'} {network}")


def shown_variant(document: Document) -> str | None:
    """The variant whose steps are drawn beside those of the cluster as it is; None where there is none.

    The one with which a sample costs least, where money is known of all; else the fastest.
    """
    variants = document["variants"]
    if not variants:
        return None
    by_money = all(row["per_million"] for row in (document["as_it_is"], *variants))
    best = min(variants, key=lambda row: row["per_million"] if by_money else -row["samples_per_s"])
    return str(best["name"])


class _Picture(NamedTuple):
    svg: str
    caption: str


def write_study_page(path: Path, document: Document, steps: Sequence[Step], facts: Mapping[str, str], command: str) -> None:
    """Write the page, whole or not at all. It fetches nothing and runs nothing."""
    from hetsim.report.figures import svg_markup

    def drawn(figures: Iterator[tuple[Figure, str]], key: str) -> list[_Picture]:
        return [
            _Picture(svg_markup(figure, key=f"{key}{number}", label=label), label)
            for number, (figure, label) in enumerate(figures)
        ]

    names = list(document["layers"])
    page = rendered(
        TEMPLATE,
        {"seconds": format_seconds, "error": format_error, "percent": format_percent},
        document=document,
        answers=answers(document),
        tables=list(study_tables(document)),
        pictures=drawn(_figures(document), "f"),
        networks=[(name, drawn(_network_figures(document, steps, name), f"n{i}f")) for i, name in enumerate(names)],
        plans=list(_plans(document)),
        assumptions=[*ASSUMPTIONS, *_transferred(document)],
        off=_how_far_off(document),
        facts=facts,
        command=command,
    )
    write_text(path, page)


def _figures(document: Document) -> Iterator[tuple[Figure, str]]:
    from hetsim.report.study_figures import changes_figure, front_figure, hinges_figure, worth_figure

    if document["variants"]:
        yield changes_figure(document), "What each variant changes, with 90 % intervals"
    if document["worth"]:
        yield worth_figure(document), "What the throughput gains by each device, with 90 % intervals"
    if document["purchases"] is not None:
        yield (
            front_figure(document),
            "Every purchase that was planned: throughput against money, and against energy; the lines are the fronts",
        )
    if document["hinges"]:
        yield hinges_figure(document), "How the advantage of the variant moves with each input"


def _network_figures(document: Document, steps: Sequence[Step], network: str) -> Iterator[tuple[Figure, str]]:
    """Steps, splits and batch curves of one network."""
    from hetsim.report.curves import curves_figure
    from hetsim.report.gantt import panels_figure
    from hetsim.report.plan_picture import split_figure

    mine = [step for step in steps if step.network == network]
    plans = {variant: Plan.parse(plan) for variant, name, plan, _ in _plans(document) if name == network}
    if mine:
        notes = [f"{step.variant}: {plans[step.variant]}" for step in mine]
        label = "What each device does in the course of one step; the numbers are those of the microbatches"
        if any(step.measured for step in mine):
            label += "; below the prediction, what was measured when that plan was run"
        yield (
            panels_figure([panel for step in mine for panel in _panels(step, plans[step.variant])], "One step", notes),
            label,
        )
    seen: set[Plan] = set()
    for step in mine:
        plan = plans[step.variant]
        if plan not in seen:
            seen.add(plan)
            who = " and ".join(s.variant for s in mine if plans[s.variant] == plan)
            yield (
                split_figure(plan, document["layers"][network], f"Who does what: {who}"),
                f"Which device holds which layers, and which share of the batch: {who}",
            )
    transferred = {kind for v in _variants(document) for row in v["networks"] for kind in row["transferred"]}
    curves = [
        BatchCurve(
            network,
            f"{row['device_type']}, transferred" if row["device_type"] in transferred else row["device_type"],
            tuple(row["microbatches"]),
            tuple(row["seconds"]),
        )
        for row in document["curves"]
        if row["network"] == network
    ]
    if curves:
        label = (
            "What one sample costs each device type by the size of the microbatch: the ratio of two devices is no constant"
        )
        yield curves_figure(curves, "Cost of a sample"), label


def _panels(step: Step, plan: Plan) -> Iterator[Any]:
    from hetsim.report.gantt import Panel

    yield Panel(f"{step.variant}, predicted", step.predicted, plan)
    if step.measured is not None:
        yield Panel(f"{step.variant}, measured", step.measured, plan, step.predicted.step_s)


def _variants(document: Document) -> list[Document]:
    return [document["as_it_is"], *document["variants"]]


def _plans(document: Document) -> Iterator[tuple[str, str, str, float | None]]:
    """(variant, network, plan, gap)"""
    for variant in _variants(document):
        for row in variant["networks"]:
            yield variant["name"], row["network"], row["plan"], row["gap"]


def _transferred(document: Document) -> list[str]:
    kinds = {kind for v in _variants(document) for row in v["networks"] for kind in row["transferred"]}
    return [f"Never measured, priced by transfer from others: {', '.join(sorted(kinds))}."] if kinds else []


def _how_far_off(document: Document) -> str:
    """What is known of the predictions' error, in words."""
    cases = document["held_out_runs"]
    if not cases:
        return (
            "No run on file says how far these predictions are off: no plan of this scenario was predicted, then run, and "
            f"measured, with these costs. On the machines themselves: {document['validate']}"
        )
    errors = [abs(case["error"]) for case in cases]
    runs = len({case["run"] for case in cases})
    inside = sum(case["inside"] for case in cases)
    changed = "" if all(case["same_scenario"] for case in cases) else " Some of them with an earlier text of the scenario."
    return (
        f"{len(cases)} plans of these networks were predicted first and then run, in {runs} validation{'s' * (runs > 1)} on file. "
        f"The predictions missed the measured steps by {format_percent(statistics.median(errors))} at the median and "
        f"{format_percent(max(errors))} at most; {inside} of {len(cases)} lie in their 90 % intervals.{changed}"
    )
