"""The scenario: the file a user writes, checked, as frozen dataclasses."""

from pathlib import Path

from hetsim.scenario.local import local_cluster
from hetsim.scenario.types import STRATEGIES, InputSpec, Measure, NetworkSpec, Scenario, Search, Strategy

__all__ = [
    "STRATEGIES",
    "InputSpec",
    "Measure",
    "NetworkSpec",
    "Scenario",
    "Search",
    "Strategy",
    "load_scenario",
    "local_cluster",
]


def load_scenario(path: Path) -> Scenario:
    """The scenario in the file at `path`. Raises ScenarioError with every fault and its line and column."""
    from hetsim.scenario import load  # brings pydantic and the YAML parser, which most users of the types never need

    return load.load_scenario(path)
