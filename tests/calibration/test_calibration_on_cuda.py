"""The calibration of a CUDA device beside a processor; skipped where there is none."""

import pytest
import torch

from hetsim.cli.calibrate import curve_points, measure
from hetsim.cli.session import Session

pytestmark = [pytest.mark.cuda, pytest.mark.slow]

SCENARIO = """\
hetsim: 1
name: gpu-and-core
networks: {small: {zoo: mlp, features: 64, width: 64, depth: 2}}
training: {global_batch: 8}
cluster:
  device_types: {gpu: {backend: cuda, memory: 1 GiB}, core: {backend: cpu, memory: 1 GiB}}
  nodes: [{name: box, devices: {gpu: 1, core: {cores: [[0], [1]]}}, link: {latency: 10 us, bandwidth: 10 GB/s}}]
"""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_layers_of_both_are_timed_and_links_among_devices_of_one_backend(tmp_path):
    (tmp_path / "mixed.yaml").write_text(SCENARIO)
    session = Session(tmp_path / "mixed.yaml", None, tmp_path / "costs")
    measure(session, curve_points(session), 0.2, quiet=True)
    assert not session.calibration.missing_links()
    table = session.calibration.measured("small").table
    assert {row.device_type for row in table.layers if row.layer == "dense1"} == {"gpu", "core"}
    groups = {row.group for row in table.transfers if row.operation == "send_recv"}
    assert groups == {("core0", "core1")}
