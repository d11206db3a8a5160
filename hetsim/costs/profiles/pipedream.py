"""Profiles of PipeDream (Narayanan et al., SOSP 2019; github.com/msr-fiddle/pipedream): `graph.txt`.

A line is a node, `node4 -- Conv2d(…) -- forward_compute_time=…, backward_compute_time=…, activation_size=…,
parameter_size=…[ -- stage_id=…]`, with times in milliseconds and sizes in bytes of the whole batch, or, indented, an edge,
`node3 -- node4`. `graph/graph.py` there reads and writes them. The graph is cut into a chain where a single tensor crosses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hetsim.costs.profiles.chain_cuts import Cut, chain_cuts
from hetsim.costs.profiles.profile import LARGEST_COUNT, LONGEST_S, Profile, Wanted, in_file_order
from hetsim.costs.table import LayerCost
from hetsim.errors import CostError, InputError, Problem
from hetsim.reading import read_text, shown
from hetsim.workload import Chain, Layer

KEYS = ("forward_compute_time", "backward_compute_time", "activation_size", "parameter_size")
_MOST = (LONGEST_S * 1e3, LONGEST_S * 1e3, LARGEST_COUNT, LARGEST_COUNT)
_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)
_NODE_NAME = re.compile(r"[\w.]+", re.ASCII)
_ELEMENT_BYTES = 4
"""PipeDream profiles in float32."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of the graph."""

    operator: str
    """The word that its description begins with."""

    forward_s: float
    backward_s: float
    activation_bytes: float
    """Of its outputs, together, for the whole batch."""

    parameter_bytes: float

    @property
    def is_input(self) -> bool:
        """Whether it stands for what comes in; its time is that of loading data."""
        return self.operator.startswith("Input")


@dataclass(slots=True)
class _Graph:
    """The lines of a file as nodes and edges, and all that is wrong with them."""

    path: Path
    nodes: dict[str, Node] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    """Of each node, from 1; of those that are faulty, too."""

    edges: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def fault(self, line: int, column: int, what: str, mend: str = "") -> None:
        """Note that something is wrong at a place."""
        self.problems.append(Problem(f"{self.path}:{line}:{column}", what, mend))


def read_pipedream(path: Path, wanted: Wanted) -> Profile:
    """The profile in the file at `path`.

    Raises CostError with every fault and its place, InputError where the device type or the batch is not told.
    """
    _check_wanted(path, wanted)
    assert wanted.device_type is not None
    assert wanted.microbatch is not None
    graph = _graph(path)
    if graph.problems:
        raise CostError(in_file_order(graph.problems))
    sizes = {name: node.activation_bytes for name, node in graph.nodes.items()}
    cuts = chain_cuts(sizes, graph.edges)
    if cuts is None:
        raise CostError(Problem(str(path), "its edges lead round in a circle, expected a graph without one"))
    inputs, layers = _layers(graph.nodes, cuts)
    if not layers:
        raise CostError(Problem(str(path), "has no node but inputs"))
    rows = tuple(_cost(name, members, wanted) for name, members, _ in layers)
    network = wanted.network or (path.parent.name if path.stem == "graph" and path.parent.name else path.stem)
    saved = tuple(_layer(name, members, cut, wanted.microbatch) for name, members, cut in layers)
    input_bytes = round(sum(node.activation_bytes for node in inputs) / wanted.microbatch)
    loading_s = sum(node.forward_s for node in inputs)
    warnings = [f"{loading_s * 1e3:.3g} ms of the input nodes are left out: they load data"] if loading_s else []
    return Profile(
        network,
        rows,
        _notes(path, wanted.microbatch, len(graph.nodes) - len(inputs), len(layers)),
        Chain(network, saved, input_bytes),
        tuple(warnings),
    )


def _check_wanted(path: Path, wanted: Wanted) -> None:
    """Raise InputError with all that the file does not say and the user has to."""
    problems = []
    if wanted.device_type is None:
        problems.append(Problem(str(path), "does not say which device it is of", "Say it: --device-type NAME"))
    if wanted.microbatch is None:
        problems.append(Problem(str(path), "does not say how many samples its batch has", "Say it: --microbatch SAMPLES"))
    if problems:
        raise InputError(problems)


def _notes(path: Path, microbatch: int, nodes: int, layers: int) -> tuple[str, ...]:
    return (
        f"Imported from {path.name}, a profile of PipeDream (github.com/msr-fiddle/pipedream), at a batch of {microbatch}.",
        f"{nodes} nodes became {layers} layers: a layer ends only where a single tensor crosses, and takes the sum of its nodes.",
        "The time of input nodes, which load data, and that of the update are not in it.",
        "saved: the outputs of all nodes of the layer, an assumption; parameters: bytes / 4, as of float32.",
    )


# --- nodes to layers -----------------------------------------------------------------------------------------------------


def _layers(nodes: Mapping[str, Node], cuts: list[Cut]) -> tuple[list[Node], list[tuple[str, list[Node], Cut]]]:
    """The input nodes, and (name, nodes, cut) of each layer; what costs nothing joins the layer before it."""
    inputs = [node for node in nodes.values() if node.is_input]
    layers: list[tuple[str, list[Node], Cut]] = []
    for cut in cuts:
        members = [(name, nodes[name]) for name in cut.nodes if not nodes[name].is_input]
        if not members:
            continue
        costs = any(node.forward_s or node.backward_s or node.parameter_bytes for _, node in members)
        if layers and not costs:
            name, before, _ = layers[-1]
            layers[-1] = (name, before + [node for _, node in members], cut)
            continue
        name, heaviest = max(members, key=lambda member: member[1].forward_s + member[1].backward_s)
        suffix = f"+{len(members) - 1}" if len(members) > 1 else ""
        layers.append((f"{name}.{heaviest.operator}{suffix}", [node for _, node in members], cut))
    return inputs, layers


def _cost(name: str, members: list[Node], wanted: Wanted) -> LayerCost:
    assert wanted.device_type is not None
    assert wanted.microbatch is not None
    return LayerCost(
        device_type=wanted.device_type,
        layer=name,
        microbatch=wanted.microbatch,
        forward_s=round(sum(node.forward_s for node in members), 9),
        backward_s=round(sum(node.backward_s for node in members), 9),
        spread=wanted.spread,
    )


def _layer(name: str, members: list[Node], cut: Cut, microbatch: int) -> Layer:
    parameters = tuple(round(node.parameter_bytes / _ELEMENT_BYTES) for node in members if node.parameter_bytes)
    saved = sum(node.activation_bytes for node in members)
    return Layer(name, parameters, round(cut.crossing_bytes / microbatch), round(saved / microbatch))


# --- lines to nodes ------------------------------------------------------------------------------------------------------


def _graph(path: Path) -> _Graph:
    graph = _Graph(path)
    edge_lines: list[tuple[int, str]] = []
    lines = read_text(path, CostError).replace("\r\n", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        if line.startswith("\t") and line.strip():
            edge_lines.append((number, line))
        elif line.strip():
            _read_node(graph, number, line)
    for number, line in edge_lines:  # an edge may stand above its nodes
        _read_edge(graph, number, line)
    return graph


def _read_node(graph: _Graph, number: int, line: str) -> None:
    """The node that `line` writes; description and figures are told apart from the right, as a description may hold anything."""
    parts = line.rstrip().split(" -- ")
    if len(parts) > 3 and parts[-1].startswith("stage_id="):
        parts.pop()
    if len(parts) < 3:
        what = f"got {shown(line)}, expected NODE -- DESCRIPTION -- {'=…, '.join(KEYS)}=…"
        graph.fault(number, 1, what, "The line was cut off" if len(parts) == 2 else "This is no profile of PipeDream's")
        return
    name, description, figures = parts[0], " -- ".join(parts[1:-1]), parts[-1]
    if not _NODE_NAME.fullmatch(name):
        graph.fault(number, 1, f"got the node {shown(name)}, expected a name of letters and digits")
        return
    if graph.lines.setdefault(name, number) != number:
        graph.fault(number, 1, f"the node {name} stands in line {graph.lines[name]} already", "Remove one of them")
        return
    values = _figures(graph, number, line.index(figures, len(name) + len(description)), figures)
    if values is not None:
        forward_ms, backward_ms, activation, parameter = values
        word = _NODE_NAME.match(description)
        operator = word[0] if word else "operator"
        graph.nodes[name] = Node(operator, forward_ms / 1e3, backward_ms / 1e3, activation, parameter)


def _figures(graph: _Graph, number: int, start: int, text: str) -> list[float] | None:
    """The four figures of a node, which begin at the column `start` (from 0); None where they are wrong."""
    fields = text.split(", ")
    if len(fields) != len(KEYS):
        graph.fault(number, start + 1, f"got {len(fields)} figures, expected {', '.join(KEYS)}", "The line was cut off")
        return None
    values: list[float | None] = []
    for key, most, written in zip(KEYS, _MOST, fields, strict=True):
        got, sign, value = written.partition("=")
        if got != key or not sign:
            graph.fault(number, start + 1, f"got {shown(written)}, expected {key}=…")
            values.append(None)
        else:
            values.append(_value(graph, (number, start + len(key) + 2), key, value, most))
        start += len(written) + 2
    return None if None in values else [value for value in values if value is not None]


def _value(graph: _Graph, place: tuple[int, int], key: str, text: str, most: float) -> float | None:
    """A number, or for activations a list of numbers, `[1.0; 2.0]`, as their sum."""
    listed = key == "activation_size" and text.startswith("[") and text.endswith("]")
    parts = text[1:-1].split("; ") if listed else [text]
    numbers = [float(part) if _NUMBER.fullmatch(part) else math.nan for part in parts]
    total = sum(numbers)
    if not math.isfinite(total):
        graph.fault(*place, f"{key}: got {shown(text)}, expected a finite number, not negative")
        return None
    if total > most:
        graph.fault(*place, f"{key}: got {shown(text)}, expected {most:.0f} at most")
        return None
    return total


def _read_edge(graph: _Graph, number: int, line: str) -> None:
    names = line.strip().split(" -- ")
    if len(names) != 2:
        graph.fault(number, 2, f"got {shown(line.strip())}, expected an edge: NODE -- NODE")
        return
    for name in names:
        if name not in graph.lines:
            graph.fault(number, line.index(name) + 1, f"there is no node {shown(name)}")
    if all(name in graph.nodes for name in names):
        graph.edges.append((names[0], names[1]))


def looks_like(text: str) -> bool:
    """Whether `text` begins as a PipeDream graph does."""
    return any(_is_node(line) for line in _first_lines(text))


def _first_lines(text: str) -> Iterator[str]:
    yield from (line for line in text.split("\n", 5)[:5] if line.strip())


def _is_node(line: str) -> bool:
    return f" -- {KEYS[0]}=" in line
