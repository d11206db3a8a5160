"""Networks and a cluster for the tests of the executor, and the same training in one process. Workers import this too."""

import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.models.intake import chain_of
from hetsim.models.optimizer import make_optimizer
from hetsim.models.zoo import build
from hetsim.scenario.types import InputSpec, NetworkSpec
from hetsim.workload import Training

LOOPBACK = Link("loopback", 1e-5, 1e9)
NAMES = ("a0", "b0", "c0")
KIND = DeviceType("cpu-core", "cpu")
CLUSTER = Cluster(
    (Node("here", tuple(Device(name, KIND.name, "here") for name in NAMES), LOOPBACK),), {KIND.name: KIND}, LOOPBACK
)
GLOBAL_BATCH = 8
LAYERS = 7


class Transposed(nn.Module):
    """Gives a view that is not contiguous."""

    def forward(self, states):
        """Features before positions."""
        return states.transpose(1, 2)


class Mean(nn.Module):
    """Its gradient is one number seen many times over."""

    def forward(self, states):
        """The mean over the last dimension."""
        return states.mean(-1)


def awkward():
    """Seven layers that make life hard at the cuts: nothing to learn in the first, views and means inside."""
    return nn.Sequential(
        nn.Unflatten(1, (4, 6)),
        nn.Sequential(nn.Linear(6, 16), nn.Tanh()),
        Transposed(),
        nn.Sequential(nn.Linear(4, 8), nn.Tanh()),
        Mean(),
        nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16)),
        nn.Linear(16, 5),
    )


def dense(width=16):
    """Seven dense layers."""
    hidden = [nn.Sequential(nn.Linear(24 if i == 0 else width, width), nn.Tanh()) for i in range(LAYERS - 1)]
    return nn.Sequential(*hidden, nn.Linear(width, 5))


class Doomed(nn.Module):
    """A layer that does something dreadful in its n-th training forward, and none in the passes that only try it."""

    def __init__(self, deed, n):
        super().__init__()
        self.deed, self.n, self.count = deed, n, 0

    def forward(self, states):
        """The identity, until it is not."""
        self.count += "RANK" in os.environ
        if self.count == self.n:
            if self.deed == "raise":
                raise ValueError("the third weight is cursed")
            if self.deed == "sleep":
                time.sleep(600)
            if self.deed == "exit":
                sys.exit(0)
            if self.deed == "fill the disk":
                resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
                return states
            if self.deed == "vanish":
                os._exit(0)
            os.kill(os.getpid(), signal.Signals[self.deed])
        return states


def doomed(deed, n, layer=5):
    """Dense layers, one of which is doomed."""
    model = dense()
    model[layer] = nn.Sequential(model[layer], Doomed(deed, n))
    return model


def threaded():
    """Dense layers, and a thread that outlives them."""
    if "RANK" in os.environ:
        threading.Thread(target=time.sleep, args=(600,)).start()
    return dense()


def witnessed(folder):
    """Dense layers; each worker leaves a note in `folder` of the environment that it has had from its very start."""
    if "RANK" in os.environ:
        Path(folder, os.environ["RANK"]).write_bytes(Path("/proc/self/environ").read_bytes())
    return dense()


def from_the_start(path):
    """The environment in a note of `witnessed`."""
    return dict(entry.split("=", 1) for entry in path.read_text().split("\0") if entry)


def spec(function="dense", training=None, **arguments):
    """The network that `function` of this module builds."""
    return NetworkSpec(
        function,
        training or Training(GLOBAL_BATCH),
        module=f"executor_world:{function}",
        arguments=arguments,
        input=InputSpec((24,), classes=5),
    )


def chain(network):
    """The chain of a specification."""
    return chain_of(build(network, 0))


def trained_alone(network, batches, seed=0):
    """Losses and state after training on `batches` in one process, with the whole batch at once."""
    built = build(network, seed)
    optimizer = make_optimizer(list(built.model.parameters()), network.training)
    losses = []
    for inputs, targets in batches:
        loss = built.loss(built.model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, {i: layer.state_dict() for i, layer in enumerate(built.model)}


def state_on_disk(folders):
    """The parameters that the workers of a request saved: layer index -> the states of all that hold it."""
    states = {}
    for path in folders:
        if path.exists():
            for layer, state in torch.load(path).items():
                states.setdefault(layer, []).append(state)
    return states


class Blobs(Dataset):
    """Five clouds of points, as long as is asked, with labels that say which."""

    def __init__(self, length=160, features=24):
        random = torch.Generator().manual_seed(0)
        self.labels = torch.randint(5, (length,), generator=random)
        centres = torch.randn(5, features, generator=random)
        self.points = centres[self.labels] + 0.3 * torch.randn(length, features, generator=random)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.points[index], self.labels[index]


def blobs():
    """What the networks here can learn."""
    return Blobs()


def too_few():
    """Not even a batch."""
    return Blobs(5)


def of_another_shape():
    """Not what the networks here take."""
    return Blobs(features=7)


def no_pairs():
    """Inputs alone."""
    return list(torch.ones(20, 24))


def broken():
    """Fails as it is made."""
    raise RuntimeError("the disk is on fire")
