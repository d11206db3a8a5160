"""What a study's figures rest on: where each input comes from, the batch curves, and how far predictions were off before."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from hetsim.costs import CostTable
from hetsim.costs.curve import Curve
from hetsim.hardware import DeviceType, Link
from hetsim.report.rows import BatchCurve
from hetsim.report.summary import batch_curves
from hetsim.scenario.types import NetworkSpec, Scenario
from hetsim.study.estimate import Estimate, Estimator
from hetsim.study.study import Study
from hetsim.units import format_bandwidth, format_seconds

Document = dict[str, Any]

FEWEST_POINTS = 4
"""Of a curve, so that leaving one out leaves enough to bend it."""


def evidence(estimator: Estimator, study: Study, told: Scenario) -> Document:
    """What stands beside the answers in a study's document; `told`: the scenario before anything measured was put into it."""
    variants = (study.whole, *study.variants)
    tables = [(spec, _table(estimator, variants, spec)) for spec in estimator.scenario.networks]
    curves = [curve for _, table in tables for curve in batch_curves(table)]
    return {
        "layers": {spec.name: [layer.name for layer in estimator.chains[spec.name].layers] for spec, _ in tables},
        "curves": [asdict(curve) for curve in curves],
        "held_out_points": [row for spec, table in tables for row in _held_out_points(spec, table)],
        "inputs": [
            {"what": what, "value": value, "source": source}
            for what, value, source in _inputs(estimator, variants, told, {spec.name: table for spec, table in tables})
        ],
    }


def _table(estimator: Estimator, variants: tuple[Estimate, ...], spec: NetworkSpec) -> CostTable:
    """The costs of one network on all device types of all variants, each type once."""
    tables = [estimator.costs(row.variant, spec)[0].table for row in variants]
    used = {kind.name for row in variants for kind in row.variant.cluster.used_types}
    rows = {(r.device_type, r.layer, r.microbatch, r.in_flight, r.tensor_parallel): r for t in tables for r in t.layers}
    kept = tuple(row for row in rows.values() if row.device_type in used)
    return CostTable(spec.name, kept, tables[-1].transfers, tables[-1].source, tables[-1].notes)


def _held_out_points(spec: NetworkSpec, table: CostTable) -> Iterator[Document]:
    """How far each measured curve misses its own inner points when they are left out."""
    measured = CostTable(table.network, tuple(row for row in table.layers if row.provenance == "measured"))
    for curve in batch_curves(measured):
        if len(curve.microbatches) < FEWEST_POINTS:
            continue
        errors = _errors(curve)
        yield {
            "network": spec.name,
            "device_type": curve.device_type,
            "points": len(errors),
            "median_error": statistics.median(map(abs, errors)),
            "largest_error": max(errors, key=abs),
        }


def _errors(curve: BatchCurve) -> list[float]:
    points = list(zip(curve.microbatches, curve.seconds, strict=True))
    errors = []
    for place in range(1, len(points) - 1):
        size, seconds = points[place]
        others = [(s, t, 0.0) for s, t in points if s != size]
        errors.append(Curve.through(others).at(size).seconds / seconds - 1)
    return errors


def _inputs(
    estimator: Estimator, variants: tuple[Estimate, ...], told: Scenario, tables: Mapping[str, CostTable]
) -> Iterator[tuple[str, str, str]]:
    """(what, its value, where it comes from) of everything that the figures are made of."""
    types = {name: kind for row in variants for name, kind in row.variant.cluster.device_types.items()}
    used = dict.fromkeys(kind.name for row in variants for kind in row.variant.cluster.used_types)
    currency = estimator.scenario.economics.currency
    for name in used:
        for network, table in tables.items():
            yield f"time of {network} on {name}", *_costs_of(table, name)
        yield f"power of {name}", *_power_of(types[name], told)
        yield f"price of {name}", *_price_of(types[name], told, currency)
    for network, table in tables.items():
        measured = sum(row.operation in ("send_recv", "all_reduce") for row in table.transfers)
        if measured:
            yield f"messages and exchanges of {network}", f"{measured} points", "measured between these devices"
    yield from _links_and_hosts(variants, currency)
    economics = estimator.scenario.economics
    electricity = economics.electricity_per_kwh
    yield "electricity", "unknown" if electricity is None else f"{electricity:g} {currency}/kWh", _SAID
    yield "PUE", f"{economics.pue:g}", _SAID if economics.pue != 1 else "1 where nothing is said"
    for spec in estimator.scenario.networks:
        yield f"global batch of {spec.name}", f"{spec.training.global_batch}, weight {spec.weight:g}", _SAID


_SAID = "the scenario"
_YEAR_S = 365 * 24 * 3600.0


def _costs_of(table: CostTable, name: str) -> tuple[str, str]:
    rows = [row for row in table.layers if row.device_type == name]
    counts = Counter(row.provenance for row in rows)
    value = ", ".join(f"{count} {kind}" for kind, count in counts.items()) + " points"
    if "transferred" in counts:
        note = next((n for n in table.notes if n.startswith(f"{name}: ")), f"{name}: transferred by specification")
        widest = max(row.spread for row in rows)
        return value, f"{note.removeprefix(f'{name}: ')}; 95 % of such are within ±{widest:.0%}"
    return value, table.source or "measured here"


def _power_of(kind: DeviceType, told: Scenario) -> tuple[str, str]:
    power = kind.power
    if power is None:
        return "unknown", "nobody said"
    watts = [
        f"{'unknown' if w is None else f'{w:g} W'} {when}" for w, when in ((power.busy_w, "busy"), (power.idle_w, "idle"))
    ]
    if power.assumed:
        return ", ".join(watts), "the board's limit in the catalogue of accelerators: assumed"
    before = told.cluster.device_types.get(kind.name)
    if before is None:
        return ", ".join(watts), "the edit"
    return ", ".join(watts), _SAID if before.power == power else "the device's driver, while its layers were timed"


def _price_of(kind: DeviceType, told: Scenario, currency: str) -> tuple[str, str]:
    price = kind.price
    if price is None or (price.purchase is None and price.per_h is None):
        return "unknown", "nobody said"
    before = told.cluster.device_types.get(kind.name)
    source = (
        _SAID if before is not None and before.price == price else "the edit" if before else "the catalogue of accelerators"
    )
    if price.per_h is not None:
        return f"{price.per_h:g} {currency}/h", source
    life = "no life said" if price.life_s is None else f"written off over {_years(price.life_s / _YEAR_S)}"
    return f"{price.purchase:,.0f} {currency}, {life}", source


def _links_and_hosts(variants: tuple[Estimate, ...], currency: str) -> Iterator[tuple[str, str, str]]:
    seen: set[tuple[str, str]] = set()
    for row in variants:
        cluster = row.variant.cluster
        edited = "the scenario" if not row.variant.edits else f"the scenario, {row.variant.name}"
        links = [("network", cluster.network)] if len(cluster.nodes) > 1 and not cluster.wires else []
        links += [(f"link in {node.name}", node.link) for node in cluster.nodes if len(node.devices) > 1]
        for name, link in links:
            if (name, _link_text(link)) not in seen:
                seen.add((name, _link_text(link)))
                yield name, _link_text(link), edited
    for node in variants[0].variant.cluster.nodes:
        if node.power_w is not None:
            yield f"power of host {node.name}", f"{node.power_w:g} W", _SAID
        if node.price is not None and node.price.hourly is not None:
            yield f"price of host {node.name}", f"{node.price.hourly:.4g} {currency}/h", _SAID


def _link_text(link: Link) -> str:
    return f"{format_bandwidth(link.bandwidth_bytes_per_s)}, {format_seconds(link.latency_s)}"


def _years(number: float) -> str:
    return f"{number:.3g} year{'' if number == 1 else 's'}"
