"""The report of the live matrix, by hand; and a round through its file."""

import pytest

from benchmarks.matrix_live import CROWDED, Case, draw, joined, read_cases, report, summary, write_cases
from hetsim.report.rows import EVEN_SPLIT


def case(kind, predicted, measured, network="gpt", cluster="full + avx2", plan=None, again=1.0):
    return Case(
        cluster, network, kind, plan or f"{kind} of {network}", predicted, predicted * 0.9, predicted * 1.1, measured,
        measured * again, predicted * 1.01, "{}",
    )  # fmt: skip


ROWS = [
    case(EVEN_SPLIT, 0.40, 0.40, again=1.02),
    case("uneven data parallel", 0.20, 0.21, plan="a", again=0.99),
    case("chosen", 0.20, 0.21, plan="a", again=0.99),
    case("1f1b, 4 microbatches", 0.30, 0.25),
]


def test_a_plan_that_has_two_names_counts_once():
    (row,) = summary("all", ROWS)
    assert row.startswith("| all | 3 | 4.8% | 20.0% | 20.0% |")
    assert "| 67% | 1.000 |" in row, "the last one is outside its interval; the order is right"


def test_regret_and_gain_are_of_measured_steps():
    text = report(ROWS)
    assert "| full + avx2 | gpt | `a` | 0.0% | 1.90–1.96 × |" in text
    worse = [*ROWS, case("gpipe, 8 microbatches", 0.3, 0.2)]
    assert "| `a` | 5.0% |" in report(worse)


def test_devices_that_share_cores_are_told_apart():
    shared = next(iter(CROWDED))
    text = report([*ROWS, case(f"{shared}, plan 1", 0.5, 0.5, cluster=shared)])
    assert "| pairs of cores | 3 |" in text
    assert "| devices that share cores | 1 |" in text


def test_cases_come_back_from_their_file_and_are_drawn(tmp_path):
    write_cases(tmp_path / "cases.csv", ROWS)
    again = read_cases(tmp_path / "cases.csv")
    assert again == ROWS
    draw(again, tmp_path / "matrix.svg")
    assert "measured, ms" in (tmp_path / "matrix.svg").read_text() or (tmp_path / "matrix.svg").stat().st_size > 5_000


def test_an_error_is_negative_where_the_prediction_was_too_fast():
    assert case("x", 0.9, 1.0).error == pytest.approx(-0.1)


def test_what_is_measured_again_replaces_its_network_alone():
    shared = next(iter(CROWDED))
    old = [case("x", 0.5, 0.5, cluster=shared), case("x", 0.9, 1.0), case("x", 0.9, 1.0, network="mlp")]
    new = [case("x", 0.8, 1.0)]
    assert joined(old, new) == [old[2], new[0], old[0]], "in the order of the clusters"
