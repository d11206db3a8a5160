"""The buckets that `hetsim.exchange` predicts are those that DistributedDataParallel fills."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from executor.gradients import GradientExchange
from executor.heartbeat import Heartbeat
from executor.recording import Recorder
from hetsim.exchange import buckets
from hetsim.models.blueprint import cross_entropy
from hetsim.models.intake import chain_of
from hetsim.models.network import Network
from hetsim.models.zoo import build
from hetsim.plan import Plan
from hetsim.scenario.types import NetworkSpec
from hetsim.workload import Training


class TickClock:
    """A clock that ticks when it is looked at."""

    def __init__(self):
        self.ticks = 0

    def now(self):
        """One later than before."""
        self.ticks += 1
        return self.ticks

    def settle(self):
        """Nothing to wait for."""

    def since_start_ns(self, mark):
        """The tick."""
        return mark


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    store = dist.FileStore(str(tmp_path_factory.mktemp("store") / "file"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def dense(*widths):
    pairs = pairwise(widths)
    return Network(
        "dense",
        nn.Sequential(*(nn.Linear(a, b) for a, b in pairs)),
        lambda samples, generator: (
            torch.randn(samples, widths[0], generator=generator),
            torch.randint(widths[-1], (samples,), generator=generator),
        ),
        cross_entropy,
    )


def zoo(name, **sizes):
    return build(NetworkSpec(name, Training(8), zoo=name, arguments=sizes), 0)


NETWORKS = {
    "smaller than the first bucket": lambda: dense(64, 64, 10),
    "the first bucket closes exactly at its limit": lambda: dense(10, 511, 512),
    "several of 25 MiB": lambda: dense(16, 1500, 1500, 2500, 2500, 1500, 10),
    "a tensor larger than a bucket": lambda: dense(16, 2700, 2700, 16),
    "mlp": lambda: zoo("mlp"),
    "vgg": lambda: zoo("vgg", width=64),
    "resnet": lambda: zoo("resnet", width=64),
    "gpt": lambda: zoo("gpt", width=384),
}


def predicted(network):
    count = len(network.model)
    return buckets(Plan.parse(f"a[0:{count}] 4/1 | b[0:{count}] 4/1"), chain_of(network))


@pytest.mark.parametrize("name", NETWORKS)
def test_rebuilt_buckets_are_as_predicted(group, name):
    network = NETWORKS[name]()
    expected = [bucket.size_bytes for bucket in predicted(network)]
    model = DistributedDataParallel(network.model, process_group=group, gradient_as_bucket_view=True)
    for _ in range(3):
        inputs, targets = network.make_batch(2, torch.Generator().manual_seed(0))
        network.loss(model(inputs), targets).backward()
        model.zero_grad()
    logged = model._get_ddp_logging_data()["rebuilt_bucket_sizes"]
    assert [int(size) for size in logged.split(", ")] == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_our_exchange_fills_the_same_buckets_and_records_them(group, name, tmp_path, caplog):
    network = NETWORKS[name]()
    expected = predicted(network)
    recorder = Recorder(TickClock(), Heartbeat(tmp_path / "heartbeat"))
    exchange = GradientExchange(0, recorder)
    model = exchange.wrap(network.model, group, expected)
    inputs, targets = network.make_batch(2, torch.Generator().manual_seed(0))
    alone = torch.autograd.grad(network.loss(network.model(inputs), targets), list(network.model.parameters()))
    for step in range(3):
        recorder._spans.clear()
        model.zero_grad()
        for microbatch in range(2):
            loss = network.loss(model(inputs), targets) / 2
            if microbatch == 1:
                assert not recorder.rows()  # nothing travels before the last backward
                exchange.before_last_backward()
            loss.backward()
        exchange.wait()
        if step == 0:
            exchange.rebuild_buckets()
    assert sorted(action for action, _, _ in recorder.rows()) == sorted(f"0REDUCE{bucket.index}" for bucket in expected)
    assert not caplog.records  # no bucket has another size than expected
    for parameter, gradient in zip(network.model.parameters(), alone, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_bucket_of_another_size_than_expected_is_told_once(group, tmp_path, caplog):
    network = dense(64, 64, 10)
    exchange = GradientExchange(0, Recorder(TickClock(), Heartbeat(tmp_path / "heartbeat")))
    model = exchange.wrap(network.model, group, [replace(bucket, size_bytes=1) for bucket in predicted(network)])
    inputs, targets = network.make_batch(2, torch.Generator().manual_seed(0))
    for _ in range(4):
        exchange.before_last_backward()
        network.loss(model(inputs), targets).backward()
        exchange.wait()
        exchange.rebuild_buckets()
    (record,) = caplog.records
    size = sum(parameter.nbytes for parameter in network.model.parameters())
    assert record.getMessage() == f"gradient bucket 0 has {size} bytes; the buckets were expected to have 1"
