"""The shipped scenarios load, are priced in full, and say what their comments say. Splits are tried out here one by one."""

from fractions import Fraction
from pathlib import Path

import pytest

from hetsim.costs import CostModel
from hetsim.costs.files import read_cost_table
from hetsim.scenario import NetworkSpec, Scenario, load_scenario

SHIPPED = Path(__file__).parents[2] / "scenarios"


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_it_loads_and_its_costs_are_complete(path):
    scenario = load_scenario(path)
    for spec in scenario.networks:
        if spec.costs is not None:
            assert spec.chain is not None
            costs = CostModel(spec.chain, scenario.cluster, read_cost_table(spec.costs, spec.name))
            costs.require(kind.name for kind in scenario.cluster.used_types)


def priced(scenario: Scenario, spec: NetworkSpec) -> CostModel:
    return CostModel(spec.chain, scenario.cluster, read_cost_table(spec.costs, spec.name))


def compute_s(costs: CostModel, device: str, samples: int, layers=None) -> float:
    held = range(len(costs.chain)) if layers is None else layers
    return sum(
        costs.forward(device, layer, samples).seconds + costs.backward(device, layer, samples).seconds
        for layer in held
        if samples
    )


def test_in_the_textbook_a_k80_is_half_a_v100_and_the_rules_hold_exactly():
    scenario = load_scenario(SHIPPED / "textbook.yaml")
    (spec,) = scenario.networks
    costs = priced(scenario, spec)
    k80, v100 = (device.name for device in scenario.cluster.devices)
    batch, depth = spec.training.global_batch, len(spec.chain)

    by_share = {n: max(compute_s(costs, k80, n), compute_s(costs, v100, batch - n)) for n in range(batch + 1)}
    by_cut = {
        cut: max(compute_s(costs, k80, 1, range(cut)), compute_s(costs, v100, 1, range(cut, depth)))
        for cut in range(depth + 1)
    }
    share, cut = min(by_share, key=by_share.get), min(by_cut, key=by_cut.get)
    assert Fraction(share, batch - share) == Fraction(1, 2)
    assert Fraction(cut, depth) == Fraction(1, 3)
    assert costs.reduce_s([k80, v100], spec.chain.parameter_bytes()) < 1e-9
    assert costs.send_s(k80, v100, batch * spec.chain.boundary_bytes_per_sample(cut)) < 1e-8


def test_on_real_costs_the_textbooks_split_is_far_from_the_best():
    scenario = load_scenario(SHIPPED / "k80_v100.yaml")
    k80, v100 = (device.name for device in scenario.cluster.devices)
    regrets = {}
    for spec in scenario.networks:
        costs, batch = priced(scenario, spec), spec.training.global_batch
        reduce_s = costs.reduce_s([k80, v100], spec.chain.parameter_bytes())
        step_s = {
            n: max(compute_s(costs, k80, n), compute_s(costs, v100, batch - n)) + (reduce_s if 0 < n < batch else 0.0)
            for n in range(batch + 1)
        }
        assert min(step_s, key=step_s.get) == 0, f"{spec.name}: the V100 alone is no longer the best"
        regrets[spec.name] = step_s[round(batch / 3)] / step_s[0]
    assert len(regrets) == 10
    assert min(regrets.values()) == pytest.approx(1.7, abs=0.05)
    assert max(regrets.values()) == pytest.approx(6.7, abs=0.05)


def test_a_v100_is_worth_between_1_7_and_9_6_k80s():
    ratios = []
    for path in (SHIPPED / "costs" / "k80_v100").glob("*.csv"):
        whole = {
            (row.device_type, row.microbatch): row.forward_s + row.backward_s
            for row in read_cost_table(path, path.stem).layers
        }
        ratios += [seconds / whole["V100", samples] for (kind, samples), seconds in whole.items() if kind == "K80"]
    assert min(ratios) == pytest.approx(1.7, abs=0.05)
    assert max(ratios) == pytest.approx(9.6, abs=0.05)
