"""The batch curves: what a sample costs each device type, by the size of the microbatch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hetsim.report import figures as f
from hetsim.report.rows import BatchCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLES = (
    (f.BACKWARD, "o", "-"),
    (f.EXCHANGE, "s", "--"),
    (f.UPDATE, "^", "-."),
    (f.MESSAGE, "D", ":"),
    (f.SOFT, "v", "-"),
    (f.FORWARD, "P", "--"),
)
"""Colour, marker and line: three ways to tell two device types apart."""

_MOST_SIZES = 12
"""Where more microbatches were measured, only the powers of two are written at the axis."""


def draw_curves(curves: Sequence[BatchCurve], path: Path, title: str) -> None:
    """Draw the curves to `path` (PNG or SVG, by its suffix). Raises InputError on another suffix."""
    f.save_figure(curves_figure(curves, title), path)


def curves_figure(curves: Sequence[BatchCurve], title: str) -> Figure:
    """Time per sample of a whole forward and backward against the microbatch, a line a device type, on logarithmic axes."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    width_in, height_in, left_in = 10.0, 3.5, 0.85
    lines = [
        (curve, [seconds / size for seconds, size in zip(curve.seconds, curve.microbatches, strict=True)])
        for curve in curves
    ]
    lines.sort(key=lambda line: -line[1][-1])
    right_in = max(2.0, f.LETTER_IN * max((len(curve.device_type) for curve in curves), default=0) + 1.0)
    unit, scale = f.unit_of(max((value for _, values in lines for value in values), default=1.0))
    with f.new_figure(width_in, height_in) as figure:
        f.add_text(figure, f.MARGIN_IN, 0.34, title, fontsize=12, fontweight="bold")
        axes = f.add_axes(figure, left_in, 0.6, width_in - left_in - right_in, height_in - 1.1)
        axes.set_xscale("log", base=2)
        if any(value > 0 for _, values in lines for value in values):
            axes.set_yscale("log")
        for number, (curve, values) in enumerate(lines):
            colour, marker, dashes = _STYLES[number % len(_STYLES)]
            axes.plot(
                curve.microbatches,
                [value / scale for value in values],
                color=colour,
                marker=marker,
                linestyle=dashes,
                linewidth=1.6,
                markersize=4.5,
                label=curve.device_type,
            )
        sizes = sorted({size for curve in curves for size in curve.microbatches})
        if len(sizes) > _MOST_SIZES:
            sizes = [size for size in sizes if size & (size - 1) == 0]
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "25" else ""))
        axes.tick_params(which="both", labelsize=7.5, length=0)
        axes.grid(which="both", color=f.GRID, linewidth=0.6)
        axes.set_xlabel("samples in a microbatch", fontsize=7.5)
        axes.set_ylabel(f"forward + backward, {unit} per sample", fontsize=7.5)
        if lines:
            axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=8.5, handlelength=3)
    return figure
