"""The report: one HTML file with everything in it, answer first. No script, nothing fetched from anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hetsim.actions import ActionError
from hetsim.files import write_text
from hetsim.hardware import Cluster, DeviceType
from hetsim.plan import Plan
from hetsim.report import text
from hetsim.report.rows import BatchCurve, CandidateRow, CaseRow, CostSummary, DeviceRow, speedup
from hetsim.report.tables import Rows, candidate_tables
from hetsim.runs import Manifest
from hetsim.timeline import Timeline
from hetsim.units import format_bytes, format_percent, format_seconds
from hetsim.workload import Chain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = "page.html.jinja"


@dataclass(frozen=True, slots=True)
class Step:
    """One plan's step, for the Gantt chart."""

    plan: Plan
    predicted: Timeline
    measured: Timeline | None = None


@dataclass(frozen=True, slots=True)
class NetworkReport:
    """What the report says of one network. What is left empty is left out."""

    name: str
    description: str = ""
    """The training set-up in a line, e.g. `9 layers, 1.2 M parameters, global batch 64, SGD`."""

    cases: tuple[CaseRow, ...] = ()
    headline: str = ""
    """The answer in a sentence, where that is another one than how much faster than the even split it is."""

    reasons: tuple[str, ...] = ()
    """Why the chosen plan: one sentence each."""

    candidates: tuple[CandidateRow, ...] = ()
    by_p90: bool = False
    """Whether these are ranked by what they stay under nine times in ten."""

    beside: Rows | None = None
    """The baselines."""

    devices: tuple[DeviceRow, ...] = ()
    actions: tuple[ActionError, ...] = ()
    """Of the chosen plan's step."""

    chosen: Step | None = None
    chain: Chain | None = None
    curves: tuple[BatchCurve, ...] = ()
    costs: CostSummary | None = None


@dataclass(frozen=True, slots=True)
class ReportContent:
    """What the report says."""

    title: str
    networks: tuple[NetworkReport, ...]
    cluster: Cluster | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Facts about where the figures come from, by name; see `manifest_facts`."""

    assumptions: tuple[str, ...] = ()
    """Sentences."""

    commands: tuple[str, ...] = ()
    """Commands that reproduce the report, in order."""


class _Picture(NamedTuple):
    """A figure on the page."""

    svg: str
    caption: str


def write_page(path: Path, content: ReportContent) -> None:
    """Write the report to `path`, whole or not at all."""
    write_text(path, render_page(content))


def render_page(content: ReportContent) -> str:
    """The report as HTML; the same content gives the same text."""
    filters: dict[str, Callable[..., object]] = {
        "seconds": format_seconds,
        "interval": lambda row: text.format_interval(row.low_s, row.high_s),
        "error": text.format_error,
        "speedup": text.format_speedup,
        "measured": text.format_measured,
        "percent": format_percent,
    }
    return rendered(
        TEMPLATE,
        filters,
        content=content,
        pictures=[list(_pictures(network, number)) for number, network in enumerate(content.networks)],
        device_types=_device_types(content.cluster) if content.cluster else [],
        answer=text.answer,
        regret=text.regret,
        considered=lambda network: candidate_tables(network.candidates, by_p90=network.by_p90),
        speedup=speedup,
        chosen_case=lambda network: next((case for case in network.cases if case.chosen), None),
    )


def rendered(template: str, filters: Mapping[str, Callable[..., object]], **names: object) -> str:
    """The page that the file `template` of this package makes of `names`, in the dress that all pages have."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= filters
    folder = files(__package__)
    page = environment.from_string(folder.joinpath(template).read_text(encoding="utf-8"))
    return page.render(css=folder.joinpath("page.css").read_text(encoding="utf-8"), **names)


def manifest_facts(manifest: Manifest) -> dict[str, str]:
    """What a run's manifest says about where its figures come from, by name, for people."""
    host = manifest.host
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items() if version is not None)
    facts = {
        "made": manifest.created_utc,
        "machine": f"{host.cpu_model}, {host.cores} cores, {format_bytes(host.memory_bytes)}, {host.kernel}",
        "software": versions,
        "seed": str(manifest.seed),
    }
    facts |= {f"input {digest.path}": f"SHA-256 {digest.sha256[:16]}…" for digest in manifest.inputs}
    return facts


def _pictures(network: NetworkReport, number: int) -> Iterator[_Picture]:
    """The network's figures as markup, in the order of the page."""
    from hetsim.report.bars import comparison_figure
    from hetsim.report.curves import curves_figure
    from hetsim.report.figures import svg_markup
    from hetsim.report.gantt import gantt_figure
    from hetsim.report.plan_picture import plan_figure

    figures: list[tuple[Figure, str]] = []
    if network.cases:
        ran = any(case.measured_s is not None for case in network.cases)
        title = "Predicted and measured step" if ran else "Predicted step"
        figures.append((comparison_figure(network.cases, title), "Steps of the plans compared"))
    if network.chosen is not None:
        step = network.chosen
        label = "What each device does in the course of one step; the numbers are those of the microbatches"
        figures.append((gantt_figure(step.predicted, step.measured, step.plan, "One step of the chosen plan"), label))
        if network.chain is not None:
            figures.append(
                (plan_figure(step.plan, network.chain), "Which device holds which layers, and which share of the batch")
            )
    if network.curves:
        label = (
            "What one sample costs each device type by the size of the microbatch: the ratio of two devices is no constant"
        )
        figures.append((curves_figure(network.curves, "Cost of a sample"), label))
    for place, (figure, label) in enumerate(figures):
        yield _Picture(svg_markup(figure, key=f"n{number}f{place}", label=f"{network.name}: {label}"), label)


def _device_types(cluster: Cluster) -> list[tuple[str, int, str]]:
    """(name, number of devices, how it is driven) of each type that the cluster has."""
    counts = Counter(device.type for device in cluster.devices)
    return [(kind.name, counts[kind.name], _described(kind)) for kind in cluster.used_types]


def _described(kind: DeviceType) -> str:
    words = {
        "cpu": f"CPU, {kind.threads} thread{'s' * (kind.threads > 1)}",
        "cuda": "accelerator",
        "paper": "specification only",
    }
    cap = f", instructions up to {kind.isa}" if kind.backend == "cpu" and kind.isa != "full" else ""
    memory = f", {format_bytes(kind.memory_bytes)}" if kind.memory_bytes is not None else ""
    return words[kind.backend] + cap + memory
