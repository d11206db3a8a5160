"""The scenario: the file a user writes, checked, as frozen dataclasses."""

from hetsim.scenario.load import load_scenario
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
