"""What all figures share: colours, type, saving. Figures are made without pyplot, so they leave no state behind.

The colours of the work are told apart by their lightness as well as their hue, so they survive colour-blindness and a grey
print. On the page, each of the named colours becomes a CSS variable, so that a figure follows the reader's dark mode.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hetsim.errors import InputError, Problem
from hetsim.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1b2026"
SOFT = "#59626c"
"""Text that explains."""

GRID = "#d9dee3"
TRACK = "#eff2f5"
"""A device that does nothing."""

PAPER = "#ffffff"
FORWARD = "#8cc1e6"
BACKWARD = "#1d578f"
UPDATE = "#d08c11"
MESSAGE = "#ab92d8"
EXCHANGE = "#c2401c"

THEMED = {
    INK: "ink",
    SOFT: "soft",
    GRID: "grid",
    TRACK: "track",
    PAPER: "paper",
    FORWARD: "forward",
    BACKWARD: "backward",
    UPDATE: "update",
    MESSAGE: "message",
    EXCHANGE: "exchange",
}
"""Colour -> name of the CSS variable that replaces it on the page."""

ON_LIGHT, ON_DARK = "#0d2438", "#fdfdfd"
"""Text inside bars; the same in dark mode, as the bars stay light or dark."""

MARGIN_IN = 0.3
"""At both sides of every figure; on the page, which has its own, it falls away."""

LETTER_IN = 0.078
"""Width of a letter of the common size, in inches, on average."""

SUFFIXES = (".png", ".svg")

_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "hetsim",
    "path.simplify": False,
}

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@contextmanager
def new_figure(width_in: float, height_in: float) -> Iterator[Figure]:
    """An empty figure of `width_in` by `height_in` inches, to be drawn on inside the block, where hetsim's settings hold."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_SETTINGS):
        yield Figure(figsize=(width_in, height_in), facecolor=PAPER)


def add_axes(figure: Figure, left_in: float, top_in: float, width_in: float, height_in: float) -> Axes:
    """Axes at a place in inches from the upper left corner of `figure`, with no frame but the lower line."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left_in / width, 1 - (top_in + height_in) / height, width_in / width, height_in / height))
    axes.set_facecolor("none")
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    axes.set_axisbelow(True)
    return axes


def add_text(figure: Figure, left_in: float, top_in: float, text: str, **style: Any) -> None:
    """Text whose first baseline is `top_in` inches below the upper edge of `figure`."""
    width, height = figure.get_size_inches()
    figure.text(left_in / width, 1 - top_in / height, text, **style)


def add_legend(figure: Figure, entries: Sequence[tuple[str, str]]) -> None:
    """A legend of (text, colour) entries in one line at the upper right."""
    from matplotlib.patches import Patch

    width, height = figure.get_size_inches()
    figure.legend(
        handles=[Patch(facecolor=colour, edgecolor=GRID, linewidth=0.5, label=text) for text, colour in entries],
        loc="upper right",
        bbox_to_anchor=(1 - 0.3 / width, 1 - 0.16 / height),
        ncols=len(entries),
        frameon=False,
        fontsize=7.5,
        handlelength=1.1,
        handleheight=0.9,
        handletextpad=0.5,
        columnspacing=1.4,
        borderaxespad=0,
    )


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` to `path` as PNG or SVG, by its suffix; the same figure gives the same bytes.

    Raises InputError on another suffix.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(Problem(str(path), f'got the suffix "{path.suffix}", expected {" or ".join(SUFFIXES)}'))
    with replacing(path) as temporary, temporary.open("wb") as stream:
        _render(figure, stream, path.suffix.removeprefix("."))


def svg_markup(figure: Figure, *, key: str, label: str) -> str:
    """`figure` as an `<svg>` element to stand inside a page: no external name, ids of its own, colours as CSS variables.

    `key` sets its ids apart from those of the page's other figures; `label` says what it shows to those who cannot see it.
    """
    stream = io.BytesIO()
    _render(figure, stream, "svg")
    text = stream.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{key}-", text)
    text = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", text)
    for colour, name in THEMED.items():
        text = text.replace(colour, f"var(--{name})")
    width, height = figure.get_size_inches()
    view = f"{MARGIN_IN * 72:g} 0 {(width - 2 * MARGIN_IN) * 72:g} {height * 72:g}"
    head = f'<svg viewBox="{view}" role="img" aria-label="{escape(label, quote=True)}"'
    return re.sub(r"<svg [^>]*", head, text, count=1)


def unit_of(seconds: float) -> tuple[str, float]:
    """The unit that suits an axis up to `seconds`, and its length in seconds."""
    return next(((unit, scale) for unit, scale in (("s", 1.0), ("ms", 1e-3)) if seconds >= 2 * scale), ("µs", 1e-6))


def _render(figure: Figure, stream: IO[bytes], kind: str) -> None:
    import matplotlib as mpl

    metadata = _NO_METADATA if kind == "svg" else {"Software": None}
    with mpl.rc_context(_SETTINGS):
        figure.savefig(stream, format=kind, dpi=160, metadata=metadata)
