"""A timeline as a data frame holds what its own sums say."""

import pytest

from hetsim.schedule import Kind
from hetsim.timeline import Span, Timeline


def test_a_frame_has_a_row_a_span_and_adds_up_to_the_busy_times():
    timeline = Timeline.of(
        [
            Span("b", Kind.FORWARD, "0F0", 0, 4_000_000),
            Span("a", Kind.BACKWARD, "0B0", 1_000_000, 3_500_000),
            Span("a", Kind.FORWARD, "0F0", 0, 1_000_000),
            Span("a", Kind.REDUCE, "0REDUCE0", 2_000_000, 9_000_000),
        ]
    )
    frame = timeline.to_frame()
    assert list(frame.columns) == ["device", "lane", "action", "kind", "start_s", "end_s"]
    assert list(frame["action"]) == [span.action for span in timeline.spans]
    computing = frame[frame["lane"] == "compute"]
    busy_s = (computing["end_s"] - computing["start_s"]).groupby(computing["device"]).sum()
    assert busy_s.to_dict() == pytest.approx({device: timeline.busy_s(device) for device in timeline.devices})
    assert frame["end_s"].max() == timeline.step_s
