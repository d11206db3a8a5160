"""Networks from the user's own code, as real modules on disk."""

import itertools
import re
import sys
from pathlib import Path

import pytest
import torch

from hetsim.errors import NetworkError
from hetsim.models.intake import chain_of
from hetsim.models.zoo import build
from hetsim.scenario.types import InputSpec, NetworkSpec
from hetsim.workload import Training

GOOD = """
import torch
from torch import nn

constant = 3

def make(width=4, classes=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(6, width), nn.ReLU(), nn.Linear(width, classes))

def tokens():
    return nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7))

def plain():
    return nn.Linear(6, 3)

def empty():
    return nn.Sequential()

def double():
    return nn.Sequential(nn.Linear(6, 3).double())

def flat():
    return nn.Sequential(nn.Linear(6, 3), nn.Flatten(0))

def late(name):
    import helpers
    return helpers.make()
"""
INPUT = InputSpec((6,), classes=3)
_numbers = itertools.count()


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a module of a name of its own into the current directory, and forgets it after the test."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def write_module(source=GOOD):
        name = f"user_nets_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    yield write_module
    for name in set(sys.modules) - before:
        if name.startswith("user_nets_") or name == "helpers":
            del sys.modules[name]


def spec_of(reference, sample=INPUT, **arguments):
    return NetworkSpec("mine", Training(8), module=reference, arguments=arguments, input=sample)


def message_of(spec):
    with pytest.raises(NetworkError) as raised:
        build(spec, seed=0)
    return str(raised.value)


def test_a_function_in_the_current_directory(write):
    path = list(sys.path)
    network = build(spec_of(f"{write()}:make", InputSpec((2, 3), classes=3), width=5), seed=0)
    assert sys.path == path
    inputs, targets = network.make_batch(4, torch.Generator().manual_seed(0))
    assert inputs.shape == (4, 2, 3)
    assert targets.shape == (4,)
    network.loss(network.model(inputs), targets).backward()
    assert [(layer.name, layer.parameters) for layer in chain_of(network).layers] == [
        ("flatten0", ()),
        ("linear1", (30, 5)),
        ("relu2", ()),
        ("linear3", (15, 3)),
    ]


def test_an_installed_package(tmp_path, write, monkeypatch):
    package = tmp_path / "site" / "user_nets_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text(GOOD)
    monkeypatch.syspath_prepend(package.parent)
    assert len(build(spec_of("user_nets_package.nets:make"), seed=0).model) == 4


def test_the_seed_alone_makes_the_parameters(write):
    reference = f"{write()}:make"
    weights = [build(spec_of(reference), seed=seed).model[1].weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_one_label_a_token_where_the_output_has_tokens(write):
    network = build(spec_of(f"{write()}:tokens", InputSpec((5,), vocabulary=7, classes=7)), seed=0)
    inputs, targets = network.make_batch(3, torch.Generator().manual_seed(0))
    assert inputs.dtype is torch.int64
    assert targets.shape == (3, 5)
    assert network.loss(network.model(inputs), targets).dim() == 0


def test_the_current_directory_serves_the_function_too(tmp_path, write):
    (tmp_path / "helpers.py").write_text(GOOD)
    assert len(build(spec_of(f"{write()}:late", name="x"), seed=0).model) == 4


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("mak", {}, 'has no function "mak". Did you mean "make"?'),
        ("zzz", {}, 'has no function "zzz". Known: make, tokens, plain, empty, double, flat, late'),
        ("constant", {}, ":constant is a int, expected a function"),
        ("make", {"wide": 3}, ":make(wide=3) failed: TypeError: make() got an unexpected keyword argument 'wide'"),
        ("late", {"name": "x"}, ":late(name='x') failed: ModuleNotFoundError: No module named 'helpers'"),
        (
            "plain",
            {},
            ":plain returned a Linear, expected an nn.Sequential. Give it the pieces that a split may not cut as children",
        ),
        ("empty", {}, "is an empty nn.Sequential, expected one child a layer"),
        ("double", {}, 'parameter "0.bias": is torch.float64 on cpu, expected torch.float32 on cpu'),
        ("flat", {}, 'network "mine", layer "flatten1": turned 2 samples into an output of shape [6]'),
        (
            "make",
            {"classes": 2},
            "the output of one sample has shape [2], expected 3 or more in the last dimension, one for each of the 3",
        ),
    ],
)
def test_what_the_function_does_wrong(write, function, arguments, message):
    found = message_of(spec_of(f"{write()}:{function}", **arguments))
    assert found.startswith('network "mine"')
    assert message in found


def test_no_labels_fit_an_output_without_classes(write):
    source = "from torch import nn\ndef make():\n    return nn.Sequential(nn.Linear(6, 1), nn.Flatten(0, 1))"
    found = message_of(spec_of(f"{write(source)}:make"))
    assert "the output of one sample has shape [], expected 3 or more" in found


def test_a_missing_module(write, tmp_path):
    write()
    found = message_of(spec_of("user_nets_nowhere.deep:make"))
    assert found == (
        f'network "mine": there is no module "user_nets_nowhere", neither in {tmp_path} nor among the installed packages. '
        "Start hetsim in the directory that holds it, or install its package"
    )


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import user_nets_missing_dependency", "ModuleNotFoundError: No module named 'user_nets_missing_dependency'"),
        ("from torch import no_such_thing", "ImportError: cannot import name 'no_such_thing'"),
        ("def make(:", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
    ],
)
def test_a_module_that_fails_names_the_cause(write, source, cause):
    name = write(source)
    assert re.search(rf'^network "mine": importing "{name}" failed: {re.escape(cause)}', message_of(spec_of(f"{name}:make")))


RUDE = """
import os, sys, threading
from torch import nn

class Mute(Exception):
    def __str__(self):
        raise RuntimeError("nothing to say")

class Shout(nn.Module):
    def forward(self, states):
        print("a layer shouts")
        return states

class Leave(nn.Module):
    def forward(self, states):
        sys.exit(0)

class Locked(nn.Module):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def forward(self, states):
        return states

def noisy():
    print("the function prints")
    os.write(1, b"the function writes\\n")
    return nn.Sequential(nn.Linear(6, 3), Shout())

def wandering():
    os.chdir("/")
    sys.path.clear()
    return nn.Sequential(nn.Linear(6, 3))

def leaving():
    sys.exit(0)

def left_by_a_layer():
    return nn.Sequential(nn.Linear(6, 3), Leave())

def mute():
    raise Mute

def lazy():
    return nn.Sequential(nn.LazyLinear(3))

def locked():
    return nn.Sequential(nn.Linear(6, 3), Locked())
"""


def test_what_the_users_code_prints_goes_to_stderr(write, capfd):
    sys.stdout.write("before\n")
    chain_of(build(spec_of(f"{write(RUDE)}:noisy"), seed=0))
    sys.stdout.write("after\n")
    said = capfd.readouterr()
    assert said.out == "before\nafter\n"
    assert said.err.startswith("the function")
    assert {"the function prints", "the function writes", "a layer shouts"} == set(said.err.splitlines())


def test_the_users_code_does_not_change_where_we_are(write, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    build(spec_of(f"{write(RUDE)}:wandering"), seed=0)
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("leaving", ":leaving() failed: SystemExit: 0"),
        ("left_by_a_layer", 'layer "leave1": cannot take an input of shape [2, 3] and torch.float32: SystemExit: 0'),
        ("mute", ":mute() failed: Mute"),
        ("lazy", 'parameter "0.weight": has no size until a sample has come by. Let the function pass a sample'),
    ],
)
def test_rude_code_is_an_error_of_the_network(write, function, message):
    assert message in message_of(spec_of(f"{write(RUDE)}:{function}"))


def test_a_module_that_leaves_at_import_is_an_error_of_the_network(write):
    name = write("import sys\nsys.exit(0)")
    assert f'importing "{name}" failed: SystemExit: 0' in message_of(spec_of(f"{name}:make"))


def test_a_network_that_cannot_be_copied(write):
    network = build(spec_of(f"{write(RUDE)}:locked"), seed=0)
    with pytest.raises(NetworkError, match=r'network "mine": cannot be copied, .*: TypeError: cannot pickle .*lock'):
        chain_of(network)


def test_samples_that_nobody_can_make(write):
    found = message_of(spec_of(f"{write()}:make", InputSpec((2**40, 2**40), classes=3)))
    assert found.startswith(f'network "mine": cannot make 2 samples of shape [{2**40}, {2**40}]: ')


@pytest.mark.parametrize("reference", ["nets", ":make", "nets:"])
def test_a_malformed_reference(reference):
    assert message_of(spec_of(reference)) == f'network "mine": got module "{reference}", expected "module:function"'


def test_the_input_is_needed(write):
    found = message_of(spec_of(f"{write()}:make", sample=None))
    assert found == 'network "mine": has no input. Say what one sample looks like: input: {shape: [3, 32, 32]}'


def test_a_wrong_input_shape_names_the_layer(write):
    found = message_of(spec_of(f"{write()}:make", InputSpec((7,), classes=3)))
    assert found.startswith('network "mine", layer "linear1": cannot take an input of shape [2, 7] and torch.float32: ')
