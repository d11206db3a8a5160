"""The intake: a network's figures against closed formulas, and what cannot be taken in."""

import re
from collections import OrderedDict

import pytest
import torch
from network_specs import SMALL, zoo_spec
from torch import nn

from hetsim.errors import NetworkError
from hetsim.models.blueprint import Blueprint
from hetsim.models.intake import chain_of, layer_names
from hetsim.models.sizes import ZOO
from hetsim.models.zoo import build
from hetsim.scenario.types import InputSpec

FLOAT = 4


def network_of(*layers, shape=(6,), **input_):
    model = nn.Sequential(OrderedDict((f"l{i}", module) for i, module in enumerate(layers)))
    return Blueprint(model, InputSpec(shape, classes=3, **input_)).network("net")


def figures(layer):
    return layer.output_bytes_per_sample, layer.saved_bytes_per_sample, layer.forward_flops_per_sample


@pytest.mark.parametrize("zoo", ZOO)
def test_parameters_are_the_models(zoo):
    network = build(zoo_spec(zoo), seed=0)
    chain = chain_of(network)
    assert chain.name == network.name
    assert [layer.name for layer in chain.layers] == [name for name, _ in network.model.named_children()]
    assert [n for layer in chain.layers for n in layer.parameters] == [p.numel() for p in network.model.parameters()]
    assert chain.parameter_bytes() == sum(p.nbytes for p in network.model.parameters())


@pytest.mark.parametrize("zoo", ZOO)
def test_outputs_are_the_models(zoo):
    network = build(zoo_spec(zoo), seed=0)
    states, _ = network.make_batch(3, torch.Generator().manual_seed(0))
    chain = chain_of(network)
    assert chain.input_bytes_per_sample == states.nbytes / 3
    for layer, module in zip(chain.layers, network.model, strict=True):
        states = module(states)
        assert layer.output_bytes_per_sample == states.nbytes / 3


def test_dense_layers():
    """A dense layer keeps its input, ReLU its output; the head's input is the ReLU's output, kept already."""
    chain = chain_of(build(zoo_spec("mlp", depth=2), seed=0))
    assert [figures(layer) for layer in chain.layers] == [
        (16 * FLOAT, (12 + 16) * FLOAT, 2 * 12 * 16),
        (16 * FLOAT, 16 * FLOAT, 2 * 16 * 16),
        (5 * FLOAT, 0, 2 * 16 * 5),
    ]


def test_convolution_layers():
    """A convolution keeps its input, group norm that and two statistics a group, ReLU its output, pooling its places."""
    chain = chain_of(build(zoo_spec("vgg"), seed=0))
    first, last_of_level = chain.layers[:2]
    pixels, groups, place = 8 * 8, 4, 8
    whole = 4 * pixels * FLOAT
    assert figures(first) == (whole, 3 * pixels * FLOAT + 2 * whole + 2 * groups * FLOAT, 2 * 9 * 3 * 4 * pixels)
    assert figures(last_of_level) == (
        whole / 4,
        2 * whole + 2 * groups * FLOAT + 4 * pixels / 4 * place,
        2 * 9 * 4 * 4 * pixels,
    )


@pytest.mark.parametrize("zoo", ["gpt", "bert"])
def test_flops_of_a_transformer_block(zoo):
    """24 s w² of the matrices and 4 s² w of attention: Korthikanti et al. 2022, appendix A, for one sample forward."""
    sequence, width = SMALL[zoo]["sequence"], SMALL[zoo]["width"]
    block = chain_of(build(zoo_spec(zoo), seed=0)).layers[1]
    assert block.forward_flops_per_sample == 24 * sequence * width**2 + 4 * sequence**2 * width


def test_what_does_not_grow_with_the_batch_drops_out():
    class Positioned(nn.Module):
        """Adds to its input a product of parameters, whose factors autograd keeps once whatever the batch."""

        def __init__(self):
            super().__init__()
            self.factors = nn.Parameter(torch.ones(6, 6))

        def forward(self, states):
            return states + (self.factors.exp() @ self.factors)[0]

    layer = chain_of(network_of(Positioned(), nn.Linear(6, 3))).layers[0]
    assert figures(layer) == (6 * FLOAT, 0, 0.0)


def test_saved_bytes_are_what_the_whole_network_keeps():
    """The layers' figures add up to the distinct storages that autograd keeps in one pass over the whole network."""
    network = build(zoo_spec("resnet"), seed=0)
    own = {p.untyped_storage().data_ptr() for p in network.model.parameters()}

    def kept(samples):
        tensors = []
        inputs, _ = network.make_batch(samples, torch.Generator().manual_seed(0))
        with torch.autograd.graph.saved_tensors_hooks(lambda t: tensors.append(t.detach()), lambda t: t):
            network.model(inputs)
        sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        return sum(size for pointer, size in sizes.items() if pointer not in own)

    total = sum(layer.saved_bytes_per_sample for layer in chain_of(network).layers)
    assert total == (kept(7) - kept(3)) / 4


def test_only_what_learns_counts():
    network = network_of(nn.Linear(6, 6), nn.Linear(6, 3))
    network.model[0].bias.requires_grad_(False)
    assert [layer.parameters for layer in chain_of(network).layers] == [(36,), (18, 3)]


@pytest.mark.parametrize("grad_enabled", [True, False])
def test_the_network_is_left_as_it_was(grad_enabled):
    network = network_of(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))
    before = {name: tensor.clone() for name, tensor in network.model.state_dict().items()}
    random_state = torch.get_rng_state()
    with torch.set_grad_enabled(grad_enabled):
        chain = chain_of(network)
    assert chain.layers[1].saved_bytes_per_sample == 6 * FLOAT, "the batch's own statistics do not grow with the batch"
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.model.state_dict().items())
    assert all(parameter.grad is None for parameter in network.model.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_half_precision_halves_the_bytes():
    network = build(zoo_spec("mlp", depth=2), seed=0)
    chain = chain_of(network, "bfloat16")
    assert (chain.element_bytes, chain.input_bytes_per_sample) == (2, 12 * 2)
    assert [figures(layer) for layer in chain.layers] == [
        (16 * 2, (12 + 16) * 2, 2 * 12 * 16),
        (16 * 2, 16 * 2, 2 * 16 * 16),
        (5 * 2, 0, 2 * 16 * 5),
    ]
    assert next(network.model.parameters()).dtype is torch.float32


@pytest.mark.parametrize("zoo", ZOO)
def test_every_network_can_be_taken_in_at_half_precision(zoo):
    network = build(zoo_spec(zoo), seed=0)
    whole, half = chain_of(network), chain_of(network, "bfloat16")
    for a, b in zip(whole.layers, half.layers, strict=True):
        assert (a.name, a.parameters, a.output_bytes_per_sample) == (b.name, b.parameters, 2 * b.output_bytes_per_sample)
        assert a.forward_flops_per_sample == b.forward_flops_per_sample


def test_names():
    relu = nn.ReLU()
    assert layer_names(nn.Sequential(nn.Linear(2, 2), relu, nn.Linear(2, 2), relu)) == (
        "linear0",
        "relu1",
        "linear2",
        "relu3",
    )
    odd = OrderedDict([("my conv", nn.ReLU()), ("my_conv", nn.ReLU()), ("0", nn.Sequential(relu)), ("head", relu)])
    assert layer_names(nn.Sequential(odd)) == ("my_conv", "my_conv_", "sequential0", "head")


class Lambda(nn.Module):
    """A layer that does what it is told."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, states):
        return self.function(states)


def tied():
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    return first, second, nn.Linear(6, 3)


def twice():
    layer = nn.Linear(6, 6)
    return layer, layer, nn.Linear(6, 3)


def frozen():
    return (nn.Linear(6, 3).requires_grad_(False),)


def idle():
    layer = nn.Linear(6, 3)
    layer.idle = nn.Parameter(torch.ones(2))
    return (layer,)


@pytest.mark.parametrize(
    ("layers", "messages"),
    [
        (tied, ['network "net", layer "l1": shares its "weight" with layer "l0", so a split could put it on two devices']),
        (
            twice,
            [
                'network "net", layer "l1": shares its "weight" with layer "l0", so a split could put it on two devices',
                'network "net", layer "l1": shares its "bias" with layer "l0", so a split could put it on two devices',
            ],
        ),
        (tuple, ['network "net": is an empty nn.Sequential, expected one child a layer']),
        (frozen, ['network "net": has no learnable parameters, so there is nothing to train']),
        (idle, ['network "net", layer "l0": its parameter "idle" gets no gradient']),
        (
            lambda: (nn.Linear(6, 3), Lambda(torch.detach)),
            [
                'network "net", layer "l0": its parameter "weight" gets no gradient',
                'layer "l0": its parameter "bias" gets no',
            ],
        ),
        (
            lambda: (nn.Linear(6, 4), nn.Linear(5, 3)),
            [
                'network "net", layer "l1": cannot take an input of shape [2, 4] and torch.float32: RuntimeError: mat1 and mat2'
            ],
        ),
        (
            lambda: (nn.Linear(6, 3), nn.ReLU(inplace=True)),
            ['network "net", layer "l1": changes its input in place, so no split could cut before it. Use inplace=False'],
        ),
        (
            lambda: (nn.ReLU(inplace=True), nn.Linear(6, 3)),
            ['network "net", layer "l0": changes its input in place, so no split could cut before it. Use inplace=False'],
        ),
        (
            lambda: (nn.Linear(6, 6), nn.LSTM(6, 3)),
            ['network "net", layer "l1": returned a tuple, expected one tensor. Wrap it in a module that returns only that'],
        ),
        (
            lambda: (nn.Linear(6, 3), Lambda(lambda x: x.flatten())),
            ['layer "l1": turned 2 samples into an output of shape [6], expected 2 as the first dimension. Every layer'],
        ),
        (
            lambda: (nn.Linear(6, 6), Lambda(torch.sum)),
            ['network "net", layer "l1": turned 2 samples into an output of shape [], expected 2 as the first dimension'],
        ),
        (
            lambda: (nn.Linear(6, 2), Lambda(lambda x: x.t()), nn.Linear(2, 3)),
            ['layer "l1": turned 4 samples into an output of shape [2, 4], expected 4 as the first dimension'],
        ),
        (
            lambda: (nn.Linear(6, 3), Lambda(torch.argmax)),
            ['network "net", layer "l1": returned torch.int64, expected floats, through which gradients can pass'],
        ),
        (
            lambda: (nn.Linear(6, 2),),
            ['network "net": its loss or its backward pass failed: IndexError: Target 2 is out of bounds.'],
        ),
    ],
)
def test_what_cannot_be_cut_is_refused(layers, messages):
    with pytest.raises(NetworkError) as raised:
        chain_of(network_of(*layers()))
    found = str(raised.value).splitlines()
    assert len(found) == len(messages)
    assert all(message in line for message, line in zip(messages, found, strict=True))


def test_wrong_input_names_the_first_layer():
    with pytest.raises(NetworkError, match=re.escape('layer "l0": cannot take an input of shape [2, 6] and torch.int64')):
        chain_of(network_of(nn.Linear(6, 3), vocabulary=7))
