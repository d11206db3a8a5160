"""The batch curves of single layers as small multiples: a panel a layer, a line a device type."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hetsim.costs.table import LOSS, PSEUDO_LAYERS, LayerCost
from hetsim.report import figures as f

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLES: tuple[tuple[str, str, Literal["-", "--", "-.", ":"]], ...] = (
    (f.BACKWARD, "o", "-"),
    (f.EXCHANGE, "s", "--"),
    (f.UPDATE, "^", "-."),
    (f.MESSAGE, "D", ":"),
    (f.SOFT, "v", "-"),
    (f.FORWARD, "P", "--"),
)
"""Colour, marker and line: three ways to tell two device types apart, as in the curves of whole networks."""

_COLUMNS = 4
_WIDTH_IN, _LEFT_IN, _TOP_IN, _BOTTOM_IN = 10.0, 0.8, 0.55, 0.6
_GAP_IN, _TITLE_IN = 0.45, 0.38
_PANEL_IN, _TALL_PANEL_IN = 1.5, 2.2
"""Height of a panel; of those that fill one line, as there is room."""
_MOST_TICKS = 5
_LEAST_RANGE = 4.0
"""Of an axis of time, from its lower to its upper end: so that noise does not look like a slope."""
_NO_CURVE = tuple(name for name in PSEUDO_LAYERS if name != LOSS)
"""Rows that do not depend on the microbatch."""


@dataclass(frozen=True, slots=True)
class _Panel:
    """What one layer, or a run of layers that cost the same, costs on each device type."""

    title: str
    curves: dict[tuple[str, bool], tuple[LayerCost, ...]]
    """(device type, whether several microbatches were in flight) -> rows by microbatch."""


def draw_layer_curves(rows: Iterable[LayerCost], path: Path, title: str) -> None:
    """Draw the curves of all layers in `rows` to `path` (PNG or SVG, by its suffix). Raises InputError on another suffix."""
    f.save_figure(layer_curves_figure(rows, title), path)


def layer_curves_figure(rows: Iterable[LayerCost], title: str) -> Figure:
    """Time per sample of forward and backward against the microbatch, a panel a layer, each with logarithmic axes of its own.

    Bars are the 95 % intervals of the medians. Hollow markers are rows with several microbatches in flight. Rows that are
    split over several devices are left out.
    """
    kept = [row for row in rows if row.layer not in _NO_CURVE and row.tensor_parallel == 1]
    kinds = list(dict.fromkeys(row.device_type for row in kept))
    panels = _panels(kept)
    per_sample = [_per_sample(row) for row in kept if _per_sample(row) > 0]
    unit, scale = f.unit_of(max(per_sample, default=1.0))
    columns = min(_COLUMNS, max(1, len(panels)))
    lines = math.ceil(len(panels) / columns) or 1
    panel_in = _TALL_PANEL_IN if lines == 1 else _PANEL_IN
    height_in = _TOP_IN + lines * (panel_in + _TITLE_IN) + _BOTTOM_IN
    width_in = (_WIDTH_IN - _LEFT_IN - f.MARGIN_IN - (columns - 1) * _GAP_IN) / columns
    with f.new_figure(_WIDTH_IN, height_in) as figure:
        f.add_text(figure, f.MARGIN_IN, 0.34, title, fontsize=12, fontweight="bold")
        f.add_text(figure, f.MARGIN_IN, 0.56, _told(kept), fontsize=7.5, color=f.SOFT)
        for number, panel in enumerate(panels):
            line, column = divmod(number, columns)
            left_in = _LEFT_IN + column * (width_in + _GAP_IN)
            top_in = _TOP_IN + _TITLE_IN + line * (panel_in + _TITLE_IN)
            axes = f.add_axes(figure, left_in, top_in, width_in, panel_in)
            _draw_panel(axes, panel, kinds, scale)
            _set_sizes(axes, sorted({row.microbatch for row in kept}), labelled=number + columns >= len(panels))
            _set_times(axes, [_per_sample(row) / scale for rows in panel.curves.values() for row in rows])
        figure.supylabel(f"forward + backward, {unit} per sample", x=0.12 / _WIDTH_IN, fontsize=7.5, color=f.SOFT)
        f.add_text(figure, _LEFT_IN, height_in - 0.2, "samples in a microbatch", fontsize=7.5, color=f.SOFT)
        _legend(figure, kinds)
    return figure


def _panels(rows: Sequence[LayerCost]) -> list[_Panel]:
    """A panel a layer, in the order of the table; neighbours that cost the same everywhere share one."""
    by_layer: dict[str, list[LayerCost]] = defaultdict(list)
    for row in rows:
        by_layer[row.layer].append(row)
    groups: list[tuple[list[str], frozenset[object]]] = []
    for layer, mine in by_layer.items():
        cost = frozenset((r.device_type, r.in_flight, r.microbatch, r.forward_s, r.backward_s, r.spread) for r in mine)
        if groups and groups[-1][1] == cost:
            groups[-1][0].append(layer)
        else:
            groups.append(([layer], cost))
    return [_Panel(_title(layers), _curves(by_layer[layers[0]])) for layers, _ in groups]


def _title(layers: Sequence[str]) -> str:
    return layers[0] if len(layers) == 1 else f"{layers[0]} to {layers[-1]} ({len(layers)} alike)"


def _curves(rows: Sequence[LayerCost]) -> dict[tuple[str, bool], tuple[LayerCost, ...]]:
    curves: dict[tuple[str, bool], list[LayerCost]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.microbatch):
        curves[row.device_type, row.in_flight > 1].append(row)
    return {key: tuple(curve) for key, curve in curves.items()}


def _per_sample(row: LayerCost) -> float:
    return (row.forward_s + row.backward_s) / row.microbatch


def _told(rows: Sequence[LayerCost]) -> str:
    parts = ["bars: 95 % interval of the median"] if any(row.spread for row in rows) else ["no intervals are known"]
    if any(row.in_flight > 1 for row in rows):
        parts.append("hollow: several microbatches in flight")
    return " · ".join(parts)


def _draw_panel(axes: Axes, panel: _Panel, kinds: Sequence[str], scale: float) -> None:
    axes.set_title(panel.title, loc="left", fontsize=8, color=f.INK, pad=4)
    for (kind, pipelined), curve in panel.curves.items():
        rows = [row for row in curve if _per_sample(row) > 0]  # what takes no time has no place on a logarithmic axis
        colour, marker, dashes = _STYLES[kinds.index(kind) % len(_STYLES)]
        values = [_per_sample(row) / scale for row in rows]
        axes.errorbar(
            [row.microbatch for row in rows],
            values,
            yerr=[min(row.spread, 0.999) * value for row, value in zip(rows, values, strict=True)],
            color=colour,
            marker=marker,
            markersize=5.0 if pipelined else 3.2,
            markerfacecolor="none" if pipelined else colour,
            markeredgewidth=0.9,
            linestyle="none" if pipelined else dashes,
            linewidth=1.3,
            elinewidth=0.9,
            capsize=0 if pipelined or not any(row.spread for row in rows) else 3.2,
            capthick=0.9,
        )


def _set_sizes(axes: Axes, sizes: Sequence[int], *, labelled: bool) -> None:
    """The axis of microbatches, the same in every panel, with its figures below the last of each column."""
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log", base=2)
    axes.set_xlim(sizes[0] / 1.25, sizes[-1] * 1.25)
    ticks = _ticks(sizes)
    axes.set_xticks(ticks, [str(size) for size in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", labelsize=7, length=0, labelbottom=labelled)


def _set_times(axes: Axes, values: Sequence[float]) -> None:
    """The axis of times, around what the panel shows."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    shown = [value for value in values if value > 0] or [1.0]
    middle = math.sqrt(min(shown) * max(shown))
    reach = max(1.15 * math.sqrt(max(shown) / min(shown)), math.sqrt(_LEAST_RANGE))
    low, high = middle / reach, middle * reach
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    factors = (1, 2, 5) if high / low < 100 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    axes.yaxis.set_major_locator(FixedLocator([factor * 10.0**power for power in powers for factor in factors]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(axis="y", labelsize=7, length=0)
    axes.grid(which="major", color=f.GRID, linewidth=0.6)


def _ticks(sizes: Sequence[int]) -> list[int]:
    """Some of the sizes, spread over the logarithmic axis: the smallest, the largest, and what lies well apart between."""
    apart = math.log(sizes[-1] / sizes[0]) / (_MOST_TICKS - 1)
    ticks = [sizes[0]]
    for size in sizes[1:-1]:
        if math.log(size / ticks[-1]) >= 0.75 * apart and math.log(sizes[-1] / size) >= 0.75 * apart:
            ticks.append(size)
    return ticks + ([sizes[-1]] if sizes[-1] != sizes[0] else [])


def _legend(figure: Figure, kinds: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle=dashes, linewidth=1.3, markersize=3.6, label=kind)
        for kind, (colour, marker, dashes) in ((k, _STYLES[i % len(_STYLES)]) for i, k in enumerate(kinds))
    ]
    width, height = figure.get_size_inches()
    figure.legend(
        handles=handles,
        loc="upper right",
        bbox_to_anchor=(1 - f.MARGIN_IN / width, 1 - 0.16 / height),
        ncols=min(len(kinds), 4) or 1,
        frameon=False,
        fontsize=8,
        handlelength=3,
        columnspacing=1.6,
        borderaxespad=0,
    )
