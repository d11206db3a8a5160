"""Schedules: text forms, coverage, and the order of GPipe and 1F1B as their papers draw them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsim.errors import PlanError
from hetsim.memory import most_in_flight
from hetsim.plan import Plan
from hetsim.schedule import Action, Kind, make_schedule
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
