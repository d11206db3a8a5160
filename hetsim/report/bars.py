"""The cases of a validation side by side: predicted and measured step as bars."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hetsim.report import figures as f
from hetsim.report.rows import CaseRow, networks_of, speedup
from hetsim.report.text import format_error, format_measured, format_speedup
from hetsim.units import format_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH_IN = 10.0
_COLUMNS = (("predicted / measured", 1.55), ("error", 2.2), ("vs even split", 3.05))
"""Figures beside the bars, and where each column ends, in inches right of them."""


def draw_comparison(cases: Sequence[CaseRow], path: Path, title: str) -> None:
    """Draw predicted and measured step of each case to `path` (PNG or SVG). Raises InputError on another suffix."""
    f.save_figure(comparison_figure(cases, title), path)


def comparison_figure(cases: Sequence[CaseRow], title: str) -> Figure:
    """One panel a network, one row a case: both steps as bars with their intervals, the error, the gain over the even split.

    The chosen case stands on a shaded row, in bold.
    """
    networks = networks_of(cases)
    row_in, head_in, panel_in, foot_in = 0.42, 0.5, 0.42, 0.45
    height_in = head_in + (panel_in + foot_in) * len(networks) + row_in * len(cases)
    longest = max((len(line) for case in cases for line in _label(case).split("\n")), default=0)
    left_in = f.MARGIN_IN + f.LETTER_IN * longest + 0.15
    width_in = _WIDTH_IN - left_in - _COLUMNS[-1][1] - f.MARGIN_IN
    with f.new_figure(_WIDTH_IN, height_in) as figure:
        f.add_text(figure, f.MARGIN_IN, 0.34, title, fontsize=12, fontweight="bold")
        top_in = head_in
        for network in networks:
            mine = [case for case in cases if case.network == network]
            axes = f.add_axes(figure, left_in, top_in + panel_in, width_in, row_in * len(mine))
            _compare(axes, mine, network, width_in)
            top_in += panel_in + row_in * len(mine) + foot_in
        ran = any(case.measured_s is not None for case in cases)
        measured = [("measured, interval of the median", f.BACKWARD)] if ran else []
        f.add_legend(figure, [("predicted, 90 % interval", f.FORWARD), *measured])
    return figure


def _compare(axes: Axes, cases: Sequence[CaseRow], network: str, width_in: float) -> None:
    """One network's panel, `width_in` inches wide."""
    longest_s = max(max(case.high_s, case.measured_high_s or case.measured_s or 0.0) for case in cases)
    unit, scale = f.unit_of(longest_s)
    axes.set_xlim(0, longest_s / scale * 1.03 or 1.0)
    axes.set_ylim(len(cases), 0)
    axes.grid(axis="x", color=f.GRID, linewidth=0.6)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.set_xlabel(f"step time, {unit}", fontsize=7.5)
    axes.set_yticks([number + 0.5 for number in range(len(cases))], [_label(case) for case in cases])
    axes.annotate(
        network, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", fontsize=9, fontweight="bold"
    )
    for text, place_in in _COLUMNS:
        _beside(axes, text, place_in / width_in, -0.2, color=f.SOFT, fontsize=7.5)
    for number, (case, label) in enumerate(zip(cases, axes.get_yticklabels(), strict=True)):
        weight = "bold" if case.chosen else "normal"
        label.set_fontweight(weight)
        if case.chosen:
            axes.axhspan(number, number + 1, color=f.TRACK, zorder=0)
        _bar(axes, number + 0.3, case.predicted_s / scale, case.low_s / scale, case.high_s / scale, f.FORWARD)
        if case.measured_s is not None:
            low_s, high_s = case.measured_low_s or case.measured_s, case.measured_high_s or case.measured_s
            _bar(axes, number + 0.7, case.measured_s / scale, low_s / scale, high_s / scale, f.BACKWARD)
        texts = (f"{format_seconds(case.predicted_s)} / {format_measured(case)}", format_error(case.error))
        for text, (_, place_in) in zip((*texts, format_speedup(speedup(cases, case))), _COLUMNS, strict=True):
            _beside(axes, text, place_in / width_in, number + 0.5, fontweight=weight)


def _label(case: CaseRow) -> str:
    return "\n".join(textwrap.wrap(case.name, 26))


def _bar(axes: Axes, y: float, value: float, low: float, high: float, colour: str) -> None:
    axes.barh(y, value, height=0.36, color=colour)
    axes.plot([low, high], [y, y], color=f.INK, linewidth=1.1, marker="|", markersize=5, markeredgewidth=1.1)


def _beside(axes: Axes, text: str, right: float, y: float, **style: Any) -> None:
    """Text at the height of `y` that ends `right` of the axes, as a share of their width."""
    axes.annotate(text, (1 + right, y), xycoords=("axes fraction", "data"), ha="right", va="center_baseline", **style)
