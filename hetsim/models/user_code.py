"""Networks and datasets from the user's own code: `module:function`, found in the current directory or among installed packages."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import Dataset, default_collate

from hetsim.errors import NetworkError, Problem, described
from hetsim.models.blueprint import Blueprint, batch_maker
from hetsim.models.guest import GuestError, guest
from hetsim.models.intake import run_layers
from hetsim.models.network import Network
from hetsim.reading import did_you_mean
from hetsim.scenario.types import InputSpec, NetworkSpec

_PROBE_SAMPLES = 2

Sample: TypeAlias = tuple[Tensor, Tensor]
"""One of a dataset: input and target."""


def blueprint_of_user(spec: NetworkSpec, reference: str) -> Blueprint:
    """What the user's function `reference` (`module:function`) builds from `spec.arguments`, tried on a small batch.

    Raises NetworkError when the function cannot be found or called, or when what it returns is no chain of layers.
    """
    where = f'network "{spec.name}"'
    if spec.input is None:
        raise NetworkError(Problem(where, "has no input", "Say what one sample looks like: input: {shape: [3, 32, 32]}"))
    with guest(), _current_directory_importable():
        function = _find(where, reference)
        try:
            model = function(**spec.arguments)
        except GuestError as cause:
            arguments = ", ".join(f"{name}={value!r}" for name, value in spec.arguments.items())
            raise NetworkError(Problem(where, f"{reference}({arguments}) failed: {described(cause)}")) from cause
        _check_model(where, reference, model)
        return Blueprint(model, spec.input, _target_shape(spec.name, where, model, spec.input))


def dataset_of_user(spec: NetworkSpec, network: Network) -> tuple[Dataset[Sample], int]:
    """The dataset that `spec.data` names, tried on its first samples, and how many samples it has.

    Raises NetworkError when the function cannot be found or called, or when what it returns cannot train `network`.
    """
    where, reference = f'network "{spec.name}"', spec.data or ""
    with guest(), _current_directory_importable():
        function = _find(where, reference)
        try:
            dataset = function(**spec.data_arguments)
            length = len(dataset)
            found = default_collate([dataset[index] for index in range(min(_PROBE_SAMPLES, length))]) if length else None
        except GuestError as cause:
            raise NetworkError(Problem(where, f"{reference} gives no dataset: {described(cause)}", _DATASET)) from cause
    if length < spec.training.global_batch:
        what = f"{reference} has {length} samples, fewer than the global batch of {spec.training.global_batch}"
        raise NetworkError(Problem(where, what))
    if not (isinstance(found, list | tuple) and len(found) == 2 and all(isinstance(part, Tensor) for part in found)):
        raise NetworkError(Problem(where, f"a sample of {reference} is no pair of input and target", _DATASET))
    expected = network.make_batch(len(found[0]), torch.Generator().manual_seed(0))
    problems = []
    for what, got, wanted in zip(("input", "target"), found, expected, strict=True):
        if got.shape != wanted.shape or got.is_floating_point() != wanted.is_floating_point():
            said = f"the {what} of a sample of {reference} is {_shaped(got)}, expected {_shaped(wanted)}"
            problems.append(Problem(where, said, "Mend the dataset, or the input of the network"))
    if problems:
        raise NetworkError(problems)
    return dataset, length


_DATASET = "Let it return a torch.utils.data.Dataset that has a length, and (input, target) pairs of tensors or numbers"


def _shaped(batch: Tensor) -> str:
    kind = "floats" if batch.is_floating_point() else "integers"
    return f"{kind} of shape {list(batch.shape[1:])}"


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    """The current directory comes first, as with `python -m`; a console command alone would not look there."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):  # the user's code may have changed the path, too
            sys.path.remove(here)


def _find(where: str, reference: str) -> Callable[..., Any]:
    module_name, _, function_name = reference.partition(":")
    if not module_name or not function_name:
        raise NetworkError(Problem(where, f'got module "{reference}", expected "module:function"'))
    try:
        module = importlib.import_module(module_name)
    except GuestError as cause:
        raise NetworkError(_import_problem(where, module_name, cause)) from cause
    if not hasattr(module, function_name):
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module_name]
        what = f'module "{module_name}" ({module.__file__}) has no function "{function_name}"'
        raise NetworkError(Problem(where, what, did_you_mean(function_name, own)))
    function = getattr(module, function_name)
    if not callable(function):
        raise NetworkError(Problem(where, f"{reference} is a {type(function).__name__}, expected a function"))
    return function  # type: ignore[no-any-return]


def _import_problem(where: str, module_name: str, cause: BaseException) -> Problem:
    """The user's module itself is missing, or it is there and something in it fails."""
    missing = cause.name if isinstance(cause, ModuleNotFoundError) else None
    if missing and f"{module_name}.".startswith(f"{missing}."):
        return Problem(
            where,
            f'there is no module "{missing}", neither in {Path.cwd()} nor among the installed packages',
            "Start hetsim in the directory that holds it, or install its package",
        )
    return Problem(where, f'importing "{module_name}" failed: {described(cause)}')


def _check_model(where: str, reference: str, model: object) -> None:
    if not isinstance(model, nn.Sequential):
        raise NetworkError(
            Problem(
                where,
                f"{reference} returned a {type(model).__name__}, expected an nn.Sequential",
                "Give it the pieces that a split may not cut as children, in order",
            )
        )
    if lazy := [name for name, parameter in model.named_parameters() if is_lazy(parameter)]:
        mend = "Let the function pass a sample through the network, or give its layers their sizes"
        raise NetworkError(Problem(f'{where}, parameter "{lazy[0]}"', "has no size until a sample has come by", mend))
    problems = [
        Problem(f'{where}, parameter "{name}"', f"is {parameter.dtype} on {parameter.device}, expected torch.float32 on cpu")
        for name, parameter in model.named_parameters()
        if parameter.dtype is not torch.float32 or parameter.device.type != "cpu"
    ]
    if problems:
        raise NetworkError(problems)


def _target_shape(name: str, where: str, model: nn.Sequential, sample: InputSpec) -> tuple[int, ...]:
    """Shape of the labels of one sample: that of the model's output, less its last dimension, the classes."""
    try:
        inputs, _ = batch_maker(sample, ())(_PROBE_SAMPLES, torch.Generator().manual_seed(0))
    except (RuntimeError, TypeError, MemoryError) as cause:
        what = f"cannot make {_PROBE_SAMPLES} samples of shape {list(sample.shape)}: {described(cause)}"
        raise NetworkError(Problem(where, what, "Set shape under input")) from cause
    shape = tuple(run_layers(name, model, inputs)[-1].output.shape[1:])
    if not shape or shape[-1] < sample.classes:
        raise NetworkError(
            Problem(
                where,
                f"the output of one sample has shape {list(shape)}, expected {sample.classes} or more in the last "
                f"dimension, one for each of the {sample.classes} classes",
                "Set classes under input, or mend the last layer",
            )
        )
    return shape[:-1]
