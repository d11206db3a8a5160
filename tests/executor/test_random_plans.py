"""Whatever the plan: training comes out as in one process with the whole batch. Plans are drawn by hypothesis, dozens a launch."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from executor_world import CLUSTER, GLOBAL_BATCH, LAYERS, NAMES, chain, spec, state_on_disk, trained_alone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executor.batches import global_batch
from executor.job import Job, RunRequest
from executor.launch import run
from hetsim.models.zoo import build
from hetsim.plan import Plan, Replica, Stage
from hetsim.scenario.types import Measure
from hetsim.workload import Training

pytestmark = pytest.mark.slow

MEASURE = Measure(steps=2, warmup_steps=2)


@st.composite
def plans(draw):
    """Any partition of the devices into replicas, cut anywhere, with any shares and microbatches."""
    devices = draw(st.permutations(NAMES))
    used = draw(st.integers(1, len(devices)))
    borders = sorted(draw(st.sets(st.integers(1, used - 1)))) if used > 1 else []
    groups = [devices[a:b] for a, b in zip([0, *borders], [*borders, used], strict=True)]
    parts = sorted(draw(st.sets(st.integers(1, GLOBAL_BATCH - 1), min_size=len(groups) - 1, max_size=len(groups) - 1)))
    shares = [b - a for a, b in zip([0, *parts], [*parts, GLOBAL_BATCH], strict=True)]
    replicas = []
    for group, share in zip(groups, shares, strict=True):
        cuts = sorted(draw(st.sets(st.integers(1, LAYERS - 1), min_size=len(group) - 1, max_size=len(group) - 1)))
        stages = tuple(Stage(d, a, b) for d, a, b in zip(group, [0, *cuts], [*cuts, LAYERS], strict=True))
        counts = [count for count in range(1, share + 1) if share % count == 0]
        replicas.append(Replica(stages, share, draw(st.sampled_from(counts))))
    return Plan(tuple(replicas), draw(st.sampled_from(["gpipe", "1f1b"])))


@pytest.mark.parametrize(
    "network",
    [
        spec("dense", Training(GLOBAL_BATCH, "sgd", learning_rate=0.1, momentum=0.9)),
        spec("awkward", Training(GLOBAL_BATCH, "adamw", learning_rate=0.01)),
    ],
    ids=["sgd with momentum", "adamw"],
)
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=st.lists(plans(), min_size=12, max_size=12, unique_by=str))
def test_any_plan_trains_as_one_process_does(network, drawn):
    built = build(network, 0)
    batches = [global_batch(built, GLOBAL_BATCH, 0, step) for step in range(MEASURE.warmup_steps + MEASURE.steps)]
    losses, expected = trained_alone(network, batches)
    with TemporaryDirectory() as name:
        folder = Path(name)
        requests = [RunRequest(str(plan), plan) for plan in drawn]
        measured = run(requests, network, chain(network), CLUSTER, measure=MEASURE, log_dir=folder, keep_parameters=True)
        job = Job.load(folder / "job.json")
        for number, measurement in enumerate(measured):
            states = state_on_disk([job.folder(device).parameters(number) for device in job.devices])
            assert sorted(states) == list(range(LAYERS))
            for layer, copies in states.items():
                for state in copies:
                    torch.testing.assert_close(state, expected[layer], rtol=2e-5, atol=2e-6, msg=str(measurement.plan))
            assert measurement.losses == pytest.approx(losses[MEASURE.warmup_steps :], rel=1e-5), measurement.plan
