"""The door for scenario files: from YAML to a `Scenario`, or to all faults at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hetsim.conditions import Conditions, Disturbance
from hetsim.economics import Economics
from hetsim.errors import Problem, ScenarioError
from hetsim.hardware import Cluster
from hetsim.objective import Figure, Objective
from hetsim.reading import did_you_mean, shown
from hetsim.scenario.clusters import read_cluster
from hetsim.scenario.document import Document, read_document
from hetsim.scenario.networks import check_names, read_network, read_training
from hetsim.scenario.reader import Reader
from hetsim.scenario.schema import (
    VERSION,
    EconomicsSection,
    FileSection,
    MeasureSection,
    SearchSection,
    Section,
    SimulationSection,
    WhatIfSection,
)
from hetsim.scenario.types import Measure, NetworkSpec, Scenario, Search, WhatIf


def load_scenario(path: Path) -> Scenario:
    """The scenario in the file at `path`. Raises ScenarioError with every fault and its line and column."""
    document = read_document(path)
    _check_version(document)
    reader = Reader(document)
    whole = reader.section(FileSection)
    training = read_training(reader) if "training" in document.data else None
    declared = document.at(("networks",))
    networks = [read_network(reader, name, training) for name in declared] if isinstance(declared, dict) else []
    check_names(reader, list(declared) if isinstance(declared, dict) else [])
    cluster = read_cluster(reader) if "cluster" in document.data else None
    search = _options(reader, SearchSection, "search")
    measure = _options(reader, MeasureSection, "measure")
    simulation = _conditions(reader, cluster)
    economics = _options(reader, EconomicsSection, "economics")
    what_if = _options(reader, WhatIfSection, "what_if")
    specs = tuple(spec for spec in networks if spec is not None)
    if cluster is not None:
        _check_batches(reader, specs, cluster)
        _check_buy(reader, what_if.get("buy", ()), cluster)
    reader.finish()
    assert whole is not None
    assert cluster is not None
    if "timeout" in measure:
        measure["timeout_s"] = measure.pop("timeout")
    return Scenario(
        name=whole.name or path.stem,
        networks=specs,
        cluster=cluster,
        search=_search(search),
        measure=Measure(**measure),
        simulation=simulation,
        economics=_economics(economics),
        what_if=WhatIf(
            {name: tuple(edits) for name, edits in what_if.get("variants", {}).items()},
            tuple(what_if.get("buy", ())),
            what_if.get("samples"),
        ),
        seed=whole.seed,
        path=path,
    )


def _check_version(document: Document) -> None:
    """A file of another version, or of another program, is not worth a list of unknown keys."""
    if not isinstance(document.data, dict):
        raise ScenarioError(Problem(document.where(()), "got no mapping of keys to values, expected a scenario"))
    version = document.data.get("hetsim", VERSION)
    if version != VERSION or isinstance(version, bool):
        raise ScenarioError(
            Problem(
                document.where(("hetsim",)),
                f"got schema version {shown(version)}, expected {VERSION}",
                f"This hetsim reads version {VERSION} only",
            )
        )


def _check_buy(reader: Reader, kinds: Sequence[str], cluster: Cluster) -> None:
    """What can be bought is a device type with a price."""
    for number, kind in enumerate(kinds):
        keys = ("what_if", "buy", number)
        if kind not in cluster.device_types:
            mend = (
                did_you_mean(kind, cluster.device_types)
                + f". Or describe it: cluster.device_types.{kind}: {{catalogue: NAME}}"
            )
            reader.fault(keys, f'got "{kind}", which is no device type of the cluster', mend)
        elif (price := cluster.device_types[kind].price) is None or price.purchase is None:
            mend = f"Write it: cluster.device_types.{kind}.price: {{purchase: 9000, life: 4 years}}"
            reader.fault(keys, f'got "{kind}", which has no purchase price', mend)


def _conditions(reader: Reader, cluster: Cluster | None) -> Conditions:
    """What the section `simulation` says; its devices must be in the cluster."""
    fields = _options(reader, SimulationSection, "simulation")
    rows = []
    for number, row in enumerate(fields.get("disturbances", ())):
        keys = ("simulation", "disturbances", number)
        names = [device.name for device in cluster.devices] if cluster else [row["device"]]
        if row["device"] not in names:
            reader.fault(
                (*keys, "device"), f'got "{row["device"]}", which the cluster has not', did_you_mean(row["device"], names)
            )
        from_s, until_s = row.get("after", 0.0), row.get("until")
        if until_s is not None and until_s <= from_s:
            reader.fault((*keys, "until"), f"got {until_s:g} s, which is not after {from_s:g} s")
        rows.append(Disturbance(row["device"], row["slowdown"], from_s, until_s, row.get("chance", 1.0)))
    return Conditions(fields.get("jitter", 0.0), tuple(rows))


def _options(reader: Reader, model: type[Section], key: str) -> dict[str, Any]:
    """What an optional section says; empty where it is missing, blank or wrong."""
    if reader.document.at((key,)) is None:
        return {}
    section = reader.section(model, key)
    return section.model_dump(exclude_none=True) if section else {}


def _search(fields: dict[str, Any]) -> Search:
    limits = fields.pop("limits", {})
    least: Figure = fields.pop("objective", "time")
    objective = Objective(least, limits.pop("step", None), **limits)
    return Search(**{key: tuple(values) for key, values in fields.items()}, objective=objective)


def _economics(fields: dict[str, Any]) -> Economics:
    if "electricity" in fields:
        fields["electricity_per_kwh"] = fields.pop("electricity")
    return Economics(**fields)


def _check_batches(reader: Reader, specs: tuple[NetworkSpec, ...], cluster: Cluster) -> None:
    """A global batch has a sample for every device."""
    devices = len(cluster.devices)
    small = {}
    for spec in specs:
        own = ("networks", spec.name, "global_batch")
        if spec.training.global_batch < devices:
            keys = own if reader.document.at(own) is not None else ("training", "global_batch")
            small[keys] = spec.training.global_batch
    for keys, batch in small.items():
        reader.fault(keys, f"got {batch}, expected at least {devices}, a sample for each device of the cluster")
