"""The intake: an `nn.Sequential` as numbers, a `Chain`, counted in real forward passes of a few samples on the CPU.

Figures per sample are the difference of two batch sizes, so what does not grow with the batch drops out.

FLOPs are those that torch's `FlopCounterMode` knows: matrix products, convolutions and attention, a multiply-add counted
as two. Normalisation, activation, pooling and look-up count as none, although they take time.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from hetsim.errors import NetworkError, Problem, described
from hetsim.models.guest import GuestError, guest
from hetsim.models.network import DTYPES, Network
from hetsim.workload import Chain, Dtype, Layer

_SMALL, _LARGE = 2, 4  # samples; two are the fewest that batch norm takes on a single pixel


@dataclass(frozen=True, slots=True)
class LayerRun:
    """What one forward pass of one layer gave."""

    output: Tensor
    saved_bytes: int
    """New bytes that autograd keeps: tensors kept by an earlier layer already, parameters and buffers do not count."""

    flops: int


def chain_of(network: Network, dtype: Dtype = "float32") -> Chain:
    """The chain of `network` trained in `dtype`: names, parameters, bytes and FLOPs of its layers.

    A tensor that several layers keep for their backward passes (the output of a ReLU, which is the input of the next
    convolution) counts at the first of them, so the saved bytes of a run of layers add up. The model is left as it was.

    Raises NetworkError when the model is not a chain that can be cut between any two layers.
    """
    trained = DTYPES[dtype]
    model = _copied(network).to(trained)
    generator = torch.Generator().manual_seed(0)

    def inputs_and_targets(samples: int) -> tuple[Tensor, Tensor]:
        inputs, targets = network.make_batch(samples, generator)
        return (inputs.to(trained) if inputs.is_floating_point() else inputs), targets

    inputs, targets = inputs_and_targets(_SMALL)
    with guest():
        small = run_layers(network.name, model, inputs)
        _check_parameters(network)
        _check_gradients(replace(network, model=model), small[-1].output, targets)
        large = run_layers(network.name, model, inputs_and_targets(_LARGE)[0])
    layers = tuple(
        _layer(name, module, *runs) for name, module, *runs in zip(layer_names(model), model, small, large, strict=True)
    )
    return Chain(
        name=network.name,
        layers=layers,
        input_bytes_per_sample=inputs.nbytes // _SMALL,
        element_bytes=trained.itemsize,
    )


def _copied(network: Network) -> nn.Sequential:
    try:
        return copy.deepcopy(network.model)
    except GuestError as cause:
        what = f"cannot be copied, as is done before it is tried or trained: {described(cause)}"
        raise NetworkError(Problem(f'network "{network.name}"', what)) from cause


def layer_names(model: nn.Sequential) -> tuple[str, ...]:
    """A unique name for each child of `model`: the child's own, after its type where that is a mere number (`linear0`)."""
    names: list[str] = []
    children = (name for name, _ in model.named_modules(remove_duplicate=False) if name and "." not in name)
    for child, module in zip(children, model, strict=True):
        name = f"{type(module).__name__.lower()}{child}" if child.isdecimal() else re.sub(r"\W", "_", child)
        while name in names:
            name += "_"
        names.append(name)
    return tuple(names)


def run_layers(name: str, model: nn.Sequential, inputs: Tensor) -> list[LayerRun]:
    """Each layer of `model`, the network called `name`, run forward once on `inputs`; the model is left as it was.

    Raises NetworkError naming the layer that failed, or that a split could not cut before or after.
    """
    if len(model) == 0:
        raise NetworkError(Problem(f'network "{name}"', "is an empty nn.Sequential, expected one child a layer"))
    runs: list[LayerRun] = []
    ledger = _Ledger(model)
    states = inputs
    with _undisturbed(model), torch.enable_grad(), saved_tensors_hooks(ledger.keep, lambda tensor: tensor):
        for layer, module in zip(layer_names(model), model, strict=True):
            kept_bytes = ledger.total_bytes
            output, flops = _run_layer(f'network "{name}", layer "{layer}"', module, states)
            runs.append(LayerRun(output, ledger.total_bytes - kept_bytes, flops))
            states = output
    return runs


class _Ledger:
    """The bytes that autograd keeps, each storage once, parameters and buffers not at all."""

    def __init__(self, model: nn.Module) -> None:
        self.total_bytes = 0
        # The tensors are held, not just their addresses, so that no freed address is taken for an old acquaintance.
        self._known: dict[int, Tensor] = {}
        for tensor in (*model.parameters(), *model.buffers()):
            self._known[tensor.untyped_storage().data_ptr()] = tensor

    def keep(self, tensor: Tensor) -> Tensor:
        """Enter what autograd is about to keep; returns it without its graph, which would else hold itself alive."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:
            self._known[storage.data_ptr()] = tensor.detach()
            self.total_bytes += storage.nbytes()
        return tensor.detach()


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Leaves the model's buffers (the running statistics of batch norm) and torch's random state as they were."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, old in buffers:
                    buffer.copy_(old)


def _run_layer(where: str, module: nn.Module, states: Tensor) -> tuple[Tensor, int]:
    version = _version(where, states)
    counter = FlopCounterMode(display=False, custom_mapping={_CPU_ATTENTION: _attention_flops})
    try:
        with counter:
            output = module(states)
    except GuestError as cause:
        what = f"cannot take an input of shape {list(states.shape)} and {states.dtype}: {described(cause)}"
        raise NetworkError(Problem(where, what)) from cause
    if fault := _output_fault(output, len(states)):
        raise NetworkError(Problem(where, *fault))
    if _version(where, states) != version:
        raise NetworkError(
            Problem(
                where,
                "changes its input in place, so no split could cut before it",
                "Use inplace=False, or put it into one nn.Sequential with the layer before it",
            )
        )
    return output, counter.get_total_flops()


def _version(where: str, states: Tensor) -> int:
    """The only tell-tale of an in-place change."""
    if states.is_inference():
        raise NetworkError(
            Problem(where, "is given tensors of torch.inference_mode, through which no gradients pass", "Remove it")
        )
    return states._version  # noqa: SLF001


def _output_fault(output: object, samples: int) -> tuple[str, str] | None:
    """What is wrong with the output of a layer that was given `samples` samples, and how to mend it."""
    if not isinstance(output, Tensor):
        return f"returned a {type(output).__name__}, expected one tensor", "Wrap it in a module that returns only that"
    if not output.is_floating_point():
        return f"returned {output.dtype}, expected floats, through which gradients can pass", ""
    if output.dim() == 0 or len(output) != samples:
        what = f"turned {samples} samples into an output of shape {list(output.shape)}"
        return f"{what}, expected {samples} as the first dimension", "Every layer must keep the samples first"
    return None


def _check_parameters(network: Network) -> None:
    """Raise NetworkError for parameters that two layers share, and where nothing learns."""
    owners: dict[int, str] = {}
    problems: list[Problem] = []
    for layer, name, parameter in _parameters(network):
        owner = owners.setdefault(id(parameter), layer)
        if owner != layer:
            problems.append(
                Problem(
                    f'network "{network.name}", layer "{layer}"',
                    f'shares its "{name}" with layer "{owner}", so a split could put it on two devices',
                    "Give each its own, or make one layer of the two and all between them",
                )
            )
    if not any(parameter.requires_grad for parameter in network.model.parameters()):
        problems.append(Problem(f'network "{network.name}"', "has no learnable parameters, so there is nothing to train"))
    if problems:
        raise NetworkError(problems)


def _check_gradients(network: Network, output: Tensor, targets: Tensor) -> None:
    """Raise NetworkError for learnable parameters that get no gradient: devices would wait for them for ever."""
    learnable = [row for row in _parameters(network) if row[2].requires_grad]
    parameters = [parameter for *_, parameter in learnable]
    gradients: Sequence[Tensor | None] = [None] * len(parameters)
    try:
        with torch.enable_grad():
            loss = network.loss(output, targets)
        if loss.requires_grad:
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    except GuestError as cause:
        what = f"its loss or its backward pass failed: {described(cause)}"
        raise NetworkError(Problem(f'network "{network.name}"', what)) from cause
    problems = [
        Problem(
            f'network "{network.name}", layer "{layer}"',
            f'its parameter "{name}" gets no gradient',
            "Use it, remove it, or set its requires_grad to False",
        )
        for (layer, name, _), gradient in zip(learnable, gradients, strict=True)
        if gradient is None
    ]
    if problems:
        raise NetworkError(problems)


def _parameters(network: Network) -> Iterator[tuple[str, str, nn.Parameter]]:
    """(layer, name in the layer, parameter) for each parameter of each layer, in order."""
    for layer, module in zip(layer_names(network.model), network.model, strict=True):
        for name, parameter in module.named_parameters():
            yield layer, name, parameter


def _layer(name: str, module: nn.Module, small: LayerRun, large: LayerRun) -> Layer:
    more = _LARGE - _SMALL
    return Layer(
        name=name,
        parameters=tuple(parameter.numel() for parameter in module.parameters() if parameter.requires_grad),
        output_bytes_per_sample=small.output.nbytes // _SMALL,
        saved_bytes_per_sample=(large.saved_bytes - small.saved_bytes) // more,
        forward_flops_per_sample=(large.flops - small.flops) / more,
    )


_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001 - torch counts only the GPU ones


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Two matrix products a head, scores and mixture; a causal mask counts in full, as torch counts it on a GPU."""
    samples, heads, queries, width = query
    return 2 * samples * heads * queries * key[-2] * (width + value[-1])
