"""Schedules: text forms, coverage, and the order of GPipe and 1F1B as their papers draw them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsim.errors import PlanError
from hetsim.memory import most_in_flight
from hetsim.plan import Plan
from hetsim.schedule import Action, Kind, make_schedule
from hetsim.schedule_check import check_schedule
from hetsim.workload import Chain, Layer

CHAIN = Chain("net", tuple(Layer(f"l{i}", (1000,)) for i in range(4)))


def actions_of(text):
    return {device: " ".join(map(str, row)) for device, row in make_schedule(Plan.parse(text), CHAIN).actions.items()}


@given(
    st.builds(Action, st.integers(0, 99), st.sampled_from([k for k in Kind if k is not Kind.UPDATE]), st.integers(0, 999))
)
def test_action_parses_back(action):
    assert Action.parse(str(action)) == action


@pytest.mark.parametrize("text", ["", "F0", "2F", "2X0", "1UPDATE3", "2F0 ", "2F" + "9" * 5000])
def test_bad_action_is_refused(text):
    if text == "2F0 ":
        assert Action.parse(text) == Action(2, Kind.FORWARD, 0)
        return
    with pytest.raises(PlanError, match="cannot read action"):
        Action.parse(text)


def test_gpipe_runs_all_forwards_first_and_receives_one_computation_early():
    assert actions_of("a[0:2] > b[2:4] 2/2; gpipe") == {
        "a": "0F0 0SEND_F0 0RECV_B0 0F1 0SEND_F1 0RECV_B1 0B0 0B1 0UPDATE",
        "b": "1RECV_F0 1RECV_F1 1F0 1F1 1B0 1SEND_B0 1B1 1SEND_B1 1UPDATE",
    }


def test_1f1b_alternates_after_its_warm_up():
    row = make_schedule(Plan.parse("a[0:1] > b[1:2] > c[2:4] 4/4; 1f1b"), CHAIN).actions["b"]
    order = [str(a) for a in row if a.kind in (Kind.FORWARD, Kind.BACKWARD)]
    assert order == ["1F0", "1F1", "1B0", "1F2", "1B1", "1F3", "1B2", "1B3"]


@given(st.integers(1, 4), st.integers(1, 8), st.sampled_from(["gpipe", "1f1b"]))
def test_every_microbatch_goes_through_every_stage_once(stages, microbatches, schedule):
    cuts = [*range(stages), 4]
    text = " > ".join(f"d{i}[{a}:{b}]" for i, (a, b) in enumerate(pairwise(cuts)))
    made = make_schedule(Plan.parse(f"{text} {microbatches}/{microbatches}; {schedule}"), CHAIN)
    for number, actions in enumerate(made.actions.values()):
        for kind in (Kind.FORWARD, Kind.BACKWARD):
            assert [a.item for a in actions if a.kind is kind] == list(range(microbatches))
        assert len(set(actions)) == len(actions)
        all_at_once = schedule == "gpipe" and stages > 1  # a lone stage has no one to keep busy: it accumulates
        in_flight = microbatches if all_at_once else min(microbatches, stages - number)
        assert most_in_flight(actions) == in_flight, "what a stage holds at its worst moment, by the schedules' papers"


def test_two_stages_on_one_device_are_refused():
    with pytest.raises(PlanError, match="a device holds several"):
        make_schedule(Plan.parse("a[0:1] > b[1:2] > a[2:4] 4/4; 1f1b"), CHAIN)


def test_replicas_with_different_cuts_exchange_by_segment():
    schedule = make_schedule(Plan.parse("a[0:1] > b[1:4] 2/1 | c[0:4] 2/1"), CHAIN)
    reduces = {d: [str(a) for a in row if a.kind is Kind.REDUCE] for d, row in schedule.actions.items()}
    assert reduces == {"a": ["0REDUCE1"], "b": ["1REDUCE0"], "c": ["0REDUCE0", "0REDUCE1"]}


def test_interleaved_goes_round_the_devices_as_its_paper_draws_it():
    """Narayanan et al. 2021, figure 4: two devices, two stages each, four microbatches."""
    schedule = make_schedule(Plan.parse("a[0:1] > b[1:2] > a[2:3] > b[3:4] 4/4; interleaved"), CHAIN)
    order = {
        d: " ".join(str(a) for a in row if a.kind in (Kind.FORWARD, Kind.BACKWARD)) for d, row in schedule.actions.items()
    }
    assert order == {
        "a": "0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 2B2 2B3 0B2 0B3",
        "b": "1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3",
    }


@given(st.integers(2, 4), st.integers(2, 3), st.integers(1, 9))
def test_interleaved_is_a_schedule_for_any_number_of_microbatches(width, rounds, microbatches):
    depth = width * rounds
    chain = Chain("net", tuple(Layer(f"l{i}", (10,)) for i in range(depth)))
    stages = " > ".join(f"d{i % width}[{i}:{i + 1}]" for i in range(depth))
    check_schedule(make_schedule(Plan.parse(f"{stages} {microbatches}/{microbatches}; interleaved"), chain), chain)


def test_stages_that_do_not_go_round_are_refused():
    with pytest.raises(PlanError, match="go round the devices"):
        make_schedule(Plan.parse("a[0:1] > b[1:2] > a[2:4] 4/4; interleaved"), CHAIN)


@given(st.sampled_from(["a[0:2] > b[2:4] 3/3; 1f1b", "a[0:1] > b[1:4] 2/2 | c[0:4] 2/1; gpipe"]))
def test_a_grid_parses_back(text):
    schedule = make_schedule(Plan.parse(text), CHAIN)
    assert schedule.replaced(str(schedule)) == schedule
    check_schedule(schedule, CHAIN)


PAIR = make_schedule(Plan.parse("a[0:2] > b[2:4] 2/2; gpipe"), CHAIN)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (" 1B1 1SEND_B1", " 1SEND_B1", "1B1 is missing in the list of b"),
        ("0F1", "0F1 0F1", "0F1 stands twice in the list of a"),
        ("0F1", "1F1", "1F1 is no work of a"),
        ("0B0 0B1", "0B1 0B0", None),
        ("1F0 1F1 1B0", "1B0 1F0 1F1", ">>1B0<<"),
        ("0F0 0SEND_F0", "0SEND_F0 0F0", "waits for itself: a waits before 0SEND_F0 for 0F0"),
        ("0F0 0SEND_F0", "0B0 0F0 0SEND_F0", "0B0 stands twice"),
    ],
)
def test_faults_of_a_grid_are_marked_where_they_are(old, new, fault):
    spoilt = PAIR.replaced(str(PAIR).replace(old, new))
    assert spoilt != PAIR
    if fault is None:
        check_schedule(spoilt, CHAIN)
        return
    with pytest.raises(PlanError) as caught:
        check_schedule(spoilt, CHAIN)
    assert fault in str(caught.value)
    assert ">>" in str(caught.value)


def test_a_grid_of_other_devices_is_refused():
    with pytest.raises(PlanError, match='a line of the grid for "c"'):
        PAIR.replaced("c 0F0")
    with pytest.raises(PlanError, match="no line for b"):
        PAIR.replaced("a 0F0")
