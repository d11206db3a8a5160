"""Merging: everything of all tables, and nothing that two of them tell differently unless the user says which counts."""

import pytest

from hetsim.costs import LayerCost, TransferCost
from hetsim.costs.merge import merge
from hetsim.costs.sources import CostSource, NetworkCosts, Placed
from hetsim.errors import CostError

PRINT = {"torch": "2.13.0", "driver": "550", "threads": 1}


def source(path, rows, *, network="vgg", fingerprint=PRINT, transfers=(), notes=()):
    placed = tuple(Placed(row, f"{path}/{network}.csv:{line}:1") for line, row in enumerate(rows, 3))
    prints = dict.fromkeys([row.device_type for row in rows], (fingerprint,)) if fingerprint else {}
    costs = NetworkCosts(network, placed, notes, prints, f"{path}/{network}.csv")
    sent = tuple(Placed(row, f"{path}/transfers.csv:{line}:1") for line, row in enumerate(transfers, 3))
    return CostSource(path, path, (costs,), sent)


def row(kind="V100", layer="l0", size=4, forward_s=0.1, samples=5):
    return LayerCost(kind, layer, size, forward_s, 0.2, samples=samples)


def rows_of(merged):
    return [[placed.row for placed in costs.rows] for costs in merged.source.networks]


def test_device_types_networks_sizes_and_transfers_are_united():
    sent = TransferCost("send_recv", ("a0", "b0"), 8, 1e-5)
    one = source("one", [row("K80")], transfers=[sent], notes=("cold room",))
    other = source("other", [row("V100"), row("V100", size=8)], transfers=[sent, TransferCost("bucket", ("V100",), 8, 1e-6)])
    third = source("third", [row("V100")], network="gpt")
    merged = merge([one, other, third], "all")
    assert [costs.network for costs in merged.source.networks] == ["vgg", "gpt"]
    assert rows_of(merged) == [[row("K80"), row("V100"), row("V100", size=8)], [row("V100")]]
    assert merged.source.networks[0].fingerprints == {"K80": (PRINT,), "V100": (PRINT,)}
    assert merged.source.networks[0].notes == ("merged from one/vgg.csv", "cold room", "merged from other/vgg.csv")
    assert len(merged.source.transfers) == 2
    assert (merged.replaced, merged.accepted, merged.unchecked) == (0, (), ())


def test_rows_that_are_equal_are_no_conflict():
    assert rows_of(merge([source("one", [row()]), source("other", [row()])], "all")) == [[row()]]


def test_points_told_differently_name_both_places_and_what_differs():
    one = source("one", [row(), row(layer="l1")], transfers=[TransferCost("bucket", ("V100",), 8, 1e-6)])
    other = source(
        "other", [row(layer="l1", forward_s=0.3, samples=9)], transfers=[TransferCost("bucket", ("V100",), 8, 2e-6)]
    )
    with pytest.raises(CostError) as caught:
        merge([one, other], "all")
    told = "forward_s 0.3 instead of 0.1, samples 9 instead of 5"
    assert [(problem.where, problem.what) for problem in caught.value.problems] == [
        ("other/vgg.csv:3:1", f"l1 on V100 × 4: differs from one/vgg.csv:4:1: {told}"),
        (
            "other/transfers.csv:3:1",
            "bucket V100 of 8 bytes: differs from one/transfers.csv:3:1: seconds 2e-06 instead of 1e-06",
        ),
    ]
    assert {problem.help for problem in caught.value.problems} == {"Say which counts: --prefer first, last or most-samples"}


def test_hundreds_of_conflicts_are_counted():
    with pytest.raises(CostError) as caught:
        merge([source(p, [row(layer=f"l{i}", forward_s=t) for i in range(100)]) for p, t in (("a", 0.1), ("b", 0.2))], "all")
    assert len(caught.value.problems) == 9
    assert caught.value.problems[-1].what == "92 more points differ from a/vgg.csv"


@pytest.mark.parametrize(("prefer", "kept"), [("first", 0.1), ("last", 0.3), ("most-samples", 0.2)])
def test_prefer_says_which_counts_and_keeps_the_order(prefer, kept):
    parts = [
        source("a", [row(forward_s=0.1, samples=5), row(layer="l1")]),
        source("b", [row(forward_s=0.2, samples=9)]),
        source("c", [row(forward_s=0.3, samples=9)]),
    ]
    merged = merge(parts, "all", prefer=prefer)
    assert [r.forward_s for r in rows_of(merged)[0]] == [kept, 0.1]
    assert merged.replaced == 2


def test_other_torch_driver_and_threads_are_refused_with_what_differs():
    other = source("other", [row(size=8)], fingerprint={"torch": "2.12.0", "driver": "535", "threads": 2})
    with pytest.raises(CostError) as caught:
        merge([source("one", [row()]), other], "all", prefer="first")
    assert str(caught.value) == (
        "other: V100 was measured under another fingerprint than in one: "
        'torch "2.12.0" instead of "2.13.0", driver "535" instead of "550", threads "2" instead of "1". '
        "Measure both alike, give one of them another name, or accept it: --allow-mismatch"
    )


def test_a_mismatch_that_is_accepted_is_marked_and_stays_one():
    new = PRINT | {"torch": "2.14.0"}
    merged = merge([source("one", [row()]), source("other", [row(size=8)], fingerprint=new)], "all", allow_mismatch=True)
    (costs,) = merged.source.networks
    assert costs.notes[-1] == (
        'mismatch accepted: V100 was measured under another fingerprint than in one: torch "2.14.0" instead of "2.13.0"'
    )
    assert costs.fingerprints == {"V100": (PRINT, new)}
    with pytest.raises(CostError, match="another fingerprint"):
        merge([merged.source, source("one", [row()])], "more")
    assert merge([merged.source, merged.source], "same").accepted == ()


def test_the_same_name_in_two_networks_is_the_same_device_type():
    other = source("other", [row()], network="gpt", fingerprint=PRINT | {"threads": 2})
    with pytest.raises(CostError, match="another fingerprint"):
        merge([source("one", [row()]), other], "all")


def test_unknown_fingerprints_are_told():
    merged = merge([source("one", [row()]), source("two", [row(size=8), row("K80")], fingerprint=None)], "all")
    assert merged.unchecked == ("V100",)
