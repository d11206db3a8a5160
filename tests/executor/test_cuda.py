"""The executor on CUDA devices; skipped where there are none."""

import pytest
import torch
from executor_world import GLOBAL_BATCH, LAYERS, LOOPBACK, chain, spec, state_on_disk, trained_alone

from executor.batches import global_batch
from executor.job import Job, RunRequest
from executor.launch import run
from hetsim.hardware import Cluster, Device, DeviceType, Node
from hetsim.models.zoo import build
from hetsim.plan import Plan
from hetsim.scenario.types import Measure

pytestmark = [pytest.mark.cuda, pytest.mark.slow]

COUNT = torch.cuda.device_count()
MEASURE = Measure(steps=3, warmup_steps=2)


def check(plans, log_dir):
    """Run `plans` on this machine's CUDA devices g0, g1, … and its processor c0, and compare with one process on the CPU."""
    kinds = {"gpu": DeviceType("gpu", "cuda"), "core": DeviceType("core", "cpu")}
    devices = tuple(Device(f"g{i}", "gpu", "here", index=i) for i in range(COUNT))
    cluster = Cluster((Node("here", (*devices, Device("c0", "core", "here")), LOOPBACK),), kinds, LOOPBACK)
    network = spec()
    requests = [RunRequest(text, Plan.parse(text)) for text in plans]
    found = run(requests, network, chain(network), cluster, measure=MEASURE, log_dir=log_dir, keep_parameters=True)
    built = build(network, 0)
    losses, expected = trained_alone(network, [global_batch(built, GLOBAL_BATCH, 0, step) for step in range(5)])
    job = Job.load(log_dir / "job.json")
    for number, measurement in enumerate(found):
        states = state_on_disk([job.folder(device).parameters(number) for device in job.devices])
        assert sorted(states) == list(range(LAYERS))
        for layer, copies in states.items():
            for state in copies:
                cpu = {name: tensor.cpu() for name, tensor in state.items()}
                torch.testing.assert_close(cpu, expected[layer], rtol=1e-3, atol=1e-4)
        assert measurement.losses == pytest.approx(losses[2:], rel=1e-3)
        assert all(0 <= s.start_ns <= s.end_ns for s in measurement.timeline.spans)
        assert all(peak > 0 for peak in measurement.peak_bytes.values())
        assert {d for d in measurement.plan.devices if d.startswith("g")} <= set(measurement.peak_bytes)


@pytest.mark.skipif(COUNT < 1, reason="needs a CUDA device")
def test_one_cuda_device_trains_as_a_processor_does(tmp_path):
    check(["g0[0:7] 8/1", "g0[0:7] 8/4"], tmp_path)


@pytest.mark.skipif(COUNT < 2, reason="needs two CUDA devices")
def test_two_cuda_devices_train_as_a_processor_does(tmp_path):
    check(["g0[0:7] 7/1 | g1[0:7] 1/1", "g0[0:4] > g1[4:7] 8/4; gpipe", "g0[0:4] > g1[4:7] 8/4; 1f1b"], tmp_path)


@pytest.mark.skipif(COUNT < 1, reason="needs a CUDA device")
def test_a_cuda_device_and_a_processor_train_as_a_processor_does(tmp_path):
    check(["g0[0:7] 6/1 | c0[0:7] 2/1", "g0[0:7] 6/2 | c0[0:7] 2/2"], tmp_path)
