"""Is a K80 worth keeping beside a V100? By network, batch and link, from published batch curves.

`python -m benchmarks.keep_k80 FILE.svg` draws it.

For each network and global batch of scenarios/k80_v100.yaml and each bandwidth between the two: the throughput of both, planned
anew, over that of the V100 alone. Both alone and together are predictions.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from hetsim.cli.session import Session
from hetsim.cli.whatif import estimator_of
from hetsim.report import figures as f
from hetsim.study.edits import edited
from hetsim.study.estimate import Estimator

SCENARIO = Path("scenarios/k80_v100.yaml")
LINKS = ("1 Gbit/s", "10 Gbit/s", "25 Gbit/s", "100 Gbit/s", "25 GB/s", "50 GB/s")
"""From an old office network to a fast fabric: 100 Gbit/s are 12.5 GB/s, about what the bus of a host of those years carries."""


def gains() -> dict[str, list[float]]:
    """Network -> by how much the K80 raises the throughput at each of LINKS; 0: it is better left out."""
    everything = estimator_of(Session(SCENARIO, None, Path("runs/costs")))
    rows: dict[str, list[float]] = {}
    for spec in everything.scenario.networks:
        scenario = replace(everything.scenario, networks=(spec,))
        one = Estimator(scenario, {spec.name: everything.chains[spec.name]}, {spec.name: everything.tables[spec.name]})
        alone = one.estimate(edited(scenario.cluster, ["retire node old"]), interval=False).samples_per_s
        both = (one.estimate(edited(scenario.cluster, [f"network {link}"]), interval=False) for link in LINKS)
        rows[spec.name] = [estimate.samples_per_s / alone - 1 for estimate in both]
    return rows


def draw(rows: dict[str, list[float]], path: Path) -> None:
    """A cell for each network and link, the darker the more the K80 brings."""
    row_in, head_in, left_in, cell_in = 0.34, 1.1, 2.3, 1.1
    width_in = left_in + cell_in * len(LINKS) + 2 * f.MARGIN_IN
    with f.new_figure(width_in, head_in + row_in * len(rows) + 0.4) as figure:
        f.add_text(figure, f.MARGIN_IN, 0.34, "What a K80 adds to a V100's throughput, %", fontsize=12, fontweight="bold")
        told = "by network and global batch, and by the link between the two; retire: less than 0.5 %"
        f.add_text(figure, f.MARGIN_IN, 0.56, told, fontsize=7.5, color=f.SOFT)
        axes = f.add_axes(figure, left_in, head_in, cell_in * len(LINKS), row_in * len(rows))
        axes.set_xlim(0, len(LINKS))
        axes.set_ylim(len(rows), 0)
        axes.spines["bottom"].set_visible(False)
        axes.set_yticks([i + 0.5 for i in range(len(rows))], [f"{name.replace('-', ', ')} samples" for name in rows])
        axes.set_xticks([i + 0.5 for i in range(len(LINKS))], list(LINKS))
        axes.xaxis.tick_top()
        for y, values in enumerate(rows.values()):
            for x, gain in enumerate(values):
                colour = f.TRACK if gain < 0.005 else f.FORWARD if gain < 0.1 else f.BACKWARD
                axes.fill_between([x + 0.03, x + 0.97], y + 0.06, y + 0.94, color=colour, linewidth=0)
                ink = f.INK if colour == f.TRACK else f.ON_LIGHT if colour == f.FORWARD else f.ON_DARK
                text = "retire" if gain < 0.005 else f"+{gain * 100:.0f}"
                axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=8, color=ink)
    f.save_figure(figure, path)


def main() -> int:
    """Draw the picture, and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="where the picture goes (PNG or SVG)")
    rows = gains()
    draw(rows, parser.parse_args().file)
    lines = [f"| network and batch | {' | '.join(LINKS)} |", "|---" * (len(LINKS) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(f'{value:+.0%}' for value in values)} |" for name, values in rows.items()]
    sys.stdout.write("\n".join([*lines, ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
