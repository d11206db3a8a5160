"""Figures: what is drawn has the size of what was given, can be told apart in grey, and is the same every time."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from report_world import DATA_PARALLEL, HYBRID, World, slowed

from hetsim.errors import InputError
from hetsim.plan import Plan
from hetsim.report import figures as f
from hetsim.report.bars import comparison_figure, draw_comparison
from hetsim.report.curves import curves_figure, draw_curves
from hetsim.report.gantt import draw_gantt, gantt_figure
from hetsim.report.plan_picture import draw_plan, plan_figure
from hetsim.report.rows import EVEN_SPLIT, BatchCurve, CaseRow
from hetsim.report.summary import batch_curves
from hetsim.schedule import Kind
from hetsim.timeline import Timeline


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def bars_ns(axes: Axes, colour: str) -> float:
    """Width of all bars of `colour`, in the axes' nanoseconds."""
    total = 0.0
    for patch in axes.patches:
        if isinstance(patch, PathPatch) and same_color(patch.get_facecolor(), colour):
            corners = np.asarray(patch.get_path().vertices).reshape(-1, 5, 2)
            total += float((corners[:, 1, 0] - corners[:, 0, 0]).sum())
    return total


# --- colours -----------------------------------------------------------------------------------------------------------

_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.9505, 1.0, 1.089])

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
_BLINDNESS = {
    "none": np.eye(3),
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "tritan": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}


def linear(colour: str) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(colour: str, blindness: str = "none") -> np.ndarray:
    """CIE L*a*b* of a colour as somebody sees it."""
    xyz = _TO_XYZ @ np.clip(_BLINDNESS[blindness] @ linear(colour), 0, 1) / _WHITE
    cubes = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * cubes[1] - 16, 500 * (cubes[0] - cubes[1]), 200 * (cubes[1] - cubes[2])])


GROUPS = {"processor": (f.TRACK, f.FORWARD, f.UPDATE, f.BACKWARD), "communication": (f.PAPER, f.MESSAGE, f.EXCHANGE)}


@pytest.mark.parametrize("group", GROUPS)
def test_colours_can_be_told_apart_in_grey(group: str) -> None:
    lightness = sorted(float(lab(colour)[0]) for colour in GROUPS[group])
    assert min(np.diff(lightness)) > 12, lightness


@pytest.mark.parametrize("blindness", _BLINDNESS)
@pytest.mark.parametrize("group", GROUPS)
def test_colours_can_be_told_apart_by_the_colour_blind(blindness: str, group: str) -> None:
    seen = [lab(colour, blindness) for colour in GROUPS[group]]
    for number, first in enumerate(seen):
        for second in seen[:number]:
            assert np.linalg.norm(first - second) > 20


def contrast(one: str, other: str) -> float:
    """Of WCAG 2, 1 to 21."""
    light, dark = sorted((float((_TO_XYZ @ linear(colour))[1]) for colour in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_can_be_read() -> None:
    for text, ground in (
        (f.INK, f.PAPER),
        (f.SOFT, f.PAPER),
        (f.INK, f.TRACK),
        (f.ON_LIGHT, f.FORWARD),
        (f.ON_DARK, f.BACKWARD),
    ):
        assert contrast(text, ground) > 4.5


# --- Gantt -------------------------------------------------------------------------------------------------------------


def test_the_bars_are_as_long_as_the_work(world: World, plan: Plan) -> None:
    predicted = world.predicted(plan)
    measured = slowed(predicted, 1.05)
    for axes, timeline in zip(gantt_figure(predicted, measured, plan, "t").axes, (predicted, measured), strict=True):
        for kind, colour in ((Kind.FORWARD, f.FORWARD), (Kind.BACKWARD, f.BACKWARD)):
            assert bars_ns(axes, colour) / 1e9 == pytest.approx(sum(timeline.busy_s(d, kind) for d in timeline.devices))
        assert bars_ns(axes, f.TRACK) / 1e9 == pytest.approx(timeline.step_s * len(plan.devices))
        (end,) = (line for line in axes.lines if line.get_linestyle() == "-")
        assert end.get_xdata()[0] == pytest.approx(timeline.step_s * 1e9)
        assert [label.get_text() for label in axes.get_yticklabels()] == list(plan.devices)


def test_both_panels_have_one_axis_of_time_and_tell_the_error(world: World, plan: Plan) -> None:
    predicted = world.predicted(plan)
    above, below = gantt_figure(predicted, slowed(predicted, 1.25), plan, "t").axes
    assert above.get_xlim() == below.get_xlim()
    assert above.get_position().x0 == below.get_position().x0
    assert "predicted" in texts(above)
    error = next(text for text in texts(below) if "prediction" in text)
    assert re.search(r"-(19|20|21)\.\d %", error)


def test_microbatches_are_numbered_where_they_fit(world: World) -> None:
    plan = Plan.parse("fast0[0:5] > fast1[5:9] 64/4; gpipe")
    (axes,) = gantt_figure(world.predicted(plan), None, plan, "t").axes
    assert sorted(text for text in texts(axes) if text.isdecimal()) == sorted("0123" * 4)
    crowded = Plan.parse("fast0[0:5] > fast1[5:9] 64/64; gpipe")
    (axes,) = gantt_figure(world.predicted(crowded), None, crowded, "t").axes
    assert not [text for text in texts(axes) if text.isdecimal() and len(text) == 2]
    plan = Plan.parse(DATA_PARALLEL)
    (axes,) = gantt_figure(world.predicted(plan), None, plan, "t").axes
    assert {"forward", "backward"} <= set(texts(axes))


def test_communication_is_drawn_when_it_travels(world: World) -> None:
    plan = Plan.parse(HYBRID)
    timeline = world.predicted(plan)
    (axes,) = gantt_figure(timeline, None, plan, "t").axes
    expected_s = sum(timeline.busy_s(device, Kind.REDUCE) for device in timeline.devices)
    assert bars_ns(axes, f.EXCHANGE) / 1e9 == pytest.approx(expected_s, rel=0.05)  # short ones are drawn a point wide
    legend = {text.get_text() for text in axes.figure.legends[0].get_texts()}
    assert {"message under way", "gradient exchange"} <= legend


def test_of_very_many_devices_the_first_are_drawn(world: World) -> None:
    one = next(span for span in world.predicted(Plan.parse(DATA_PARALLEL)).spans if span.lane == "compute")
    every = Timeline(tuple(one._replace(device=f"d{number}") for number in range(100)))
    figure = gantt_figure(every, None, Plan.parse(" | ".join(f"d{n}[0:9] 1/1" for n in range(100))), "t")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [f"d{n}" for n in range(64)]
    assert any("The first 64 of 100 devices." in text.get_text() for text in figure.texts)


def test_an_empty_timeline_is_drawn(world: World, tmp_path: Path) -> None:
    draw_gantt(world.predicted(Plan.parse(DATA_PARALLEL)), Timeline(()), Plan.parse(DATA_PARALLEL), tmp_path / "a.png", "t")
    draw_gantt(Timeline(()), None, Plan.parse(DATA_PARALLEL), tmp_path / "b.png", "t")


# --- comparison, plan, curves ---------------------------------------------------------------------------------------------


def test_comparison_bars_are_as_long_as_the_steps(cases: tuple[CaseRow, ...]) -> None:
    first, second = comparison_figure(cases, "t").axes
    assert [c.get_text() for c in second.get_yticklabels()] == [EVEN_SPLIT, "chosen"]
    widths = {
        colour: [
            bar.get_width()
            for bar in first.patches
            if isinstance(bar, Rectangle) and same_color(bar.get_facecolor(), colour)
        ]
        for colour in (f.FORWARD, f.BACKWARD)
    }
    assert widths[f.FORWARD] == pytest.approx([452, 199, 243, 241])
    assert widths[f.BACKWARD] == pytest.approx([466, 204, 261])
    assert {"-2.5 %", "2.3\N{MULTIPLICATION SIGN}", "199 ms / 204 ms"} <= set(texts(first))
    assert [label.get_fontweight() for label in first.get_yticklabels()] == ["normal", "bold", "normal", "normal"]


def test_plan_picture_shows_layers_and_shares(world: World) -> None:
    plan = Plan.parse(HYBRID)
    layers, shares = plan_figure(plan, world.chain).axes
    held = [p for p in layers.patches if same_color(p.get_facecolor(), f.BACKWARD)]
    assert [(p.get_x(), p.get_width()) for p in held if isinstance(p, Rectangle)] == [(0, 6), (6, 3), (0, 9)]
    taken = [p for p in shares.patches if same_color(p.get_facecolor(), f.FORWARD)]
    assert [p.get_width() for p in taken if isinstance(p, Rectangle)] == [40, 24]
    assert next(label.get_text() for label in layers.get_xticklabels()) == "conv0"
    assert "40 = 4 \N{MULTIPLICATION SIGN} 10  (62%)" in texts(shares)


def test_every_device_of_a_group_is_shown_with_the_layers_that_it_holds(world: World) -> None:
    layers, _ = plan_figure(Plan.parse("a0+a1[0:6] > b0[6:9] 40/4; 1f1b"), world.chain).axes
    held = [p for p in layers.patches if same_color(p.get_facecolor(), f.BACKWARD)]
    assert [(p.get_x(), p.get_width()) for p in held if isinstance(p, Rectangle)] == [(0, 6), (0, 6), (6, 3)]


def test_curves_are_of_time_per_sample(world: World) -> None:
    (axes,) = curves_figure(batch_curves(world.table), "t").axes
    slow, fast = axes.lines
    assert (slow.get_label(), fast.get_label()) == ("slow", "fast")
    assert fast.get_ydata() == pytest.approx([9 * (3 + 0.65 * size) / size for size in (1, 4, 16, 64)])  # ms
    many = BatchCurve("n", "x", tuple(range(1, 20)), tuple(float(n) for n in range(1, 20)))
    (axes,) = curves_figure([many], "t").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4", "8", "16"]
    assert curves_figure([], "t").axes


# --- files -------------------------------------------------------------------------------------------------------------


def drawings(world: World, cases: tuple[CaseRow, ...]) -> list[Callable[[Path], None]]:
    plan = Plan.parse(HYBRID)
    predicted = world.predicted(plan)
    return [
        lambda path: draw_gantt(predicted, slowed(predicted, 1.02), plan, path, "t"),
        lambda path: draw_comparison(cases, path, "t"),
        lambda path: draw_plan(plan, world.chain, path),
        lambda path: draw_curves(batch_curves(world.table), path, "t"),
    ]


def test_nothing_leaves_its_figure(world: World, cases: tuple[CaseRow, ...]) -> None:
    long = [replace(case, name=f"{case.name} of the whole office", predicted_s=case.predicted_s / 1000) for case in cases]
    hybrid, parallel = Plan.parse(HYBRID), Plan.parse(DATA_PARALLEL)
    predicted = world.predicted(hybrid)
    for figure in (
        gantt_figure(predicted, slowed(predicted, 1.5), hybrid, "A title of a common length: the chosen plan"),
        comparison_figure(cases, "Predicted and measured step"),
        comparison_figure(long, "Predicted and measured step"),
        plan_figure(hybrid, world.chain),
        plan_figure(parallel, world.chain),
        curves_figure(batch_curves(world.table), "What a sample costs"),
    ):
        width_in, height_in = figure.get_size_inches()
        box = figure.get_tightbbox()
        assert min(box.x0, box.y0) >= 0, figure
        assert box.x1 <= width_in
        assert box.y1 <= height_in


def test_files_are_the_same_every_time(world: World, cases: tuple[CaseRow, ...], tmp_path: Path) -> None:
    for number, draw in enumerate(drawings(world, cases)):
        for suffix in (".svg", ".png"):
            first, second = tmp_path / f"{number}a{suffix}", tmp_path / f"{number}b{suffix}"
            draw(first)
            draw(second)
            assert first.read_bytes() == second.read_bytes()
        ET.parse(tmp_path / f"{number}a.svg")
        assert (tmp_path / f"{number}a.png").read_bytes().startswith(b"\x89PNG")


def test_another_process_writes_the_same_svg(cases: tuple[CaseRow, ...], tmp_path: Path) -> None:
    here, there = tmp_path / "here.svg", tmp_path / "there.svg"
    draw_comparison(cases, here, "t")
    code = (
        f"from pathlib import Path; from hetsim.report.bars import *; draw_comparison({cases!r}, Path({str(there)!r}), 't')"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    assert here.read_bytes() == there.read_bytes()


def test_another_suffix_is_refused_and_nothing_is_left(cases: tuple[CaseRow, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'got the suffix "\.gif", expected \.png or \.svg'):
        draw_comparison(cases, tmp_path / "c.gif", "t")
    with pytest.raises(TypeError):
        draw_comparison([replace(cases[0], predicted_s="x")], tmp_path / "c.svg", "t")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def markup(figure: Figure, key: str = "a") -> str:
    return f.svg_markup(figure, key=key, label='predicted <0.2 s> & "measured"')


def test_markup_stands_alone_in_a_page(world: World, cases: tuple[CaseRow, ...]) -> None:
    predicted = world.predicted(Plan.parse(HYBRID))
    figures = [gantt_figure(predicted, None, Plan.parse(HYBRID), "t"), comparison_figure(cases, "t")]
    texts = [markup(figure, key) for figure, key in zip(figures, "ab", strict=True)]
    ids = [re.findall(r'\bid="([^"]+)"', text) for text in texts]
    assert len(set(ids[0] + ids[1])) == len(ids[0]) + len(ids[1])
    for text, known in zip(texts, ids, strict=True):
        assert "http" not in text
        assert "<?xml" not in text
        assert not [colour for colour in f.THEMED if colour in text]
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= set(known)
        element = ET.fromstring(text)
        assert element.get("aria-label") == 'predicted <0.2 s> & "measured"'
        assert (element.get("width"), element.get("viewBox", "").startswith("21.6 0 676.8 ")) == (None, True)
