"""Profiles of Sailor (Strati et al., SOSP 2025; github.com/eth-easl/sailor).

Two files hold the same numbers: `profile.json` of one model on one GPU, microbatch → tensor parallel degree → layer →
[forward, backward, update] in seconds, and `profiles_tmp.json`, model → GPU → that. `gather_profs.py` there writes 2^30 for
what was not measured. The update is that of the whole device, whatever layers it holds. `llm_info.json`, model → tensor
parallel degree → layer, has the sizes of each layer per sample in elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hetsim.costs.profiles.placed_json import Node, parse_json
from hetsim.costs.profiles.profile import LARGEST_COUNT, LONGEST_S, Profile, Wanted, in_file_order
from hetsim.costs.table import STEP, LayerCost
from hetsim.errors import CostError, InputError, Problem
from hetsim.reading import did_you_mean, read_text
from hetsim.workload import Chain, Layer

NOT_MEASURED = 2.0**30
_TIMES = ("forward", "backward", "update")
_SIZES = ("params_floats", "act_output_floats", "act_mem_floats")
_ELEMENT_BYTES = 4


def read_sailor(path: Path, wanted: Wanted, sizes: Path | None) -> Profile:
    """The profile in the file at `path`, and with `sizes` (an `llm_info.json`) the network.

    Raises CostError with every fault and its place, InputError where the file holds several models and none was chosen.
    """
    root = _mapping(parse_json(read_text(path, CostError), str(path)))
    model, gpus = _chosen(path, root, wanted)
    reader = _Reader(wanted.spread)
    rows = [row for name, node in gpus for row in reader.rows(name, node)]
    network = wanted.network or model or path.stem
    chain = None
    if sizes is not None:
        chain = _chain(sizes, model, network, [row.layer for row in rows if row.layer != STEP], reader)
    if reader.problems:
        raise CostError(in_file_order(reader.problems))
    if not rows:
        raise CostError(Problem(str(path), "has no layer that was measured"))
    notes = (
        f"Imported from {path.name}, a profile of Sailor (github.com/eth-easl/sailor)" + (f" of {model}." if model else "."),
        "The update stands in @step: Sailor times it for a whole device.",
    )
    left_out = f"{reader.not_measured} points were not measured and are left out" if reader.not_measured else ""
    return Profile(network, tuple(rows), notes, chain, (left_out,) if left_out else ())


def _chosen(path: Path, root: dict[str, Node], wanted: Wanted) -> tuple[str | None, list[tuple[str, Node]]]:
    """The model, and (device type, its times) of each GPU that was asked for."""
    if any(key.isdecimal() for key in root):
        if wanted.device_type is None:
            raise InputError(Problem(str(path), "does not say which device it is of", "Say it: --device-type NAME"))
        if given := wanted.model or wanted.gpu:
            raise InputError(
                Problem(str(path), f'holds one profile, and none called "{given}"', "Leave --model and --gpu out")
            )
        node = Node(root, f"{path}:1:1")
        return None, [(wanted.device_type, node)]
    model = _pick(path, "model", wanted.model, list(root))
    gpus = _mapping(root[model])
    if wanted.gpu is None and len(gpus) > 1 and wanted.device_type is not None:
        raise InputError(Problem(str(path), f"has {model} on {', '.join(gpus)}", "Say which is meant: --gpu NAME"))
    chosen = [_pick(path, "gpu", wanted.gpu, list(gpus))] if wanted.gpu or len(gpus) == 1 else list(gpus)
    return model, [(wanted.device_type or gpu, gpus[gpu]) for gpu in chosen]


def _pick(path: Path, what: str, name: str | None, known: list[str]) -> str:
    if name is None and len(known) == 1:
        return known[0]
    if name is None:
        raise InputError(Problem(str(path), f"has several: {', '.join(known)}", f"Say which is meant: --{what} NAME"))
    if name not in known:
        raise InputError(Problem(str(path), f'has no {what} "{name}"', did_you_mean(name, known)))
    return name


def _mapping(node: Node) -> dict[str, Node]:
    if not isinstance(node.value, dict) or not node.value:
        raise CostError(Problem(node.where, f"got {node.shown}, expected a mapping", "This is no profile of Sailor's"))
    return node.value


@dataclass(slots=True)
class _Reader:
    """Reads times and sizes and keeps what is wrong with them."""

    spread: float
    problems: list[Problem]
    not_measured: int = 0

    def __init__(self, spread: float) -> None:
        self.spread, self.problems, self.not_measured = spread, [], 0

    def rows(self, device_type: str, node: Node) -> Iterator[LayerCost]:
        """The costs of one GPU: microbatch → tensor parallel degree → layer."""
        for size, by_degree in self._counts(node, "microbatch"):
            for degree, by_layer in self._counts(by_degree, "tensor parallel degree"):
                updates = []
                for layer, times in self._counts(by_layer, "layer", least=0):
                    seconds = self._times(times)
                    if seconds is None:
                        continue
                    forward, backward, update = seconds
                    updates.append(update)
                    yield self._row(device_type, f"layer{layer}", size, degree, (forward, backward, 0.0))
                if updates:
                    yield self._row(device_type, STEP, size, degree, (0.0, 0.0, max(updates)))

    def _row(self, kind: str, layer: str, size: int, degree: int, times: tuple[float, float, float]) -> LayerCost:
        return LayerCost(kind, layer, size, *times, spread=self.spread, tensor_parallel=degree)

    def _counts(self, node: Node, what: str, least: int = 1) -> list[tuple[int, Node]]:
        """The entries of a mapping whose keys are whole numbers, in their order; faults are noted."""
        if not isinstance(node.value, dict) or not node.value:
            self.problems.append(Problem(node.where, f"got {node.shown}, expected a mapping of each {what}"))
            return []
        rows = {}
        for key, member in node.members():
            if not (key.isascii() and key.isdecimal() and len(key) <= 12 and int(key) >= least):
                self.problems.append(
                    Problem(member.where, f'got the {what} "{key}", expected a whole number of {least} or more')
                )
            elif int(key) in rows:
                self.problems.append(Problem(member.where, f"the {what} {int(key)} stands twice"))
            else:
                rows[int(key)] = member
        return sorted(rows.items())

    def _times(self, node: Node) -> tuple[float, ...] | None:
        """Forward, backward and update; None where they are wrong, or were not measured."""
        if not isinstance(node.value, list) or len(node.value) != len(_TIMES):
            self.problems.append(
                Problem(node.where, f"got {_length(node)}, expected a list of {', '.join(_TIMES)} in seconds")
            )
            return None
        if any(item.number() == NOT_MEASURED for item in node.value):
            self.not_measured += 1
            return None
        times = [self._number(item, what, LONGEST_S) for item, what in zip(node.value, _TIMES, strict=True)]
        return None if None in times else tuple(time for time in times if time is not None)

    def _number(self, node: Node, what: str, most: float) -> float | None:
        number = node.number()
        if number is None or number < 0:
            self.problems.append(Problem(node.where, f"{what}: got {node.shown}, expected a number, not negative"))
        elif number > most:
            self.problems.append(Problem(node.where, f"{what}: got {node.shown}, expected {most:.0f} at most"))
        else:
            return number
        return None

    def sizes(self, node: Node) -> tuple[int, ...] | None:
        """Elements of parameters, output and saved activations of a layer; None where they are wrong."""
        members = dict(node.members())
        if missing := [key for key in _SIZES if key not in members]:
            self.problems.append(Problem(node.where, f"has no {', '.join(missing)}"))
            return None
        numbers = [self._number(members[key], key, LARGEST_COUNT) for key in _SIZES]
        return None if None in numbers else tuple(round(number) for number in numbers if number is not None)


def _length(node: Node) -> str:
    return f"a list of {len(node.value)}" if isinstance(node.value, list) else node.shown


def _chain(path: Path, model: str | None, network: str, layers: list[str], reader: _Reader) -> Chain | None:
    """The network from an `llm_info.json`: of `model`, or of the only one; the sizes at tensor parallel degree 1."""
    root = _mapping(parse_json(read_text(path, CostError), str(path)))
    name = model if model in root else _pick(path, "model", None, list(root))
    degrees = dict(root[name].members())
    if "1" not in degrees:
        reader.problems.append(Problem(root[name].where, "has no sizes at tensor parallel degree 1"))
        return None
    sized = {f"layer{key}": reader.sizes(node) for key, node in degrees["1"].members()}
    order = sorted(dict.fromkeys(layers), key=lambda layer: int(layer.removeprefix("layer")))
    if missing := [layer for layer in order if layer not in sized]:
        reader.problems.append(Problem(degrees["1"].where, f"has no sizes of {', '.join(missing)}"))
        return None
    chosen = [(layer, sized[layer]) for layer in order]
    return Chain(
        network,
        tuple(
            Layer(layer, (size[0],) if size[0] else (), _ELEMENT_BYTES * size[1], _ELEMENT_BYTES * size[2])
            for layer, size in chosen
            if size is not None
        ),
    )
