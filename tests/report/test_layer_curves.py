"""Small multiples of the layers' curves: what is drawn is what the table says."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import same_color

from hetsim.costs import CANARY, LOSS, STEP, LayerCost
from hetsim.errors import InputError
from hetsim.report import figures as f
from hetsim.report.layer_curves import draw_layer_curves, layer_curves_figure

ROWS = [
    LayerCost(kind, layer, size, seconds * size, 2 * seconds * size, spread=0.1)
    for kind, seconds in (("K80", 0.002), ("V100", 0.001))
    for layer in ("conv", "dense", LOSS)
    for size in (2, 8, 32)
    if not (layer == "dense" and size == 8)
]


def panels(rows):
    return {axes.get_title(loc="left"): axes for axes in layer_curves_figure(rows, "net").axes}


def test_a_panel_a_layer_and_in_it_a_line_a_device_with_time_per_sample_and_interval():
    rows = [replace(row, layer=f"{row.layer}{i}", forward_s=row.forward_s * (i + 1)) for i in range(2) for row in ROWS[:3]]
    drawn = panels([*rows, *(replace(row, device_type="V100") for row in rows)])
    assert list(drawn) == ["conv0", "conv1"]
    assert [container.lines[0].get_xdata().tolist() for container in drawn["conv1"].containers] == [[2, 8, 32]] * 2
    (first, _) = drawn["conv1"].containers
    assert first.lines[0].get_ydata() == pytest.approx([8] * 3)  # ms: 2 × 2 forward, 4 backward
    (bars,) = first.lines[2]
    assert np.array([segment[:, 1] for segment in bars.get_segments()]) == pytest.approx(np.array([[7.2, 8.8]] * 3))


def test_rows_without_a_curve_are_left_out_and_pipelined_ones_are_hollow():
    extra = [
        LayerCost("K80", STEP, 1, 0.0, 0.0, 1.0),
        LayerCost("K80", CANARY, 1, 1.0, 0.0),
        LayerCost("K80", "conv", 8, 0.1, 0.2, tensor_parallel=2),
        LayerCost("K80", "conv", 4, 0.1, 0.2, in_flight=4),
    ]
    drawn = panels([*ROWS, *extra])
    assert list(drawn) == ["conv", "dense", LOSS]
    lines = [container.lines[0] for container in drawn["conv"].containers]
    assert [line.get_markerfacecolor() == "none" for line in lines].count(True) == 1
    assert {tuple(line.get_xdata()) for line in lines} == {(2, 8, 32), (4,)}


def test_neighbours_that_cost_the_same_share_a_panel():
    rows = [replace(row, layer=f"block{i}") for i in range(3) for row in ROWS[:3]]
    last = [replace(row, layer="head", forward_s=1.0) for row in ROWS[:3]]
    assert list(panels([*rows, *last])) == ["block0 to block2 (3 alike)", "head"]


@pytest.mark.parametrize("rows", [[], ROWS[:1], [LayerCost("A", "l", 1, 0.0, 0.0)], ROWS])
def test_any_table_can_be_drawn_and_twice_gives_the_same_bytes(tmp_path, rows):
    for name in ("a.svg", "b.svg", "a.png"):
        draw_layer_curves(rows, tmp_path / name, "net")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"expected \.png or \.svg"):
        draw_layer_curves(rows, tmp_path / "a.pdf", "net")


def test_two_device_types_differ_in_colour_marker_and_dashes():
    one, other = (container.lines[0] for container in panels(ROWS)["conv"].containers)
    assert not same_color(one.get_color(), other.get_color())
    assert one.get_marker() != other.get_marker()
    assert one.get_linestyle() != other.get_linestyle()
    assert same_color(one.get_color(), f.BACKWARD)
