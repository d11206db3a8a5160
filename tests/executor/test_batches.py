"""What is trained on: every sample of a dataset once an epoch, whatever the shares, and datasets that are of no use told."""

from dataclasses import replace

import pytest
import torch
from executor_world import CLUSTER, GLOBAL_BATCH, chain, spec
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from executor.batches import DatasetBatches, WeightedDistributedSampler
from executor.job import RunRequest
from executor.launch import run
from hetsim.errors import NetworkError
from hetsim.models.user_code import dataset_of_user
from hetsim.models.zoo import build
from hetsim.plan import Plan
from hetsim.scenario.types import Measure
from hetsim.workload import Training


class Numbered(Dataset):
    """Sample i is i."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return torch.full((3,), float(index)), torch.tensor(index)


@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 5), st.data())
def test_the_parts_of_a_step_are_one_batch_and_an_epoch_has_every_sample_once(batch, extra, seed, data):
    length = batch + extra
    cuts = sorted(data.draw(st.sets(st.integers(1, batch - 1), max_size=3))) if batch > 1 else []
    shares = [slice(a, b) for a, b in zip([0, *cuts], [*cuts, batch], strict=True)]
    whole = WeightedDistributedSampler(length, batch, slice(0, batch), seed)
    parts = [WeightedDistributedSampler(length, batch, share, seed) for share in shares]
    for step in range(2 * len(whole)):
        together = [index for part in parts for index in part.part(step)]
        assert together == whole.part(step)
        assert len(together) == batch
    first = [index for step in whole for index in step]
    assert len(set(first)) == len(first) == length // batch * batch
    second = [index for step in range(len(whole), 2 * len(whole)) for index in whole.part(step)]
    assert len(set(second)) == len(second)


def test_a_replica_loads_its_own_samples_and_no_others():
    seen = []

    class Watched(Numbered):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    batches = DatasetBatches(Watched(100), 100, 10, seed=3)
    inputs, targets = batches.share(4, slice(6, 10))
    assert inputs.shape == (4, 3)
    assert targets.tolist() == seen
    assert seen == WeightedDistributedSampler(100, 10, slice(6, 10), 3).part(4)


@pytest.mark.parametrize(
    ("function", "what"),
    [
        ("too_few", "has 5 samples, fewer than the global batch of 8"),
        ("of_another_shape", "the input of a sample of executor_world:of_another_shape is floats of shape"),
        ("no_pairs", "is no pair of input and target"),
        ("broken", "gives no dataset: RuntimeError: the disk is on fire"),
        ("missing", 'has no function "missing"'),
    ],
)
def test_a_dataset_that_is_of_no_use_is_told(function, what):
    network = replace(spec(), data=f"executor_world:{function}")
    with pytest.raises(NetworkError) as caught:
        dataset_of_user(network, build(network, 0))
    assert what in str(caught.value)


@pytest.mark.slow
def test_a_network_learns_a_dataset_whatever_the_split(tmp_path):
    network = replace(spec(training=Training(GLOBAL_BATCH, "adamw", learning_rate=0.01)), data="executor_world:blobs")
    requests = [
        RunRequest(text, Plan.parse(text))
        for text in ("a0[0:7] 6/2 | b0[0:7] 2/1", "a0[0:3] > b0[3:7] 8/4; 1f1b", "c0[0:7] 8/1")
    ]
    measured = run(requests, network, chain(network), CLUSTER, measure=Measure(steps=60), log_dir=tmp_path)
    for one in measured:
        assert sum(one.losses[-10:]) < 0.5 * sum(one.losses[:10])
        assert one.losses == pytest.approx(measured[-1].losses, rel=1e-3)
