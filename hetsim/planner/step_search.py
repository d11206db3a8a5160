"""The search for the shortest step on one cluster: all families of plans, and what none of their plans can be under."""

from __future__ import annotations

from dataclasses import dataclass, field

from hetsim.costs import CostModel
from hetsim.planner.arrangements import list_arrangements
from hetsim.planner.evaluation import Race
from hetsim.planner.families import Effort, Family, leave_open
from hetsim.planner.hybrids import hybrids
from hetsim.planner.plain_families import data_parallel, groups_alone, pipelines
from hetsim.planner.watch import Watch
from hetsim.planner.work_floor import ROUNDING_S
from hetsim.scenario.types import Search
from hetsim.workload import Training


@dataclass
class StepSearch:
    """What came of it, as far as it went."""

    families: list[Family] = field(default_factory=list)
    bound_s: float = 0.0
    """No plan of the searched strategies has a shorter step; infinite where there is none."""


def search_steps(
    costs: CostModel, training: Training, search: Search, race: Race, watch: Watch, effort: Effort
) -> StepSearch:
    """Let the best plans of all families that are searched be evaluated, in an order in which each profits from what is known.

    Ctrl-C ends it where a plan is known.
    """
    found = StepSearch()

    def best_s() -> float:
        return race.best_s

    try:
        if "data_parallel" in search.strategies:
            found.families.append(Family("data parallel", 0.0))
            found.families[-1] = data_parallel(costs, training, search, race)
        whole = len(found.families)
        if "hybrid" in search.strategies:
            found.families.append(Family("hybrids", 0.0))
            found.families[-1] = hybrids(costs, training, search, race, best_s, watch, effort)
        if {"model_parallel", "pipeline"} & set(search.strategies):
            found.families.append(groups_alone(costs, training, search, race))
            found.families.append(Family("pipelines", 0.0))
            found.families[-1] = pipelines(costs, training, search, race, best_s, watch, effort)
        list_arrangements(costs, training, search, race, best_s, watch, effort, found.families[whole:])
    except KeyboardInterrupt:
        if not race.has_plan:
            raise
        watch.stopped = True
    leave_open(found.families, race.best_s, effort.gap)
    # Start, update, forwards and backwards in up to one piece a layer, and as many exchanges.
    rounding_s = ROUNDING_S * (4 + 4 * len(costs.chain))
    least_s = min((family.bound_s for family in found.families), default=0.0)
    # Bounds rest on costs as they are while all devices of a host work; where some rest, the others may compute faster.
    found.bound_s = max(0.0, least_s * costs.least_factor - rounding_s)
    return found
