"""The report of two hosts by hand, and how benchmarks put what they measured into a document."""

import pytest

from benchmarks.hosts_live import report
from benchmarks.publish import publish
from hetsim.errors import InputError


def case(plan, predicted, measured, *, chosen=False, network="conv"):
    return {
        "network": network,
        "plan": plan,
        "chosen": chosen,
        "predicted_step_s": predicted,
        "measured_step_s": measured,
        "error": predicted / measured - 1,
        "inside_interval": abs(predicted / measured - 1) < 0.05,
    }


def test_each_link_has_its_figures():
    near = [case("a | b", 0.098, 0.1, chosen=True), case("a", 0.18, 0.2), case("b", 0.4, 0.4)]
    far = [case("a | b", 0.3, 0.3), case("a", 0.2, 0.2), case("b", 0.4, 0.4, chosen=True)]
    text = report({"1gbit": near, "200mbit": far})
    assert "| 1 Gbit/s | 3 | 2.0% | 10.0% | 67% | 1 of 1 |" in text
    assert "| 200 Mbit/s | 3 | 0.0% | 0.0% | 100% | 0 of 1 |" in text
    assert "| 1 Gbit/s | conv | yes | `a \\| b` | 98.0 ms | 100 ms | -2.0% | yes |" in text


def test_what_is_published_stands_in_its_place_alone(tmp_path):
    document = tmp_path / "doc.md"
    document.write_text(
        "# One\n\n<!-- one: begin -->\nold\n<!-- one: end -->\n\n<!-- two: begin -->\nstays\n<!-- two: end -->\n"
    )
    publish(document, "one", "new\nlines\n")
    assert document.read_text() == (
        "# One\n\n<!-- one: begin -->\nnew\nlines\n<!-- one: end -->\n\n<!-- two: begin -->\nstays\n<!-- two: end -->\n"
    )
    with pytest.raises(InputError, match="no place for three"):
        publish(document, "three", "")
    publish(None, "one", "nowhere")
