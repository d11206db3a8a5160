"""Plans: the text form, and what is wrong with a plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsim.errors import PlanError
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.plan import SCHEDULES, Exchange, Plan, Replica, Stage
from hetsim.workload import Chain, Layer

LINK = Link("bus", 0.0, 1e9)
CLUSTER = Cluster((Node("n", (Device("a", "t", "n"), Device("b", "t", "n")), LINK),), {"t": DeviceType("t")}, LINK)
WIDER = Cluster(
    (
        Node("n", (Device("a", "t", "n"), Device("b", "t", "n"), Device("x", "u", "n")), LINK),
        Node("m", (Device("far", "t", "m"),), LINK),
    ),
    {"t": DeviceType("t"), "u": DeviceType("u")},
    LINK,
)
CHAIN = Chain("net", tuple(Layer(f"l{i}") for i in range(9)))

names = st.text(st.sampled_from("abz09_.-/"), min_size=1, max_size=8)
counts = st.integers(0, 10**6)
stages = st.builds(Stage, names, counts, counts, st.lists(names, max_size=2).map(tuple))
exchanges = st.sampled_from(
    [
        Exchange(),
        Exchange("tree"),
        Exchange("hierarchical"),
        Exchange("ps", ("n",)),
        Exchange("ps", ("n", "m")),
        Exchange(whole=True),
        Exchange("ps", ("n",), whole=True),
    ]
)
replicas = st.builds(Replica, st.lists(stages, min_size=1, max_size=4).map(tuple), counts, counts)


@given(st.lists(replicas, min_size=1, max_size=4), st.sampled_from(SCHEDULES), exchanges)
def test_text_form_parses_back(rows, schedule, exchange):
    plan = Plan(tuple(rows), schedule, exchange)
    again = Plan.parse(str(plan))
    assert again.exchange == exchange
    assert again.replicas == plan.replicas
    assert again.schedule == (schedule if plan.is_cut else "gpipe"), "the order of work matters between stages only"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "a",
            "a[0:9]",
            "a[0:9] 8",
            "a[0:9] 8/1;",
            "a[0-9] 8/1",
            "a[0:9] 8/1; zigzag",
            "a[0:9] 8/1; ps",
            "a[0:9] 8/1; ring@n",
            "a+[0:9] 8/1",
            "a[0:9] -8/1",
            "a[0:٩] 8/1",
        ),
        *(f"a[0:{'9' * 5000}] 8/1", f"a[0:9] {'8' * 5000}/1"),
    ],
)
def test_unreadable_text_is_refused_with_its_piece(text):
    if text == "a[0:9] 8/1;":
        assert Plan.parse(text).global_batch == 8
        return
    with pytest.raises(PlanError, match=r"cannot read|expected a schedule"):
        Plan.parse(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a[0:9] 4/1 | c[0:9] 4/1", "unknown device c; the cluster has a, b"),
        ("a[0:9] 4/1 | a[0:9] 4/1", "a device stands in two replicas"),
        ("a[0:9] 4/1 | b[0:9] 3/1", "add up to 7, expected the global batch of 8"),
        ("a[0:4] > b[5:9] 8/1", "does not cover the 9 layers"),
        ("a[0:4] > b[4:8] 8/1", "does not cover the 9 layers"),
        ("a[0:9] > b[9:9] 8/1", "does not cover the 9 layers"),
        ("a[0:4] > b[4:9] 8/3", "cannot cut 8 samples into 3 equal microbatches"),
        ("a[0:9] 8/1; ps@m", "unknown node m for parameter servers; the cluster has n"),
        ("a+x[0:9] 8/1", "a[+]x is not of like devices of one node"),
        ("a+far[0:9] 8/1", "a[+]far is not of like devices of one node"),
        ("a+a[0:9] 8/1", "a[+]a names a device twice"),
        ("a+b[0:3] > a[3:9] 8/1", "stands in another tensor-parallel group too, or alone"),
        ("a[0:9] 8/0", "cannot cut 8 samples into 0 equal microbatches"),
    ],
)
def test_faults_are_named(text, fault):
    cluster = WIDER if "x" in text or "far" in text else CLUSTER
    with pytest.raises(PlanError, match=fault):
        Plan.parse(text).check(CHAIN, cluster, 8)


def test_all_faults_come_at_once():
    with pytest.raises(PlanError) as caught:
        Plan.parse("a[0:4] 3/2 | c[0:9] 4/1").check(CHAIN, CLUSTER, 8)
    assert len(caught.value.problems) == 4


def test_a_good_plan_passes():
    Plan.parse("a[0:4] > b[4:9] 8/4; 1f1b").check(CHAIN, CLUSTER, 8)
    Plan.parse("a[0:4] > b[4:6] > a[6:8] > b[8:9] 8/4; interleaved").check(CHAIN, CLUSTER, 8)
    Plan.parse("a+b[0:9] 4/1 | far[0:9] 4/1; ps@n+m").check(CHAIN, WIDER, 8)


def test_an_outline_is_no_plan_and_says_where_that_is():
    with pytest.raises(PlanError, match=r"an outline for people.*plans\.json"):
        Plan.parse("8 × K80[0:14] 3/1 | v100-0[0:14] 8/1")
