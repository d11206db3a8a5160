"""hetsim: how to train one network on unlike accelerators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from hetsim.cli.planning import Planned
    from hetsim.study.study import Study

__version__ = "0.1.0"


def plans(
    scenario: str | Path,
    *,
    networks: Sequence[str] | None = None,
    costs: str | Path = "runs/costs",
    time_limit_s: float | None = None,
) -> dict[str, Planned]:
    """What `hetsim plan` answers, as an object a network, by name: `found.result.chosen.plan`, `found.predict(plan)`,
    `found.to_frame()`, and a table in a notebook.

    Raises InputError for a scenario that cannot be read, CostError where costs are missing, InfeasibleError where no plan fits.
    """
    from hetsim.cli.planning import plan_network
    from hetsim.cli.session import Session
    from hetsim.planner import Watch

    session = Session(Path(scenario), networks, Path(costs))
    return {spec.name: plan_network(session, spec, Watch(time_limit_s)) for spec in session.scenario.networks}


def whatif(
    scenario: str | Path,
    *,
    edits: Sequence[str] = (),
    variants: Sequence[str] = (),
    worth: bool = False,
    hinges: bool = False,
    budget: float | None = None,
    power_limit_w: float | None = None,
    executor: Executor | None = None,
    networks: Sequence[str] | None = None,
    costs: str | Path = "runs/costs",
    runs: str | Path = "runs",
) -> Study:
    """What `hetsim whatif` answers, as an object: `study.to_frame()`, and a table in a notebook.

    `edits` make one variant; without any, those of the scenario are meant, or only its `variants` of these names. `executor` plans
    purchases within `budget` and `power_limit_w`: a pool of processes, of threads, of other machines. Without it, a process a core
    does, which a script can only start under `if __name__ == "__main__":`. Raises InputError for a question that cannot be asked,
    CostError where costs are missing.
    """
    from hetsim.cli.session import Session
    from hetsim.cli.whatif import Question, ask, estimator_of

    session = Session(Path(scenario), networks, Path(costs))
    question = Question(tuple(edits), tuple(variants), worth, hinges, budget, power_limit_w, quiet=True)
    return ask(estimator_of(session), question, Path(runs) / "whatif", executor)
