"""The picture of a plan: who holds which layers, and which share of the batch."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hetsim.plan import Plan, Replica
from hetsim.report import figures as f
from hetsim.report.text import TIMES
from hetsim.workload import Chain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

_WIDTH_IN, _ROW_IN = 10.0, 0.36
_REPLICA_GAP = 0.35
"""Space between two replicas, in rows."""

_BAR = 0.62
"""Height of a bar, of a row's 1."""

_MOST_LAYER_NAMES = 24
"""A chain of more layers has its layers numbered, not named."""


def draw_plan(plan: Plan, chain: Chain, path: Path) -> None:
    """Draw `plan` to `path` (PNG or SVG, by its suffix). Raises InputError on another suffix."""
    f.save_figure(plan_figure(plan, chain), path)


def plan_figure(plan: Plan, chain: Chain) -> Figure:
    """The same as a figure."""
    return split_figure(plan, [layer.name for layer in chain.layers], f"{chain.name}: who does what")


def split_figure(plan: Plan, layers: Sequence[str], title: str) -> Figure:
    """Each device a row: the layers it holds as a bar along the chain; beside it each replica's share of the batch."""
    tops = _tops(plan)
    height = max(tops.values()) + 1
    named = len(layers) <= _MOST_LAYER_NAMES
    lines = textwrap.wrap(str(plan), 128)
    top_in = 0.8 + 0.15 * len(lines)
    foot_in = 0.25 + max(0.2, 0.06 * max(map(len, layers)) if named else 0.0)
    left_in = f.MARGIN_IN + f.LETTER_IN * max(map(len, tops)) + 0.15
    layers_in = 0.64 * (_WIDTH_IN - left_in)
    shares_left_in = left_in + layers_in + 0.35
    with f.new_figure(_WIDTH_IN, top_in + _ROW_IN * height + foot_in) as figure:
        f.add_text(figure, f.MARGIN_IN, 0.34, title, fontsize=12, fontweight="bold")
        f.add_text(figure, f.MARGIN_IN, 0.42, "\n".join(lines), fontsize=7.5, color=f.SOFT, va="top", linespacing=1.35)
        held = f.add_axes(figure, left_in, top_in, layers_in, _ROW_IN * height)
        _draw_layers(held, plan, layers, tops, named=named)
        width_in = _WIDTH_IN - f.MARGIN_IN - shares_left_in
        shares = f.add_axes(figure, shares_left_in, top_in, width_in, _ROW_IN * height)
        _draw_shares(shares, plan, tops)
        for axes, text in ((held, "layers"), (shares, f"share of the {plan.global_batch} samples")):
            axes.set_ylim(height, 0)
            axes.spines["bottom"].set_visible(False)
            axes.annotate(text, (0, 1), (0, 5), xycoords="axes fraction", textcoords="offset points", fontweight="bold")
    return figure


def _tops(plan: Plan) -> dict[str, float]:
    """Device -> upper edge of its row."""
    tops: dict[str, float] = {}
    top = 0.0
    for replica in plan.replicas:
        for device in replica.devices:
            tops[device] = top
            top += 1
        top += _REPLICA_GAP if plan.is_cut else 0
    return tops


def _draw_layers(axes: Axes, plan: Plan, layers: Sequence[str], tops: dict[str, float], *, named: bool) -> None:
    margin = (1 - _BAR) / 2
    axes.set_xlim(0, len(layers))
    axes.set_yticks([top + 0.5 for top in tops.values()], list(tops))
    for top in tops.values():
        axes.add_patch(_box(0, top + margin, len(layers), f.TRACK))
    for replica in plan.replicas:
        for stage in replica.stages:
            for device in stage.group:
                top = tops[device] + margin
                axes.add_patch(_box(stage.start, top, stage.stop - stage.start, f.BACKWARD))
                if len(layers) <= 60:
                    inner = range(stage.start + 1, stage.stop)
                    axes.vlines(list(inner), top, top + _BAR, color=f.PAPER, linewidth=0.6)
    if named:
        axes.set_xticks([n + 0.5 for n in range(len(layers))], list(layers), rotation=90)
    axes.tick_params(axis="x", labelsize=7, labelcolor=f.SOFT)


def _draw_shares(axes: Axes, plan: Plan, tops: dict[str, float]) -> None:
    """A bar for each replica, as high as its rows: stages of one replica work on the same samples."""
    margin = (1 - _BAR) / 2
    axes.set_xlim(0, plan.global_batch)
    axes.set_xticks([])
    axes.set_yticks([])
    if any(replica.microbatches > 1 for replica in plan.replicas):
        axes.set_xlabel(f"samples = microbatches {TIMES} samples in each", fontsize=7, labelpad=8)
    for replica in plan.replicas:
        top, bottom = tops[replica.devices[0]] + margin, tops[replica.devices[-1]] + 1 - margin
        axes.add_patch(_box(0, top, plan.global_batch, f.TRACK, bottom - top))
        axes.add_patch(_box(0, top, replica.samples, f.FORWARD, bottom - top))
        inside = replica.samples * 2 >= plan.global_batch
        axes.annotate(
            _share_text(replica, plan.global_batch),
            (0 if inside else replica.samples, (top + bottom) / 2),
            (6, 0),
            textcoords="offset points",
            va="center_baseline",
            fontsize=7.5,
            color=f.ON_LIGHT if inside else f.INK,
        )


def _share_text(replica: Replica, global_batch: int) -> str:
    """E.g. `40 = 4 x 10  (62%)`: samples, in how many microbatches of how many, share of the batch."""
    cut = f" = {replica.microbatches} {TIMES} {replica.microbatch_samples}" if replica.microbatches > 1 else ""
    return f"{replica.samples}{cut}  ({replica.samples / global_batch:.0%})"


def _box(left: float, top: float, width: float, colour: str, height: float = _BAR) -> Rectangle:
    from matplotlib.patches import Rectangle

    return Rectangle((left, top), width, height, facecolor=colour, edgecolor="none")
