"""What a what-if says: its answers and its tables, made from its JSON document alone, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hetsim.report.tables import Rows, print_tables
from hetsim.report.text import NONE
from hetsim.units import format_percent

Document = Mapping[str, Any]


def print_study(document: Document) -> None:
    """The answer and its tables, on standard output."""
    print_tables(*(part for pair in ((one, "") for one in _parts(document)) for part in pair))


def answers(document: Document) -> list[tuple[str, str, str]]:
    """(title, what it comes to in a few words, a sentence or two) of each thing that was asked."""
    rows = [_purchase_answer(document)] if document["purchases"] is not None else []
    rows += [_variant_answer(document, row) for row in document["variants"] if row["name"] != BEST_PURCHASE]
    if document["worth"]:
        rows.append(_worth_answer(document))
    if document["hinges"]:
        rows.append(_hinges_answer(document["hinges"]))
    return rows


def _hinges_answer(rows: Sequence[Mapping[str, Any]]) -> tuple[str, str, str]:
    flips = [row for row in rows if row["flips_at"] is not None]
    most = rows[0]
    moves = f"What moves it most is {most['name']}: from {_percent(most['at_down'])} to {_percent(most['at_up'])}."
    if not flips:
        return "What the answer hinges on", "no single input that was looked at", moves
    said = "; ".join(f"{row['name']} were {row['flips_at']:.2g} times what it is" for row in flips)
    return "What the answer hinges on", ", ".join(row["name"] for row in flips), f"It flips if {said}. {moves}"


def _variant_answer(document: Document, variant: Mapping[str, Any]) -> tuple[str, str, str]:
    figures = {row["name"]: row for row in variant["figures"]}
    known = [(name, figures[name]["change"]) for name in ("throughput", "cost", "energy")]
    headline = ", ".join(f"{name} {_percent(change)}" for name, change in known if change is not None)
    return variant["name"], headline, _change_text(document, figures)


def _change_text(document: Document, figures: Mapping[str, Mapping[str, Any]]) -> str:
    """What a variant changes, in sentences."""
    throughput, cost, back = figures["throughput"], figures["cost"], figures.get("pays back after")
    text = f"From {_number(throughput['old'])} to {_number(throughput['new'])} samples/s ({_interval(throughput)})."
    if cost["change"] is not None:
        text += f" A million samples cost {_number(cost['new'])} {document['currency']} instead of {_number(cost['old'])}."
    elif unsaid := [row["what"] for row in document["inputs"] if row["value"] == "unknown" and "price of" in row["what"]]:
        text += f" What they cost is unknown: nobody said the {', the '.join(unsaid)}."
    if back is None or back["new"] is None:
        return text
    if isinstance(back["new"], str):
        return f"{text} It never pays back."
    return f"{text} It pays back after {_number(back['new'])} hours of training, {back['new'] / _YEAR_H:.2g} years without a pause."


def _purchase_answer(document: Document) -> tuple[str, str, str]:
    found, currency = document["purchases"], document["currency"]
    best = found["best"]
    looked = f"The best of {found['considered']:,} sets of devices that fit."
    if found["ended_early"]:
        looked += " The search was interrupted: it is the best so far."
    variant = next((row for row in document["variants"] if row["name"] == BEST_PURCHASE), None)
    if variant is None:
        return "Best purchase", "nothing", f"Nothing that the budget buys makes training faster. {looked}"
    figures = {row["name"]: row for row in variant["figures"]}
    text = f"{_percent(figures['throughput']['change'])} throughput for {_number(best['spent'])} {currency}."
    return "Best purchase", "; ".join(best["edits"]), f"{text} {_change_text(document, figures)} {looked}"


def _worth_answer(document: Document) -> tuple[str, str, str]:
    by_verdict = {
        verdict: ", ".join(f"{row['device']} ({row['count']} x {row['type']} in {row['node']})" for row in rows)
        for verdict in ("keep", "indifferent", "retire")
        if (rows := [row for row in document["worth"] if row["verdict"] == verdict])
    }
    headline = "; ".join(f"{verdict}: {devices}" for verdict, devices in by_verdict.items())
    text = "Each by itself, with all others kept."
    if order := document["retire_in_this_order"]:
        last, whole = order[-1], document["as_it_is"]
        many = f"all {len(order)}" if len(order) > 1 else "that one"
        text += f" In order, the first to retire is {order[0]['device']}; without {many} of the list below"
        text += f" {_number(last['samples_per_s'])} of {_number(whole['samples_per_s'])} samples/s are left"
        if last["per_million"] is not None and whole["per_million"] is not None:
            text += f", and a million samples cost {_number(last['per_million'])} {document['currency']}"
            text += f" instead of {_number(whole['per_million'])}"
        text += "."
    return "What each device is worth", headline, text


BEST_PURCHASE = "the best purchase"
"""Name of the variant that a search for purchases ends in."""

_YEAR_H = 365 * 24.0


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
        if energy := document["purchases"]["energy_front"]:
            yield _purchase_table(document, "The front of throughput against energy: nothing as frugal is faster", energy)
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
    return Rows("How all devices spend the step", ("variant", "network", "plan"), (*names, "limited by"), tuple(rows))


_BY_MONEY = (
    "Verdicts go by what a sample costs: keep where it is surely dearer without the device, retire where it is surely cheaper, "
    "indifferent where that cannot be told."
)
_BY_THROUGHPUT = (
    "Verdicts go by throughput: keep where it is surely less without the device, retire where it is not less, indifferent where "
    "that cannot be told."
)


def _worth_table(document: Document) -> Rows:
    networks = [row["network"] for row in document["as_it_is"]["networks"]]
    return Rows(
        "What each device is worth: with it over without it, planned anew",
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
        note=_BY_MONEY if document["as_it_is"]["per_million"] else _BY_THROUGHPUT,
    )


def _order_table(document: Document) -> Rows:
    return Rows(
        "The order in which to retire",
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
    note = f"{found['considered']:,} sets of devices, {found['ruled_out']:,} ruled out by bounds"
    note += f", {found['infeasible']:,} that no plan fits"
    return _purchase_table(
        document,
        "The front of throughput against money: nothing that costs no more is faster",
        found["front"],
        note + (", ended early" if found["ended_early"] else ""),
    )


def _purchase_table(document: Document, title: str, rows: Sequence[Mapping[str, Any]], note: str = "") -> Rows:
    return Rows(
        title,
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
            for row in rows
        ),
        note=note,
    )


def _hinge_table(document: Document) -> Rows:
    return Rows(
        f"What the advantage of {_percent(document['advantage'])} hinges on",
        ("input",),
        ("moved by", "advantage", "flips at"),
        tuple(
            (
                row["name"],
                f"{row['down']:.3g} … {row['up']:.3g} x",
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
    return "all of it" if isinstance(value, str) else _signed(value)


def _interval(row: Mapping[str, Any]) -> str:
    if isinstance(row["low"], str):
        return NONE
    return f"{_signed(row['low'])} to {_signed(row['high'])}"


def _signed(share: float) -> str:
    """As a percentage with its sign; what is no change has none."""
    return format_percent(share, sign=True) if abs(share) >= _LEAST_SHOWN else format_percent(0.0)


_LEAST_SHOWN = 0.0005
"""Less is shown as 0.0 %."""
