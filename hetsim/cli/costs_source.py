"""Which costs a user means: a path, a scenario, or the name of a folder of measured costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hetsim.costs.files import cost_files
from hetsim.costs.merge import merge
from hetsim.costs.sources import CostSource, read_source
from hetsim.errors import InputError, Problem
from hetsim.reading import did_you_mean
from hetsim.scenario.types import NetworkSpec


def find_source(which: str, costs: Path, networks: Sequence[str] | None) -> CostSource:
    """The costs that `which` names, of `networks` alone where any are given.

    Raises InputError where there is nothing of that name, CostError where tables are faulty or lack a network.
    """
    source = _find(which, costs)
    if not networks:
        return source
    kept = [source.only(name).networks[0] for name in dict.fromkeys(networks)]
    samples = tuple(sample for sample in source.samples if sample.network in ("", *networks))
    return replace(source, networks=tuple(kept), samples=samples)


def _find(which: str, costs: Path) -> CostSource:
    path = Path(which)
    if path.suffix in (".yaml", ".yml"):
        return _of_scenario(path, costs)
    if path.exists():
        return read_source(path)
    if (costs / which).is_dir():
        return read_source(costs / which)
    names = [entry.name for entry in costs.iterdir() if entry.is_dir()] if costs.is_dir() else []
    what = f"there is no such file or folder, nor are there costs of that name in {costs}"
    raise InputError(Problem(which, what, did_you_mean(which, names) or "Measure some: hetsim calibrate SCENARIO"))


def _of_scenario(path: Path, costs: Path) -> CostSource:
    """The costs of a scenario file: those that it names, and for the other networks what was measured."""
    from hetsim.scenario import load_scenario

    scenario = load_scenario(path)
    parts = [_own(spec) for spec in scenario.networks if spec.costs is not None]
    measured = [spec.name for spec in scenario.networks if spec.costs is None]
    if measured:
        if not (costs / scenario.name).is_dir():
            what = f"nothing has been measured for {', '.join(measured)} in {costs / scenario.name}"
            raise InputError(Problem(str(path), what, f"Measure it: hetsim calibrate {path}"))
        source = read_source(costs / scenario.name)
        kept = tuple(network for network in source.networks if network.network in measured)
        parts.append(replace(source, networks=kept))
    return replace(merge(parts, scenario.name).source, path=str(path))


def _own(spec: NetworkSpec) -> CostSource:
    """The cost table that the scenario names for a network, under the network's name."""
    assert spec.costs is not None
    file, *transfer_files = cost_files(spec.costs, spec.name)
    source = read_source(file)
    if transfer_files:
        folder = read_source(spec.costs)
        source = replace(source, transfers=folder.transfers, transfer_notes=folder.transfer_notes)
    return replace(source, networks=tuple(replace(costs, network=spec.name) for costs in source.networks))
