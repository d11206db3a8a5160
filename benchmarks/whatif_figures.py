"""The figures of docs/what-if.md, from the scenarios that it is about.

`python -m benchmarks.whatif_figures docs/figures`
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hetsim.cli.session import Session
from hetsim.cli.whatif import Question, ask, estimator_of
from hetsim.report.figures import save_figure
from hetsim.report.study_figures import changes_figure, front_figure, hinges_figure, worth_figure
from hetsim.study.document import study_document

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BUY, RETIRE, FLEET = (Path(f"scenarios/{name}.yaml") for name in ("buy_under_budget", "retire_k80", "mixed_fleet"))

FIGURES: Mapping[str, tuple[Path, Question, Callable[[Mapping[str, Any]], Figure]]] = {
    "retire-changes": (RETIRE, Question(quiet=True), changes_figure),
    "purchase-front": (BUY, Question(budget=40_000, quiet=True), front_figure),
    "purchase-hinges": (BUY, Question(edits=("buy 2 A100 into new1",), hinges=True, quiet=True), hinges_figure),
    "fleet-worth": (FLEET, Question(worth=True, quiet=True), worth_figure),
}


def main() -> int:
    """Draw them all into the folder that is named."""
    (folder,) = map(Path, sys.argv[1:] or ["docs/figures"])
    with tempfile.TemporaryDirectory() as journals:
        for name, (scenario, question, draw) in FIGURES.items():
            study = ask(estimator_of(Session(scenario, None, Path("runs/costs"))), question, Path(journals))
            save_figure(draw(study_document(study)), folder / f"{name}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
