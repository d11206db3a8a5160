"""What a what-if says: its answers and its tables, made from its JSON document alone, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hetsim.report.tables import Rows, print_tables
from hetsim.report.text import NONE
from hetsim.units import format_percent

Document = Mapping[str, Any]

def print_study(document: Document) -> None:
    """The answer and its tables, on standard output."""
    print_tables(*(part for pair in ((one, "") for one in _parts(document)) for part in pair))


def answers(document: Document) -> list[tuple[str, str, str]]:
    """(title, the one figure, a sentence) of each thing that was asked."""
    rows = []
    for variant in document["variants"]:
        figures = {row["name"]: row for row in variant["figures"]}
        throughput, cost = figures["throughput"], figures["cost"]
        sentence = f"From {_number(throughput['old'])} to {_number(throughput['new'])} samples/s"
        sentence += f" ({_interval(throughput)})." if throughput["low"] is not None else "."
        if cost["change"] is not None:
            sentence += (
                f" A million samples cost {_number(cost['new'])} {document['currency']} instead of {_number(cost['old'])}."
            )
        if (back := figures.get("pays back after")) is not None:
            sentence += f" Pays back after {_shown(back['new'])} hours of training." if back["new"] is not None else ""
        rows.append((variant["name"], f"{_percent(throughput['change'])} throughput", sentence))
    if document["worth"]:
        retire = [row["device"] for row in document["worth"] if row["verdict"] == "retire"]
        kept = [row["device"] for row in document["worth"] if row["verdict"] == "keep"]
        said = f"Worth keeping: {', '.join(kept) or 'none for certain'}."
        rows.append(("What to retire", ", ".join(retire) or "nothing", said))
    found = document["purchases"]
    if found is not None:
        best = found["best"]
        looked = f"{found['considered']:,} sets of devices fit; {found['ruled_out']:,} were ruled out by a bound."
        what = f"{_number(best['samples_per_s'])} samples/s for {_number(best['spent'])} {document['currency']}. {looked}"
        rows.append(("Best purchase", "; ".join(best["edits"]) or "buy nothing", what))
    if document["hinges"]:
        flips = [row for row in document["hinges"] if row["flips_at"] is not None]
        said = "; ".join(f"{row['name']} were {row['flips_at']:.2g} times what it is" for row in flips)
        rows.append(
            ("What the answer hinges on", document["hinges"][0]["name"], f"It flips if {said}." if said else _STEADY)
        )
    return rows


_STEADY = "No single input that was looked at makes it flip."


def _parts(document: Document) -> Iterator[Any]:
    for title, figure, sentence in answers(document):
        yield f"{title}: {figure}. {sentence}"
    yield from study_tables(document)


def study_tables(document: Document) -> Iterator[Rows]:
    for variant in document["variants"]:
        yield _variant_table(variant)
    if document["variants"]:
        yield _causes_table(document)
    if document["worth"]:
        yield _worth_table(document)
    if document["retire_in_this_order"]:
        yield _order_table(document)
    if document["purchases"] is not None:
        yield _front_table(document)
    if document["hinges"]:
        yield _hinge_table(document)


def _variant_table(variant: Mapping[str, Any]) -> Rows:
    return Rows(
        variant["name"],
        ("figure", "unit"),
        ("old", "new", "change", "90 % interval"),
        tuple(
            (
                row["name"],
                row["unit"],
                _shown(row["old"]) if row["name"] not in ("spent", "pays back after") else NONE,
                _shown(row["new"]),
                NONE if row["change"] is None else _percent(row["change"]),
                _interval(row) if row["low"] is not None else NONE,
            )
            for row in variant["figures"]
        ),
    )


def _causes_table(document: Document) -> Rows:
    """How the devices spend the step, before and after: why a variant is faster or slower."""
    rows = [
        (variant["name"], row["network"], row["plan"], *(f"{s:.0%}" for s in row["shares"].values()), row["limited_by"])
        for variant in (document["as_it_is"], *document["variants"])
        for row in variant["networks"]
    ]
    names = tuple(document["as_it_is"]["networks"][0]["shares"])
    return Rows("how all devices spend the step", ("variant", "network", "plan"), (*names, "limited by"), tuple(rows))


def _worth_table(document: Document) -> Rows:
    networks = [row["network"] for row in document["as_it_is"]["networks"]]
    return Rows(
        "what each device is worth: with it over without it, planned anew",
        ("device", "of"),
        ("throughput", "90 % interval", *(networks if len(networks) > 1 else ()), f"{document['currency']}/h", "verdict"),
        tuple(
            (
                row["device"],
                f"{row['count']} x {row['type']} in {row['node']}",
                _percent(row["gain"]),
                _interval(row),
                *((_percent(row["by_network"][name]) for name in networks) if len(networks) > 1 else ()),
                _shown(row["hourly"]),
                row["verdict"],
            )
            for row in document["worth"]
        ),
    )


def _order_table(document: Document) -> Rows:
    return Rows(
        "the order in which to retire",
        ("", "device", "of"),
        ("samples/s left", f"{document['currency']} per million samples"),
        tuple(
            (
                str(i),
                row["device"],
                f"{row['type']} in {row['node']}",
                _shown(row["samples_per_s"]),
                _shown(row["per_million"]),
            )
            for i, row in enumerate(document["retire_in_this_order"], 1)
        ),
    )


def _front_table(document: Document) -> Rows:
    found = document["purchases"]
    note = f"{found['considered']} sets of devices, {found['ruled_out']} ruled out by a bound"
    note += f", {found['infeasible']} that no plan fits"
    return Rows(
        "the front of throughput against money",
        ("purchase",),
        (
            f"spent, {document['currency']}",
            "samples/s",
            f"{document['currency']} per million samples",
            "kWh per million samples",
        ),
        tuple(
            (
                "; ".join(row["edits"]) or "nothing",
                _shown(row["spent"]),
                _shown(row["samples_per_s"]),
                _shown(row["per_million"]),
                _shown(row["kwh_per_million"]),
            )
            for row in found["front"]
        ),
        note=note + (", ended early" if found["ended_early"] else ""),
    )


def _hinge_table(document: Document) -> Rows:
    return Rows(
        f"what the advantage of {_percent(document['advantage'])} hinges on",
        ("input",),
        ("moved by", "advantage", "flips at"),
        tuple(
            (
                row["name"],
                f"{row['down']:.2g} … {row['up']:.2g} x",
                f"{_percent(row['at_down'])} … {_percent(row['at_up'])}",
                NONE if row["flips_at"] is None else f"{row['flips_at']:.2g} x",
            )
            for row in document["hinges"]
        ),
    )


def _number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _shown(value: float | str | None) -> str:
    return "unknown" if value is None else value if isinstance(value, str) else _number(value)


def _percent(value: float | str | None) -> str:
    if value is None:
        return NONE
    return "all of it" if isinstance(value, str) else format_percent(value, sign=True)


def _interval(row: Mapping[str, Any]) -> str:
    if isinstance(row["low"], str):
        return NONE
    return f"{format_percent(row['low'], sign=True)} to {format_percent(row['high'], sign=True)}"
