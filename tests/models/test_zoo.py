"""The zoo: what its networks are, and that a split leaves their mathematics as it is."""

import hashlib
import inspect
import re
import subprocess
import sys

import pytest
import torch
from network_specs import SMALL, zoo_spec
from torch.nn import functional

from hetsim.errors import NetworkError
from hetsim.models.sizes import ZOO, size_faults
from hetsim.models.zoo import BUILDERS, build
from hetsim.scenario.types import NetworkSpec
from hetsim.workload import Chain, Layer, Training

VARIANTS = [
    *((zoo, {}) for zoo in ZOO),
    ("bert", {"head": "mlm"}),
    *((zoo, {"norm": norm}) for zoo in ("vgg", "resnet") for norm in ("batch", "none")),
]


def batch_of(network, samples, seed=1):
    return network.make_batch(samples, torch.Generator().manual_seed(seed))


def digest(model):
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


def gradients(network, inputs, targets):
    return torch.autograd.grad(network.loss(network.model(inputs), targets), list(network.model.parameters()))


def test_the_table_of_sizes_is_the_builders_signatures():
    assert set(BUILDERS) == set(ZOO)
    for zoo, builder in BUILDERS.items():
        parameters = inspect.signature(builder).parameters.values()
        assert [p.name for p in parameters] == list(ZOO[zoo])
        assert all(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters), (
            "defaults stand in the table alone"
        )


@pytest.mark.parametrize("module", ["hetsim.models.sizes", "hetsim.workload_files"])
def test_no_torch_is_loaded(module):
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("zoo", ZOO)
def test_the_defaults_fit_one_another(zoo):
    assert size_faults(zoo, ZOO[zoo]) == {}


@pytest.mark.parametrize(("zoo", "sizes"), VARIANTS)
def test_every_network_trains(zoo, sizes):
    network = build(zoo_spec(zoo, **sizes), seed=0)
    assert network.name == f"my-{zoo}"
    assert network.model.training
    assert all(parameter.dtype is torch.float32 for parameter in network.model.parameters())
    inputs, targets = batch_of(network, 8)
    optimizer = torch.optim.AdamW(network.model.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = network.loss(network.model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2, "it learns its random labels by heart"


@pytest.mark.parametrize(
    ("zoo", "sizes", "names", "output"),
    [
        ("mlp", {}, "dense1 dense2 dense3 head", (3, 5)),
        ("vgg", {}, "conv1 conv2 conv3 conv4 dense head", (3, 5)),
        ("resnet", {}, "stem block1 block2 block3 block4 head", (3, 5)),
        ("gpt", {}, "embedding block1 block2 head", (3, 6, 11)),
        ("bert", {}, "embedding block1 block2 head", (3, 5)),
        ("bert", {"head": "mlm"}, "embedding block1 block2 head", (3, 6, 11)),
    ],
)
def test_layers_and_shapes(zoo, sizes, names, output):
    network = build(zoo_spec(zoo, **sizes), seed=0)
    inputs, targets = batch_of(network, 3)
    assert [name for name, _ in network.model.named_children()] == names.split()
    assert tuple(network.model(inputs).shape) == output
    assert tuple(targets.shape) == output[:-1]


def test_data_look_like_data():
    images, labels = batch_of(build(zoo_spec("vgg"), seed=0), 500)
    assert images.mean().item() == pytest.approx(0, abs=0.02)  # 96 000 values: 6 deviations of the mean
    assert images.std().item() == pytest.approx(1, abs=0.02)
    assert set(labels.tolist()) == set(range(5))
    tokens, next_tokens = batch_of(build(zoo_spec("gpt"), seed=0), 500)
    assert set(tokens.flatten().tolist()) == set(next_tokens.flatten().tolist()) == set(range(11))


@pytest.mark.parametrize("zoo", ["vgg", "gpt"])
def test_the_loss_is_the_mean_of_the_samples_losses(zoo):
    network = build(zoo_spec(zoo), seed=0)
    inputs, targets = batch_of(network, 5)
    outputs = network.model(inputs)
    each = [
        functional.cross_entropy(o.reshape(-1, o.shape[-1]), t.reshape(-1)) for o, t in zip(outputs, targets, strict=True)
    ]
    torch.testing.assert_close(network.loss(outputs, targets), torch.stack(each).mean())


@pytest.mark.parametrize(("zoo", "sizes"), VARIANTS)
def test_only_batch_norm_changes_the_gradients_of_a_split(zoo, sizes):
    """The gradient of 6 samples is that of 4 and that of 2, weighted by samples: what data parallelism stands on."""
    network = build(zoo_spec(zoo, **sizes), seed=0)
    network.model.double()  # so that rounding cannot be taken for a difference, nor hide one
    inputs, targets = batch_of(network, 6)
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    whole = gradients(network, inputs, targets)
    parts = [gradients(network, inputs[rows], targets[rows]) for rows in (slice(4), slice(4, 6))]
    split = [(4 * four + 2 * two) / 6 for four, two in zip(*parts, strict=True)]
    equal = all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(whole, split, strict=True))
    assert equal == (sizes.get("norm") != "batch")


@pytest.mark.parametrize(("zoo", "looks_ahead"), [("gpt", False), ("bert", True)])
def test_only_the_decoder_is_causal(zoo, looks_ahead):
    network = build(zoo_spec(zoo), seed=0)
    states = [
        network.model[:-1](tokens) for tokens in (torch.tensor([[1, 2, 3, 4, 5, 6]]), torch.tensor([[1, 2, 3, 4, 5, 7]]))
    ]
    assert torch.equal(states[0][:, :5], states[1][:, :5]) != looks_ahead
    assert not torch.equal(states[0][:, 5], states[1][:, 5])


@pytest.mark.parametrize("zoo", ZOO)
def test_no_layer_touches_or_returns_its_input(zoo):
    network = build(zoo_spec(zoo), seed=0)
    states, _ = batch_of(network, 2)
    for layer in network.model:
        before = states.clone()
        output = layer(states)
        assert torch.equal(states, before)
        assert output.untyped_storage().data_ptr() != states.untyped_storage().data_ptr()
        states = output


@pytest.mark.parametrize("zoo", ZOO)
def test_the_seed_alone_makes_the_parameters(zoo):
    torch.manual_seed(5)
    first = digest(build(zoo_spec(zoo), seed=3).model)
    state = torch.get_rng_state()
    torch.manual_seed(6)
    assert digest(build(zoo_spec(zoo), seed=3).model) == first
    assert digest(build(zoo_spec(zoo), seed=4).model) != first
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state), "torch's own random state is left alone"


def test_another_process_makes_the_same_parameters():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_zoo import *; "
        "print(*(digest(build(zoo_spec(zoo), seed=3).model) for zoo in ZOO))"
    )
    command = [sys.executable, "-c", code, __file__.rpartition("/")[0]]
    other = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert other == [digest(build(zoo_spec(zoo), seed=3).model) for zoo in ZOO]


@pytest.mark.parametrize(
    ("zoo", "sizes", "messages"),
    [
        ("gpt", {"heads": 3}, ['network "my-gpt", heads: got 3, expected a divisor of width, 8']),
        (
            "vgg",
            {"image": 6},
            ['network "my-vgg", image: got 6, expected a multiple of 4, because 2 levels halve it 2 times'],
        ),
        (
            "resnet",
            {"image": 7},
            ['network "my-resnet", image: got 7, expected a multiple of 2, because 2 levels halve it 1 times'],
        ),
        (
            "vgg",
            {"norm": "layer", "width": 0, "depth": 2.5, "levels": True, "kernel": 5},
            [
                f'network "my-vgg", kernel: vgg has no size "kernel", expected one of {", ".join(ZOO["vgg"])}',
                'network "my-vgg", width: got 0, expected a whole number of 1 or more',
                'network "my-vgg", levels: got true, expected a whole number of 1 or more',
                'network "my-vgg", depth: got 2.5, expected a whole number of 1 or more',
                'network "my-vgg", norm: got "layer", expected one of group, batch, none',
            ],
        ),
    ],
)
def test_all_wrong_sizes_are_named(zoo, sizes, messages):
    with pytest.raises(NetworkError) as raised:
        build(zoo_spec(zoo, **sizes), seed=0)
    assert str(raised.value).splitlines() == messages


def test_an_unknown_network_is_named():
    spec = NetworkSpec("net", Training(8), zoo="alexnet")
    with pytest.raises(NetworkError, match=re.escape('network "net": the zoo has no "alexnet", expected one of mlp, vgg')):
        build(spec, seed=0)


def test_numbers_alone_cannot_be_built():
    spec = NetworkSpec("net", Training(8), chain=Chain("net", (Layer("only", (3,)),)))
    with pytest.raises(NetworkError, match=r'network "net": is given as numbers alone.*name a network of the zoo'):
        build(spec, seed=0)


@pytest.mark.parametrize("zoo", SMALL)
def test_the_smallest_sizes_build(zoo):
    """Every whole size of 1 (an image large enough to halve) is a network."""
    sizes = {name: 1 for name, default in ZOO[zoo].items() if isinstance(default, int)}
    sizes |= {"image": 2} if "image" in sizes else {}
    network = build(zoo_spec(zoo, **sizes), seed=0)
    inputs, targets = batch_of(network, 4)
    assert torch.isfinite(network.loss(network.model(inputs), targets))
