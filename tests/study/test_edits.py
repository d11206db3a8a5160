"""Edits: each does what it says and nothing else, and what cannot be done is told with a way out."""

from dataclasses import replace

import pytest
from study_world import cluster

from hetsim.errors import InputError
from hetsim.hardware import Link, Wire
from hetsim.study.edits import edited

HERE = cluster()


def names(variant):
    return {node.name: [(d.name, d.type) for d in node.devices] for node in variant.cluster.nodes}


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            "buy 2 new into a",
            {"a": [("old0", "old"), ("old1", "old"), ("new1", "new"), ("new2", "new")], "b": [("new0", "new")]},
        ),
        (
            "buy 1 new into new box",
            {"a": [("old0", "old"), ("old1", "old")], "b": [("new0", "new")], "box": [("new1", "new")]},
        ),
        ("retire old1", {"a": [("old0", "old")], "b": [("new0", "new")]}),
        ("retire 1 old from a", {"a": [("old0", "old")], "b": [("new0", "new")]}),
        ("retire node a", {"b": [("new0", "new")]}),
        ("retire new0", {"a": [("old0", "old"), ("old1", "old")]}),
        ("move new0 to a", {"a": [("old0", "old"), ("old1", "old"), ("new0", "new")]}),
        ("replace old0 by new", {"a": [("old1", "old"), ("new1", "new")], "b": [("new0", "new")]}),
        ("BUY", None),
    ],
)
def test_devices_come_and_go(edit, expected):
    if expected is None:
        with pytest.raises(InputError, match="is no edit"):
            edited(HERE, [edit])
        return
    variant = edited(HERE, [edit])
    assert names(variant) == expected
    assert variant.cluster.network == HERE.network
    assert names(edited(HERE, [])) == {"a": [("old0", "old"), ("old1", "old")], "b": [("new0", "new")]}, "the old one stays"


def test_links_prices_and_caps_are_changed():
    variant = edited(HERE, ["network 80 Gbit/s", "link a 2 GB/s", "price new 400", "cap old at 60 W, 1.5 x slower"])
    assert variant.cluster.network.bandwidth_bytes_per_s == 1e10
    assert {n.name: n.link.bandwidth_bytes_per_s for n in variant.cluster.nodes} == {"a": 2e9, "b": 1e10}
    assert variant.cluster.device_types["new"].price.purchase == 400
    assert {d.type for d in variant.cluster.devices} == {"old at 60 W", "new"}
    assert variant.cluster.device_types["old at 60 W"].power.busy_w == 60
    assert variant.slowed == {"old at 60 W": ("old", 1.5)}


def test_what_was_bought_is_counted_with_its_price():
    variant = edited(HERE, ["buy 2 new into a", "buy 1 new into b"])
    assert (variant.bought, variant.spent) == ({"new": 3}, 3000.0)
    assert variant.amortised_per_h == pytest.approx(3.0)


def test_a_type_out_of_the_catalogue_brings_its_facts_and_no_price():
    variant = edited(HERE, ["buy 1 V100 SXM2 16GB into a"])
    kind = variant.cluster.device_types["V100 SXM2 16GB"]
    assert kind.power.assumed
    assert kind.catalogue == "V100 SXM2 16GB"
    assert variant.spent is None or kind.price.purchase == variant.spent


@pytest.mark.parametrize(
    ("edits", "what", "mend"),
    [
        (["buy 3 new into a"], "node a has 2 free slots of 4", "Retire a device first"),
        (["buy 1 nwe into a"], "neither a device type of the cluster nor in the catalogue", ""),
        (["buy 1 new into c"], 'there is no node "c"', "For a new one: into new NAME"),
        (["buy 0 new into a"], "got 0 devices", ""),
        (["buy 1 new into new a"], 'there is a node "a" already', ""),
        (["retire old7"], 'there is no device "old7"', "old"),
        (["retire 3 old from a"], "node a has 2 devices of type old", ""),
        (["move old9 to b"], 'there is no device "old9"', ""),
        (["link a fast"], "expected a bandwidth", ""),
        (["cap old at 60 W, 0.5 x slower"], "expected 1 or more", ""),
        (["cap old at 0 W, 2 x slower"], "got a cap of 0 W", ""),
        (["cap old at 101 W, 2 x slower"], "no more than the 100 W that it takes now", ""),
        (["cap old at 60 W, 2000000 x slower"], "1000000 at most", ""),
        (["price old 1" + "0" * 400], "got a price of inf", ""),
        (["link a 0"], "expected a bandwidth of 1 byte per second or more", ""),
        (["network 0 Gbit/s"], "expected a bandwidth of 1 byte per second or more", ""),
        (["buy 1 new into new old1"], 'there is a device "old1"', ""),
        (["retire old0", "retire old0"], '"old0" is not there any more: the edit "retire old0" took it out', ""),
        (["retire node a", "buy 1 new into a"], '"a" is not there any more: the edit "retire node a" took it out', ""),
        (["move old0 to b", "retire node b", "retire old0"], 'the edit "retire node b" took it out', ""),
        (["retire node a", "retire node b"], "leave no device in the cluster", ""),
        (["sell old0"], "is no edit", "Write: buy N TYPE into NODE"),
    ],
)
def test_what_cannot_be_done_is_told(edits, what, mend):
    with pytest.raises(InputError) as caught:
        edited(HERE, edits)
    (problem,) = caught.value.problems
    assert what in problem.what
    assert mend in problem.help
    assert problem.where.startswith("edit")


SLOTS = Wire(("old0", "a"), Link("riser", 0.0, 1e10)), Wire(("old1", "a"), Link("riser", 0.0, 1e10))
WIRED_NODE = replace(HERE, nodes=tuple(replace(node, wires=SLOTS if node.name == "a" else ()) for node in HERE.nodes))
WIRED_CLUSTER = replace(HERE, wires=(Wire(("a", "b"), Link("cable", 1e-5, 1e9)),))


@pytest.mark.parametrize(
    ("here", "edit"),
    [
        (WIRED_NODE, "buy 1 new into a"),
        (WIRED_NODE, "move new0 to a"),
        (WIRED_NODE, "replace old0 by new"),
        (WIRED_NODE, "link a 1 GB/s"),
        (WIRED_CLUSTER, "buy 1 new into new c"),
        (WIRED_CLUSTER, "network 1 GB/s"),
    ],
)
def test_what_would_need_other_wires_is_refused_rather_than_left_without_effect(here, edit):
    with pytest.raises(InputError, match="wires"):
        edited(here, [edit])


def test_beside_wires_all_else_can_be_edited():
    assert names(edited(WIRED_CLUSTER, ["buy 1 new into a"]))["a"][-1] == ("new1", "new")
    assert names(edited(WIRED_NODE, ["retire old1", "buy 1 new into b"]))["a"] == [("old0", "old")]


def test_a_bought_device_is_called_like_no_node():
    here = edited(HERE, ["buy 1 old into new new1"]).cluster
    assert names(edited(here, ["buy 1 new into a"]))["a"][-1] == ("new2", "new")
