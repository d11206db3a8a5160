"""The errors of actions, by hand."""

import pytest

from hetsim.actions import action_errors
from hetsim.plan import Plan
from hetsim.schedule import Kind
from hetsim.timeline import Span, Timeline

MS = 10**6


def line(*spans):
    return Timeline.of(Span(device, kind, action, start * MS, end * MS) for device, kind, action, start, end in spans)


def pipeline(forward, travel):
    """Two microbatches through a0, the messages to b0, and what b0 makes of the first; in milliseconds."""
    return line(
        ("a0", Kind.FORWARD, "0F0", 0, forward),
        ("a0", Kind.FORWARD, "0F1", forward, 2 * forward),
        ("a0", Kind.SEND_F, "0SEND_F0", forward, forward + travel),
        ("b0", Kind.RECV_F, "1RECV_F0", 0, forward + travel),
        ("b0", Kind.FORWARD, "1F0", forward + travel, 2 * forward + travel),
    )


def test_each_kind_of_each_stage_has_its_mean():
    rows = action_errors(Plan.parse("a0[0:1] > b0[1:2] 2/2"), pipeline(8, 1), pipeline(10, 4))
    found = {(row.device, row.stage, row.action): row for row in rows}
    assert list(found) == [("a0", 0, "forward"), ("a0", 0, "message of activations"), ("b0", 1, "forward")]
    forward = found["a0", 0, "forward"]
    assert (forward.count, forward.predicted_s, forward.measured_s) == (2, pytest.approx(0.008), pytest.approx(0.01))
    assert forward.error == pytest.approx(-0.2)
    message = found["a0", 0, "message of activations"]
    assert (message.predicted_s, message.measured_s) == (pytest.approx(0.001), pytest.approx(0.004)), "from both ends on"


def test_an_exchange_counts_from_when_its_last_device_is_ready():
    def exchange(last_ready, end):
        return line(("a0", Kind.REDUCE, "0REDUCE0", 1, end), ("b0", Kind.REDUCE, "0REDUCE0", last_ready, end))

    rows = action_errors(Plan.parse("a0[0:2] 1/1 | b0[0:2] 1/1"), exchange(5, 10), exchange(5, 9))
    assert [(row.device, row.action) for row in rows] == [("a0", "gradient exchange"), ("b0", "gradient exchange")]
    assert all(row.predicted_s == pytest.approx(0.005) and row.error == pytest.approx(0.25) for row in rows)


def test_what_took_no_time_has_no_error():
    (row,) = action_errors(
        Plan.parse("a0[0:2] 1/1"), line(("a0", Kind.UPDATE, "0UPDATE", 0, 1)), line(("a0", Kind.UPDATE, "0UPDATE", 0, 0))
    )
    assert row.error is None
