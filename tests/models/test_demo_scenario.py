"""The networks of the mixed CPU demonstration are what its comments say."""

from pathlib import Path

import pytest

from hetsim.models.intake import chain_of
from hetsim.models.zoo import build
from hetsim.scenario import load_scenario

SCENARIO = Path(__file__).parents[2] / "scenarios" / "mixed_cpu.yaml"


@pytest.mark.parametrize(("place", "name", "layers", "parameter_megabytes"), [(0, "conv", 10, 4.6), (1, "gpt", 10, 6.9)])
def test_sizes(place, name, layers, parameter_megabytes):
    scenario = load_scenario(SCENARIO)
    chain = chain_of(build(scenario.networks[place], scenario.seed))
    assert chain.name == name
    assert len(chain) == layers
    assert chain.parameter_bytes() / 1e6 == pytest.approx(parameter_megabytes, abs=0.05)
