"""The loss of a run, step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hetsim.report import figures as f

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH_IN, _HEIGHT_IN = 7.0, 3.6
_COLOURS = (f.BACKWARD, f.UPDATE, f.EXCHANGE, f.MESSAGE, f.FORWARD, f.SOFT)
_MARKED_STEPS = 40
"""Up to so many steps each gets a dot; more would make a band."""


def draw_losses(curves: Mapping[str, Sequence[float]], path: Path, title: str) -> None:
    """Draw the loss of each step, by the name of the case, to `path` (PNG or SVG). Raises InputError on another suffix."""
    f.save_figure(losses_figure(curves, title), path)


def losses_figure(curves: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Loss against step, a line a case; a step without a finite loss leaves a gap."""
    with f.new_figure(_WIDTH_IN, _HEIGHT_IN) as figure:
        f.add_text(figure, f.MARGIN_IN, 0.34, title, fontsize=12, fontweight="bold")
        axes = f.add_axes(figure, 0.9, 0.55, _WIDTH_IN - 0.9 - f.MARGIN_IN, _HEIGHT_IN - 1.2)
        axes.grid(color=f.GRID, linewidth=0.6)
        axes.tick_params(labelsize=7.5)
        axes.set_xlabel("step", fontsize=7.5)
        axes.set_ylabel("loss, mean over the global batch", fontsize=7.5)
        for (name, losses), colour in zip(curves.items(), _COLOURS * len(curves), strict=False):
            shown = [loss if math.isfinite(loss) else math.nan for loss in losses]
            marker = "o" if len(shown) <= _MARKED_STEPS else None
            axes.plot(range(1, len(shown) + 1), shown, color=colour, linewidth=1.4, marker=marker, markersize=3, label=name)
        if len(curves) > 1:
            axes.legend(fontsize=7, frameon=False)
    return figure
