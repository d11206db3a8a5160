"""Marks in place: every layer's forward and backward is timed, and is that layer's."""

import time

import pytest
import torch
from torch import nn

from calibration.timing import InPlaceTimer, pipeline_order
from hetsim.models.network import Network
from hetsim.workload import Training


class Sleep(torch.autograd.Function):
    """Passes its input on after some time, and its gradient after some other."""

    @staticmethod
    def forward(context, value, forward_s, backward_s):
        time.sleep(forward_s)
        context.backward_s = backward_s
        return value * 1

    @staticmethod
    def backward(context, gradient):
        time.sleep(context.backward_s)
        return gradient, None, None


class Sleepy(nn.Module):
    def __init__(self, forward_s, backward_s, *, learns):
        super().__init__()
        self.seconds = forward_s, backward_s
        self.inner = nn.Linear(4, 4) if learns else nn.Identity()

    def forward(self, value):
        return Sleep.apply(self.inner(value), *self.seconds)


def make_timer(*layers):
    def make_batch(samples, generator):
        return torch.randn(samples, 4, generator=generator), torch.randint(4, (samples,), generator=generator)

    network = Network("net", nn.Sequential(*layers), make_batch, nn.functional.cross_entropy)
    return InPlaceTimer(network, Training(2), torch.device("cpu"), seed=0)


def as_text(in_flight):
    """The order of a marked step; what does not count in small letters."""
    letters = ["F" if work.forward else "B" for work in pipeline_order(in_flight)]
    return "".join(
        letter if work.counts else letter.lower() for letter, work in zip(letters, pipeline_order(in_flight), strict=True)
    )


def test_few_microbatches_are_timed_in_turn_as_1f1b_has_them_and_many_as_gpipe():
    assert as_text(1) == "FB"
    assert as_text(2) == "ffb" + "FB" * 4 + "b"
    assert as_text(4) == "ffffb" + "FB" * 4 + "bbb"
    assert as_text(8) == "F" * 8 + "B" * 8


@pytest.mark.parametrize("in_flight", [1, 3, 5])
def test_each_layer_gets_its_own_time(in_flight):
    timer = make_timer(Sleepy(0.02, 0.05, learns=True), Sleepy(0.04, 0.01, learns=True), Sleepy(0.001, 0.03, learns=True))
    step = timer.marked_step(*timer.batch(2), in_flight)
    # Sleeping takes at least as long as it is told to, and what belongs to another layer is longer than any overhead here.
    assert [round(s, 2) >= told for s, told in zip(step.forward_s, (0.02, 0.04, 0.0), strict=True)] == [True] * 3
    order = sorted(range(3), key=lambda layer: step.backward_s[layer])
    assert order == [1, 2, 0], "backward times belong to their layers"
    assert sorted(range(3), key=lambda layer: step.forward_s[layer]) == [2, 0, 1]
    assert step.total_s >= 0.02 + 0.04 + 0.05 + 0.01 + 0.03


def test_layers_before_the_first_that_learns_have_no_backward():
    timer = make_timer(nn.Identity(), Sleepy(0.0, 0.02, learns=True))
    step = timer.marked_step(*timer.batch(2))
    assert step.backward_s[0] == 0.0
    assert step.backward_s[1] >= 0.02


def test_timing_leaves_the_network_as_it_is():
    timer = make_timer(nn.Linear(4, 4), nn.Linear(4, 4))
    before = [p.clone() for p in timer._model.parameters()]
    for _ in range(20):
        timer.plain_step(*timer.batch(2))
        timer.marked_step(*timer.batch(2))
    after = list(timer._model.parameters())
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for p in after)


def test_what_autograd_keeps_is_counted_by_layer_and_grows_with_the_batch():
    timer = make_timer(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 4))
    small, large = (timer.footprint(*timer.batch(samples)).saved_bytes for samples in (8, 80))
    first, relu, last = small
    assert first == 8 * 4 * 4, "its input"
    assert relu == 8 * 64 * 4, "its output, which the next layer keeps too: counted once"
    assert last == 0
    assert large == [10 * size for size in small]


def test_a_step_takes_at_least_what_it_is_known_to_hold():
    """A layer whose forward makes a scratch of 64 MiB for a moment: the kernel has seen it."""

    class Scratch(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, value):
            scratch = torch.ones(16 << 20)
            return self.inner(value) + 0 * scratch.sum()

    timer = make_timer(Scratch())
    footprint = timer.footprint(*timer.batch(2))
    if footprint.workspace_bytes is None:
        pytest.skip("this machine does not tell how much a process has held")
    assert 60 << 20 <= footprint.workspace_bytes < 96 << 20, "some of it may lie in what the process had already"
    assert footprint.context_bytes > 50 << 20, "torch alone takes more"


def test_setting_gradients_back_is_part_of_the_update():
    timer = make_timer(nn.Linear(4, 4))
    step = timer.plain_step(*timer.batch(2))
    assert 0 <= step.zero_s <= step.update_s <= step.total_s
    assert all(seconds >= 0 for seconds in timer.copy_s(2))
