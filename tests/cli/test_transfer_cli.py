"""`hetsim plan` and `predict` where a device type was never measured."""

import pytest

from hetsim.costs.files import write_layer_costs
from hetsim.costs.table import LayerCost

SCENARIO = """\
hetsim: 1
name: pair
networks: {{one: {{layers: [{{name: block, flops: 1e10, parameters: 1000}}], costs: costs.csv}}}}
training: {{global_batch: 8}}
cluster:
  device_types: {{new: {{catalogue: V100 SXM2 16GB}}, old: {{{old}}}}}
  nodes: [{{name: box, devices: {{new: 1, old: 1}}, link: {{latency: 10 us, bandwidth: 10 GB/s}}}}]
"""


@pytest.fixture
def scenario(tmp_path):
    def write(old):
        rows = [LayerCost("new", "block", n, 0.002 * n, 0.004 * n, 1e-4, samples=9) for n in (1, 4, 8)]
        write_layer_costs(tmp_path / "costs.csv", rows)
        path = tmp_path / "pair.yaml"
        path.write_text(SCENARIO.format(old=old))
        return path

    return write


def test_it_is_priced_by_transfer_and_the_output_says_so(hetsim, scenario):
    path = scenario("catalogue: K80")
    (network,) = hetsim.json("plan", path)["networks"]
    assert network["transferred"] == ["old"]
    done = hetsim("predict", path, "--plan", "old0[0:1] 8/1")
    assert done.returncode == 0, done.stderr
    assert "nothing was measured on old; its costs are transferred from new" in done.stderr


def test_its_interval_is_wider(hetsim, scenario):
    path = scenario("catalogue: K80")
    document = hetsim.json("predict", path, "--plan", "old0[0:1] 8/1", "--plan", "new0[0:1] 8/1")
    assert document["transferred"] == {"one": ["old"]}
    old, new = ((p["predicted_high_s"] - p["predicted_low_s"]) / p["predicted_step_s"] for p in document["predictions"])
    assert old > 3 * new
    assert document["predictions"][0]["predicted_step_s"] > 2 * document["predictions"][1]["predicted_step_s"]


def test_without_a_specification_the_error_says_how_to_mend_it(hetsim, scenario):
    path = scenario("")
    done = hetsim("plan", path)
    assert done.returncode == 2
    assert "has no cost for layer block on old" in done.stderr
    assert f"hetsim calibrate {path}" in done.stderr
    assert "catalogue: K80" in done.stderr


def test_all_that_lacks_is_told_type_by_type(hetsim, scenario):
    path = scenario("")
    more = ", ".join(f"{{name: l{number}, flops: 1e10, parameters: 1000}}" for number in range(3))
    path.write_text(path.read_text().replace("layers: [", f"layers: [{more}, "))
    assert "no cost for layers l0, l1, l2 on new; layers l0, l1, l2, block on old" in hetsim("plan", path).stderr
    path.write_text(path.read_text().replace("name: l0,", "name: l0, repeat: 20,"))
    assert "; any of the 23 layers (" in hetsim("plan", path).stderr


def test_an_unknown_entry_is_found_in_its_place(hetsim, scenario):
    done = hetsim("plan", scenario("catalogue: K8"))
    assert done.returncode == 2
    assert "pair.yaml:6:" in done.stderr
    assert 'got "K8", which is not in the catalogue of accelerators. Did you mean "K80"?' in done.stderr
