"""The door to all networks: from the zoo or from the user's own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch

from hetsim.errors import NetworkError, Problem
from hetsim.models.blueprint import Blueprint
from hetsim.models.convnets import resnet, vgg
from hetsim.models.dense import mlp
from hetsim.models.network import Network
from hetsim.models.sizes import ZOO, size_faults
from hetsim.models.transformers import bert, gpt
from hetsim.models.user_code import blueprint_of_user
from hetsim.scenario.types import NetworkSpec

BUILDERS: Final[Mapping[str, Callable[..., Blueprint]]] = MappingProxyType(
    {"mlp": mlp, "vgg": vgg, "resnet": resnet, "gpt": gpt, "bert": bert}
)
"""Zoo name -> its builder, which takes the sizes of `sizes.ZOO` as keywords."""


def build(spec: NetworkSpec, seed: int) -> Network:
    """The network that `spec` names, on the CPU, in float32 and in training mode, with random data and cross-entropy.

    The parameters follow from `seed` alone and are the same in every process; torch's own random state is left as it was.
    Raises NetworkError with all that is wrong with the sizes or with the user's code.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if spec.zoo is not None:
            return _blueprint_of_zoo(spec, spec.zoo).network(spec.name)
        if spec.module is not None:
            return blueprint_of_user(spec, spec.module).network(spec.name)
    raise NetworkError(
        Problem(
            f'network "{spec.name}"',
            "is given as numbers alone, which can be planned and predicted, but not built",
            "To measure or run it, name a network of the zoo (zoo) or your own (module)",
        )
    )


def _blueprint_of_zoo(spec: NetworkSpec, zoo: str) -> Blueprint:
    where = f'network "{spec.name}"'
    if zoo not in ZOO:
        raise NetworkError(Problem(where, f'the zoo has no "{zoo}", expected one of {", ".join(ZOO)}'))
    if faults := size_faults(zoo, spec.arguments):
        raise NetworkError(Problem(f"{where}, {size}", what) for size, what in faults.items())
    return BUILDERS[zoo](**{**ZOO[zoo], **spec.arguments})
