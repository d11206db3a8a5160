"""The Gantt chart: the predicted step above the measured one, on one axis of time.

Each device has a row: its computation as a bar, with the numbers of the microbatches; below it, thin, the messages under
way from or to it and the gradient exchanges that it stands in.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hetsim.communication import Interval, exchanges, messages
from hetsim.plan import Plan
from hetsim.report import figures as f
from hetsim.report.summary import ordered_devices
from hetsim.schedule import Action, Kind
from hetsim.timeline import Span, Timeline
from hetsim.units import format_percent, format_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {Kind.FORWARD: f.FORWARD, Kind.BACKWARD: f.BACKWARD, Kind.UPDATE: f.UPDATE}
_WORDS = {Kind.FORWARD: "forward", Kind.BACKWARD: "backward"}

_WIDTH_IN, _RIGHT_IN = 10.0, 0.3
_BAR = 0.56
"""Height of the compute bar, of a row's 1."""

_STRIP = 0.12
"""Height of a communication strip."""

MOST_ROWS = 64
"""Devices that are drawn; of more, the first ones."""

_REPLICA_GAP = 0.35
"""Space between the rows of two replicas, in rows."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One step of one plan."""

    name: str
    timeline: Timeline
    plan: Plan
    predicted_s: float | None = None
    """Of a measured step: what was predicted for it."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One device's row: its place, and what is drawn in it."""

    device: str
    top: float
    computing: tuple[Span, ...]
    strips: tuple[tuple[str, Sequence[Interval]], ...]
    """Colour and intervals of each kind of communication that the plan has."""


def draw_gantt(predicted: Timeline, measured: Timeline | None, plan: Plan, path: Path, title: str) -> None:
    """Draw the step of `plan` to `path` (PNG or SVG, by its suffix). Raises InputError on another suffix."""
    f.save_figure(gantt_figure(predicted, measured, plan, title), path)


def gantt_figure(predicted: Timeline, measured: Timeline | None, plan: Plan, title: str) -> Figure:
    """The same as a figure."""
    panels = [Panel("predicted", predicted, plan)]
    panels += [Panel("measured", measured, plan, predicted.step_s)] if measured is not None else []
    return panels_figure(panels, title, [str(plan)])


def panels_figure(panels: Sequence[Panel], title: str, notes: Sequence[str]) -> Figure:
    """Steps one above the other on one axis of time; `notes` are lines below the title. Of many devices the first are drawn."""
    most = max(len(ordered_devices(panel.timeline, panel.plan)) for panel in panels)
    notes = [*notes, *([f"The first {MOST_ROWS} of {most} devices."] if most > MOST_ROWS else [])]
    rows = [_rows(panel.timeline, panel.plan) for panel in panels]
    heights = [group[-1].top + 1 if group else 1 for group in rows]
    row_in = min(0.46, max(0.2, 5.0 / sum(heights)))
    longest = max((len(row.device) for group in rows for row in group), default=0)
    left_in = f.MARGIN_IN + f.LETTER_IN * max(longest, 4) + 0.1
    note_lines = [line for note in notes for line in textwrap.wrap(note, 128)]
    top_in = 0.4 + 0.15 * len(note_lines)
    panel_in = 0.45
    height_in = top_in + sum(panel_in + row_in * height for height in heights) + 0.5
    end_s = max(panel.timeline.step_s for panel in panels) or 1e-9
    with f.new_figure(_WIDTH_IN, height_in) as figure:
        f.add_text(figure, f.MARGIN_IN, 0.34, title, fontsize=12, fontweight="bold")
        f.add_text(figure, f.MARGIN_IN, 0.42, "\n".join(note_lines), fontsize=7.5, color=f.SOFT, va="top", linespacing=1.35)
        width_in = _WIDTH_IN - left_in - _RIGHT_IN
        for number, (panel, group, height) in enumerate(zip(panels, rows, heights, strict=True)):
            top_in += panel_in
            axes = f.add_axes(figure, left_in, top_in, width_in, row_in * height)
            points_per_ns = width_in * 72 / (end_s * 1e9 * 1.02)
            for row in group:
                _draw_row(axes, row, row_in, points_per_ns, panel.timeline.step_s)
            _dress(axes, group, height, end_s, last=number == len(panels) - 1)
            _mark_step(axes, panel.name, panel.timeline.step_s, panel.predicted_s, row_in)
            top_in += row_in * height
        f.add_legend(figure, _legend({colour for group in rows for row in group for colour, _ in row.strips}))
    return figure


def _rows(timeline: Timeline, plan: Plan) -> list[_Row]:
    travels = messages(timeline, plan)
    reduces = exchanges(timeline)
    replica_of = {device: number for number, replica in enumerate(plan.replicas) for device in replica.devices}
    rows: list[_Row] = []
    for device in ordered_devices(timeline, plan)[:MOST_ROWS]:
        top = rows[-1].top + 1 if rows else 0.0
        if rows and plan.is_cut and replica_of.get(rows[-1].device) != replica_of.get(device):
            top += _REPLICA_GAP
        computing = tuple(s for s in timeline.spans if s.device == device and s.lane == "compute")
        strips: list[tuple[str, Sequence[Interval]]] = []
        if travels:
            strips.append((f.MESSAGE, [m.travel for m in travels if device in (m.send.device, m.receive.device)]))
        if reduces:
            strips.append((f.EXCHANGE, reduces.get(device, [])))
        rows.append(_Row(device, top, computing, tuple(strips)))
    return rows


def _draw_row(axes: Axes, row: _Row, row_in: float, points_per_ns: float, step_s: float) -> None:
    bar_top = row.top + 0.06
    _draw_bars(axes, [(0, round(step_s * 1e9))], bar_top, _BAR, f.TRACK, points_per_ns)
    for kind, colour in _COLOURS.items():
        spans = [(span.start_ns, span.end_ns) for span in row.computing if span.kind is kind]
        _draw_bars(axes, spans, bar_top, _BAR, colour, points_per_ns, edged=True)
    strip_top = bar_top + _BAR + 0.04
    for colour, intervals in row.strips:
        _draw_bars(axes, intervals, strip_top, _STRIP, colour, points_per_ns)
        strip_top += _STRIP + 0.02
    _number_bars(axes, row.computing, bar_top + _BAR / 2, min(6.8, row_in * _BAR * 72 * 0.6), points_per_ns)


def _number_bars(axes: Axes, computing: Sequence[Span], middle: float, size: float, points_per_ns: float) -> None:
    """Write each bar's microbatch into it where it fits; the word where there is but one."""
    single = sum(span.kind is Kind.FORWARD for span in computing) == 1
    for span in computing:
        if span.kind not in _WORDS:
            continue
        text = _WORDS[span.kind] if single else str(Action.parse(span.action).item)
        if (span.end_ns - span.start_ns) * points_per_ns > size * 0.66 * len(text) + 2:
            colour = f.ON_LIGHT if span.kind is Kind.FORWARD else f.ON_DARK
            place = ((span.start_ns + span.end_ns) / 2, middle)
            axes.text(*place, text, ha="center", va="center_baseline", fontsize=size, color=colour)


def _draw_bars(
    axes: Axes,
    intervals: Sequence[Interval],
    top: float,
    height: float,
    colour: str,
    points_per_ns: float,
    *,
    edged: bool = False,
) -> None:
    """Bars of one colour as one path, which keeps a chart of thousands of bars small.

    What is too short to see is drawn a point wide. With `edged` a white edge parts the wider bars.
    """
    import numpy as np
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    least_ns = round(1 / points_per_ns)
    seen = [(start, max(end, start + least_ns)) for start, end in intervals if end > start]
    wide = [bar for bar in seen if edged and (bar[1] - bar[0]) * points_per_ns > 3]
    narrow = [bar for bar in seen if not edged or (bar[1] - bar[0]) * points_per_ns <= 3]
    for group, edge in ((narrow, 0.0), (wide, 0.7)):
        if group:
            corners = [[(a, top), (b, top), (b, top + height), (a, top + height), (a, top)] for a, b in group]
            codes = np.tile([Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY], len(group))
            outline = Outline(np.array(corners, dtype=float).reshape(-1, 2), codes)
            axes.add_patch(PathPatch(outline, facecolor=colour, edgecolor=f.PAPER if edge else "none", linewidth=edge))


def _dress(axes: Axes, rows: Sequence[_Row], height: float, end_s: float, *, last: bool) -> None:
    """Axes, names and grid."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    unit, scale = f.unit_of(end_s)
    axes.set_xlim(0, end_s * 1e9 * 1.02)
    axes.set_ylim(height, 0)
    axes.set_yticks([row.top + 0.06 + _BAR / 2 for row in rows], [row.device for row in rows])
    places = MaxNLocator(nbins=9, steps=[1, 2, 2.5, 5, 10]).tick_values(0, end_s / scale)
    axes.set_xticks([place * scale * 1e9 for place in places if 0 <= place * scale <= end_s * 1.02])
    axes.grid(axis="x", color=f.GRID, linewidth=0.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ns, _: f"{ns / 1e9 / scale:g}"))
    axes.tick_params(axis="x", labelbottom=last, labelsize=7.5)
    if last:
        axes.set_xlabel(f"{unit} after the start of the step", fontsize=7.5)


def _mark_step(axes: Axes, name: str, step_s: float, predicted_s: float | None, row_in: float) -> None:
    """The panel's name, a line where the step ends, and in the measured panel a dashed one where it was predicted to."""
    above: Any = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(name, (0, 1), (0, 5), fontweight="bold", fontsize=9, **above)
    if predicted_s is not None and step_s:
        axes.axvline(predicted_s * 1e9, color=f.INK, linewidth=0.9, linestyle=(0, (3, 2)))
        note = f"dashed: the prediction, {format_percent(predicted_s / step_s - 1, sign=True)}"
        beside = 10 + 5.6 * len(name)
        axes.annotate(note, (0, 1), (beside, 5), fontsize=8, color=f.SOFT, **above)
    top = -0.06 / row_in
    axes.plot([step_s * 1e9] * 2, [axes.get_ylim()[0], top], color=f.INK, linewidth=1.2, clip_on=False)
    text = format_seconds(step_s)
    axes.annotate(text, (step_s * 1e9, 0), (0, 5), textcoords="offset points", ha="right", fontsize=9, fontweight="bold")


def _legend(strips: set[str]) -> list[tuple[str, str]]:
    entries = [("forward", f.FORWARD), ("backward", f.BACKWARD), ("update", f.UPDATE), ("waiting", f.TRACK)]
    both = (("message under way", f.MESSAGE), ("gradient exchange", f.EXCHANGE))
    return entries + [entry for entry in both if entry[1] in strips]
