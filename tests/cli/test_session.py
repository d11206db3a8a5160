"""What every command starts from, without the command."""

from hetsim.cli.session import Session
from hetsim.costs.files import write_layer_costs, write_transfer_costs
from hetsim.costs.table import LayerCost, TransferCost

SCENARIO = """\
hetsim: 1
name: pair
networks: {one: {layers: [{name: block}], costs: costs}}
training: {global_batch: 8}
cluster:
  device_types: {A: {}, B: {}}
  nodes: [{name: box, devices: {A: 1, B: 1}, link: {latency: 10 us, bandwidth: 10 GB/s}}]
"""


def test_the_inputs_of_a_run_are_the_very_files_that_its_costs_were_read_from(tmp_path):
    scenario, folder = tmp_path / "pair.yaml", tmp_path / "costs"
    scenario.write_text(SCENARIO)
    write_layer_costs(folder / "one.csv", [LayerCost(kind, "block", 8, 1.0, 2.0) for kind in "AB"])
    write_layer_costs(folder / "other.csv", [LayerCost("A", "block", 8, 1.0, 2.0)])
    session = Session(scenario, None, tmp_path / "measured")
    alone = session.new_run(tmp_path / "runs").manifest
    assert [digest.path for digest in alone.inputs] == [str(scenario), str(folder / "one.csv")]
    write_transfer_costs(folder / "transfers.csv", [TransferCost("send_recv", ("a0", "b0"), 1024, 1e-5)])
    both = session.new_run(tmp_path / "runs").manifest
    assert [digest.path for digest in both.inputs] == [str(scenario), str(folder / "one.csv"), str(folder / "transfers.csv")]
