"""Which layers of a network come out otherwise when the batch is split: what no split can keep equal."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

_KINDS: tuple[tuple[type[nn.Module], str], ...] = (
    (_BatchNorm, "takes its statistics over the microbatch that it sees, and keeps running ones on each device"),
    (_DropoutNd, "draws its random numbers on each device"),
)


def unequal_layers(model: nn.Module) -> list[str]:
    """A sentence for each kind of module in `model` whose result depends on how a batch is split; empty where there is none."""
    found = []
    for kind, why in _KINDS:
        names = sorted({type(module).__name__ for module in model.modules() if isinstance(module, kind)})
        if names:
            found.append(f"{', '.join(names)} {why}, so it trains otherwise than in one process with the whole batch")
    return found
