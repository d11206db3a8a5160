"""What a measurement of a network depends on besides the device: the key under which it is kept."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from calibration.store import digest
from hetsim.scenario.types import NetworkSpec


def network_key(spec: NetworkSpec, seed: int) -> str:
    """A digest of the network's definition, the user's own source included, and of how it is trained."""
    training = spec.training
    sample = asdict(spec.input) if spec.input else None
    trained = [training.optimizer, training.momentum, training.dtype, seed]
    return digest(spec.zoo, spec.module, _source(spec), dict(spec.arguments), sample, trained)


def _source(spec: NetworkSpec) -> str:
    """A digest of the file that the user's network is defined in, so that an edit is measured anew; found, not imported."""
    if spec.module is None:
        return ""
    parts = spec.module.partition(":")[0].split(".")
    for folder in (Path.cwd(), *map(Path, sys.path)):
        for file in (folder.joinpath(*parts).with_suffix(".py"), folder.joinpath(*parts, "__init__.py")):
            if file.is_file():
                return digest(file.read_text())
    return ""
