"""The figures of a what-if: changes, worth, front and tornado."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hetsim.report import figures as f

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH_IN, _ROW_IN, _HEAD_IN, _FOOT_IN = 10.0, 0.34, 0.7, 0.6
_VERDICTS = {"keep": f.BACKWARD, "indifferent": f.GRID, "retire": f.EXCHANGE}
_COLUMNS = {"throughput": f.BACKWARD, "cost": f.UPDATE, "energy": f.MESSAGE}


def changes_figure(document: Mapping[str, Any]) -> Figure:
    """Throughput, cost and energy of each variant against the cluster as it is, in per cent."""
    rows = []
    for variant in document["variants"]:
        figures = {row["name"]: row for row in variant["figures"]}
        for name, colour in _COLUMNS.items():
            row = figures[name]
            if row["change"] is not None:
                rows.append((f"{variant['name']}: {name}", row["change"], row["low"], row["high"], colour))
    shown = {colour for *_, colour in rows}
    legend = [(name, colour) for name, colour in _COLUMNS.items() if colour in shown]
    return _bars(rows, "What changes", "change against the cluster as it is, %", legend)


def worth_figure(document: Mapping[str, Any]) -> Figure:
    """The gain of throughput by each device, in the colour of its verdict."""
    rows = [
        (
            f"{row['device']} ({row['count']} x {row['type']})",
            row["gain"],
            row["low"],
            row["high"],
            _VERDICTS[row["verdict"]],
        )
        for row in document["worth"]
        if not isinstance(row["gain"], str)
    ]
    return _bars(rows, "What each device is worth", "throughput with it over without it, %", list(_VERDICTS.items()))


def front_figure(document: Mapping[str, Any]) -> Figure:
    """Throughput against money and, where it is known, against energy: every purchase planned as a dot, the fronts as steps."""
    found = document["purchases"]
    panels = [("spent", f"spent, {document['currency']}", found["front"])]
    if found["energy_front"]:
        panels.append(("kwh_per_million", "kWh per million samples", found["energy_front"]))
    width_in = (_WIDTH_IN - f.MARGIN_IN) / len(panels)
    with f.new_figure(_WIDTH_IN, 4.2) as figure:
        against = "money and energy" if len(panels) > 1 else "money"
        f.add_text(figure, f.MARGIN_IN, 0.34, f"Throughput against {against}", fontsize=12, fontweight="bold")
        for number, (key, label, front) in enumerate(panels):
            axes = f.add_axes(figure, 0.9 + number * width_in, 0.7, width_in - 0.9, 2.85)
            axes.grid(color=f.GRID, linewidth=0.6)
            axes.tick_params(labelsize=7.5)
            planned = [row for row in found["planned"] if row[key] is not None]
            axes.scatter(
                [row[key] for row in planned],
                [row["samples_per_s"] for row in planned],
                s=14,
                color=f.FORWARD,
                edgecolors=f.BACKWARD,
                linewidths=0.4,
            )
            places, rates = [row[key] for row in front], [row["samples_per_s"] for row in front]
            axes.step(places, rates, where="post", color=f.EXCHANGE, linewidth=1.6)
            axes.scatter(places, rates, s=22, color=f.EXCHANGE, zorder=3)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.4g}" if value < 10_000 else f"{value:,.0f}")
            axes.set_xlabel(label, fontsize=7.5)
            if number == 0:
                axes.set_ylabel("samples/s", fontsize=7.5)
        f.add_legend(figure, [("planned", f.FORWARD), ("front", f.EXCHANGE)])
    return figure


def hinges_figure(document: Mapping[str, Any]) -> Figure:
    """A tornado: the advantage at the lower and the upper end of each input, the largest swing on top."""
    rows = document["hinges"]
    longest = max((len(row["name"]) for row in rows), default=0)
    left_in = f.MARGIN_IN + f.LETTER_IN * longest + 0.2
    with f.new_figure(_WIDTH_IN, _HEAD_IN + _ROW_IN * len(rows) + _FOOT_IN) as figure:
        f.add_text(figure, f.MARGIN_IN, 0.34, "What the answer hinges on", fontsize=12, fontweight="bold")
        axes = _row_axes(figure, left_in, [row["name"] for row in rows])
        now = document["advantage"] * 100
        for number, row in enumerate(rows):
            for end, colour in (("at_down", f.FORWARD), ("at_up", f.BACKWARD)):
                value = row[end] * 100
                axes.barh(number, value - now, left=now, height=0.56, color=colour)
        axes.axvline(now, color=f.INK, linewidth=0.8)
        axes.axvline(0, color=f.EXCHANGE, linewidth=1.2, linestyle="--")
        axes.set_xlabel("advantage of the variant, %; at the dashed line the answer flips", fontsize=7.5)
        f.add_legend(figure, [("input at its lower end", f.FORWARD), ("at its upper end", f.BACKWARD)])
    return figure


def _bars(
    rows: Sequence[tuple[str, float, float | None, float | None, str]],
    title: str,
    label: str,
    legend: Sequence[tuple[str, str]],
) -> Figure:
    """Horizontal bars from zero, in per cent, each with its interval."""
    longest = max((len(row[0]) for row in rows), default=0)
    left_in = f.MARGIN_IN + f.LETTER_IN * longest + 0.2
    with f.new_figure(_WIDTH_IN, _HEAD_IN + _ROW_IN * max(1, len(rows)) + _FOOT_IN) as figure:
        f.add_text(figure, f.MARGIN_IN, 0.34, title, fontsize=12, fontweight="bold")
        axes = _row_axes(figure, left_in, [row[0] for row in rows])
        for number, (_, value, low, high, colour) in enumerate(rows):
            axes.barh(number, value * 100, height=0.56, color=colour)
            if low is not None and high is not None:
                axes.plot([low * 100, high * 100], [number, number], color=f.INK, linewidth=1.0)
        axes.use_sticky_edges = False  # a bar that ends at the frame would have half of its figure cut off
        axes.margins(x=0.04)
        axes.axvline(0, color=f.INK, linewidth=0.8)
        axes.set_xlabel(label, fontsize=7.5)
        f.add_legend(figure, legend)
    return figure


def _row_axes(figure: Figure, left_in: float, names: Sequence[str]) -> Axes:
    axes = f.add_axes(figure, left_in, _HEAD_IN, _WIDTH_IN - left_in - f.MARGIN_IN, _ROW_IN * max(1, len(names)))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    axes.grid(axis="x", color=f.GRID, linewidth=0.6)
    axes.tick_params(axis="x", labelsize=7.5)
    return axes
