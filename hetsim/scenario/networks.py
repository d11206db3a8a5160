"""The networks of a scenario file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hetsim.files import slug
from hetsim.models.sizes import ZOO, size_faults
from hetsim.reading import did_you_mean, nearest, shown
from hetsim.scenario.document import Key
from hetsim.scenario.reader import Reader
from hetsim.scenario.schema import (
    LayerSection,
    ModuleSection,
    NetworkSection,
    NumbersSection,
    TrainingSection,
    ZooSection,
)
from hetsim.scenario.types import InputSpec, NetworkSpec
from hetsim.workload import Chain, Layer, Training

_KINDS: dict[str, type[NetworkSection]] = {"zoo": ZooSection, "module": ModuleSection, "layers": NumbersSection}
"""The key that tells what a network is -> how it is read."""

_WHAT_IT_IS = "zoo: a network of the zoo; module: your own code; layers: numbers alone"

_ELEMENT_BYTES = {"float32": 4, "bfloat16": 2}


def read_training(reader: Reader) -> Training | None:
    """The training set-up; None where it is wrong."""
    section = reader.section(TrainingSection, "training")
    return Training(**section.model_dump(exclude_none=True)) if section else None


def check_names(reader: Reader, names: Sequence[str]) -> None:
    """Networks give files their names, in the cost folder and in that of a run: note those that would get in the way."""
    first: dict[str, str] = {}
    for name in names:
        if slug(name) == "transfers":
            what = "is what the costs of communication are called in the folder of costs"
            reader.fault(("networks", name), what, "Rename it", of_key=True)
        if first.setdefault(slug(name), name) != name:
            what = f'would name files as "{first[slug(name)]}" does, next to which only punctuation or case differs'
            reader.fault(("networks", name), what, "Rename one of them", of_key=True)


def read_network(reader: Reader, name: str, training: Training | None) -> NetworkSpec | None:
    """The network called `name`; None where it, or `training`, is wrong."""
    keys = ("networks", name)
    entry = reader.document.at(keys)
    if not isinstance(entry, dict):
        reader.section(NetworkSection, *keys)
        return None
    costs = _costs_path(reader, keys)
    kinds = [kind for kind in _KINDS if kind in entry]
    if len(kinds) != 1:
        got = f"got the keys {' and '.join(kinds)}" if kinds else "does not say what the network is"
        meant = next((near for key in entry if (near := nearest(str(key), _KINDS))), None)
        mend = f'Did you mean "{meant}"?' if meant and not kinds else _WHAT_IT_IS
        reader.fault(keys, f"{got}, expected exactly one of {', '.join(_KINDS)}", mend, of_key=True)
        return None
    section = reader.section(_KINDS[kinds[0]], *keys)
    if section is None:
        return None
    details = _details(reader, keys, section, training)
    if section.data is not None and isinstance(section, NumbersSection):
        reader.fault((*keys, "data"), "a network of numbers alone cannot be trained", "Leave it out", of_key=True)
    if section.data_arguments and section.data is None:
        reader.fault(
            (*keys, "data_arguments"), "there is no data that takes them", "Name it: data: module:function", of_key=True
        )
    if training is None:
        return None
    if section.global_batch is not None:
        training = dataclasses.replace(training, global_batch=section.global_batch)
    return NetworkSpec(
        name,
        training,
        costs=costs,
        data=section.data,
        data_arguments=section.data_arguments,
        weight=section.weight,
        **details,
    )


def _details(reader: Reader, keys: tuple[Key, ...], section: NetworkSection, training: Training | None) -> dict[str, Any]:
    """The fields of a NetworkSpec that depend on what kind of network it is."""
    if isinstance(section, ZooSection):
        arguments = section.model_extra or {}
        _check_zoo(reader, keys, section.zoo, arguments)
        return {"zoo": section.zoo, "arguments": arguments}
    if isinstance(section, ModuleSection):
        spec = InputSpec(tuple(section.input.shape), section.input.vocabulary, section.input.classes)
        return {"module": section.module, "arguments": section.arguments, "input": spec}
    assert isinstance(section, NumbersSection)
    _check_layer_names(reader, keys, section.layers)
    layers = tuple(layer for row in section.layers for layer in _expanded(row))
    element_bytes = _ELEMENT_BYTES[training.dtype] if training else 4
    return {"chain": Chain(str(keys[-1]), layers, section.input, element_bytes)}


def _expanded(row: LayerSection) -> Iterator[Layer]:
    """The layers of one row: itself, or with `repeat` as many, called `name.0` and so on."""
    names = [row.name] if row.repeat is None else [f"{row.name}.{i}" for i in range(row.repeat)]
    for name in names:
        yield Layer(name, tuple(row.parameters), row.output, row.saved, row.flops)


def _check_layer_names(reader: Reader, keys: tuple[Key, ...], rows: list[LayerSection]) -> None:
    taken: set[str] = set()
    for place, row in enumerate(rows):
        names = {layer.name for layer in _expanded(row)}
        if twice := names & taken:
            reader.fault((*keys, "layers", place, "name"), f'a row before it has a layer "{min(twice)}" too', "Rename one")
        taken |= names


def _check_zoo(reader: Reader, keys: tuple[Key, ...], zoo: str, arguments: dict[str, Any]) -> None:
    if zoo not in ZOO:
        what = f"got {shown(zoo)}, expected a network of the zoo"
        reader.fault((*keys, "zoo"), what, did_you_mean(zoo, ZOO))
        return
    for argument, what in size_faults(zoo, arguments).items():
        unknown = argument not in ZOO[zoo]
        reader.fault(
            (*keys, argument),
            f"is no size of {zoo}" if unknown else what,
            did_you_mean(argument, [*ZOO[zoo], *NetworkSection.model_fields]) if unknown else "",
            of_key=unknown,
        )


def _costs_path(reader: Reader, keys: tuple[Key, ...]) -> Path | None:
    """The cost table, which is named relative to the scenario file; whether it is there does not hang on the other keys."""
    written = reader.document.at((*keys, "costs"))
    if not isinstance(written, str):
        return None
    path = reader.document.path.parent / written
    if not _exists(path):
        what = f"got {shown(written)}, expected a cost table; there is no {path}"
        siblings = path.parent.iterdir() if _exists(path.parent) and path.parent.is_dir() else ()
        reader.fault((*keys, "costs"), what, did_you_mean(path.name, (p.name for p in siblings if p.suffix == ".csv")))
    return path


def _exists(path: Path) -> bool:
    """Whether there is such a file or folder, as far as we may see; no path is too long or too odd to ask."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
