"""The batches of a run: random ones, or a dataset of the user's, of which each replica loads its own share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from executor.job import Job
from hetsim.errors import NetworkError, Problem, described
from hetsim.models.guest import GuestError, guest
from hetsim.models.network import Network
from hetsim.models.user_code import Sample, dataset_of_user


class Batches(Protocol):
    """Where the steps of a run get their samples."""

    def share(self, step: int, samples: slice) -> tuple[Tensor, Tensor]:
        """Inputs and targets of these samples of the global batch of `step`, which counts the warm-up; on the CPU."""


class RandomBatches:
    """Random samples. The whole batch of a step is the same on every rank and for every plan."""

    def __init__(self, network: Network, samples: int, seed: int) -> None:
        self._network = network
        self._samples = samples
        self._seed = seed
        self._made: tuple[int, tuple[Tensor, Tensor]] | None = None

    def share(self, step: int, samples: slice) -> tuple[Tensor, Tensor]:
        """See Batches."""
        if self._made is None or self._made[0] != step:
            self._made = step, global_batch(self._network, self._samples, self._seed, step)
        inputs, targets = self._made[1]
        return inputs[samples], targets[samples]


class WeightedDistributedSampler(Sampler[list[int]]):
    """The indices of one replica's part of every global batch, a list a step, for as many epochs as are asked for.

    Every epoch is shuffled anew, the same on all ranks; every sample comes once an epoch, except for the last ones where the
    batch does not divide their number. However the batch is split, all parts of a step together are the same samples.
    """

    def __init__(self, length: int, global_batch: int, samples: slice, seed: int) -> None:
        """`samples`: the replica's part of the global batch, which the plan weights by how fast it is."""
        self._length = length
        self._global_batch = global_batch
        self._samples = samples
        self._seed = seed
        self._shuffled: tuple[int, list[int]] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """How many global batches the dataset has."""
        return self._length // self._global_batch

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[list[int]]:
        """The parts of the first epoch."""
        return (self.part(step) for step in range(len(self)))

    def part(self, step: int) -> list[int]:
        """The indices for one step, counted from the first of the run."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._shuffled is None or self._shuffled[0] != epoch:
            generator = torch.Generator().manual_seed(_mixed(self._seed, epoch))
            self._shuffled = epoch, torch.randperm(self._length, generator=generator).tolist()
        first = place * self._global_batch
        return self._shuffled[1][first : first + self._global_batch][self._samples]


class DatasetBatches:
    """A dataset of (input, target) pairs. Each rank loads its own part of every batch and no more."""

    def __init__(self, dataset: Dataset[Sample], length: int, global_batch: int, seed: int) -> None:
        self._dataset = dataset
        self._length = length
        self._global_batch = global_batch
        self._seed = seed
        self._samplers: dict[tuple[int, int], WeightedDistributedSampler] = {}

    def share(self, step: int, samples: slice) -> tuple[Tensor, Tensor]:
        """See Batches. Raises NetworkError where the user's dataset fails."""
        key = (samples.start, samples.stop)
        if key not in self._samplers:
            self._samplers[key] = WeightedDistributedSampler(self._length, self._global_batch, samples, self._seed)
        indices = self._samplers[key].part(step)
        with guest():
            try:
                inputs, targets = default_collate([self._dataset[index] for index in indices])
            except GuestError as cause:
                what = f"samples {indices[0]} and the like cannot be loaded: {described(cause)}"
                raise NetworkError(Problem("the dataset", what)) from cause
        return inputs, targets


def make_batches(job: Job, network: Network) -> Batches:
    """Where the steps of `job` get their samples. Raises NetworkError where the user's dataset is of no use."""
    samples, seed = job.training.global_batch, job.seed
    if job.network.data is None:
        return RandomBatches(network, samples, seed)
    dataset, length = dataset_of_user(job.network, network)
    return DatasetBatches(dataset, length, samples, seed)


def global_batch(network: Network, samples: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """The whole random batch of one step, counted with the warm-up: the same on every rank and for every plan."""
    return network.make_batch(samples, torch.Generator().manual_seed(_mixed(seed, step)))


def _mixed(seed: int, number: int) -> int:
    return (seed * 1_000_003 + number) % 2**63
