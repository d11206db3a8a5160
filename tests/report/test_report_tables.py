"""Tables say everything at any width and nothing in colour outside a terminal; sentences say what the figures say."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from hetsim.report.result import evidence_document, plans_document
from hetsim.report.rows import BatchCurve, CandidateRow, CaseRow, CostSummary, DeviceRow, speedup
from hetsim.report.tables import PLAIN_WIDTH, candidate_tables, case_tables, device_table, print_tables
from hetsim.report.text import answer, format_interval, format_speedup, regret, tied_with_best

LONG_PLAN = " | ".join(f"node{i}.gpu0[0:14] > node{i}.gpu1[14:30] 16/4" for i in range(4)) + "; 1f1b"
CANDIDATES = (
    CandidateRow(
        "gpt-mini", 1, LONG_PLAN, 0.199, 0.192, 0.206, 2.27, 0.613, "node0.gpu1", "compute on node0.gpu1 (93%)", 1.0
    ),
    CandidateRow("gpt-mini", 2, "a[0:30] 64/1", 0.203, 0.197, 0.22, chance=0.3),
    CandidateRow("gpt-mini", 3, "b[0:30] 64/1", 0.241, 0.237, 0.246, chance=0.005),
)
DEVICES = (DeviceRow("gpt-mini", "chosen", "predicted", "node0.gpu0", 0.9, 0.06, 0.04),)


def printed(*parts: Any) -> str:
    stream = io.StringIO()
    print_tables(*parts, file=stream)
    return stream.getvalue()


@pytest.mark.parametrize("columns", [None, "40", "80", "100", "200"])
def test_nothing_is_lost_at_any_width(
    cases: tuple[CaseRow, ...], columns: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    text = printed(*case_tables(cases), *candidate_tables(CANDIDATES), device_table(DEVICES))
    assert max(map(len, text.splitlines())) <= int(columns or PLAIN_WIDTH)
    assert text.replace("\n", "").isprintable(), "colour codes"
    letters = "".join(text.split())
    values = ["452 ms", "440–469 ms", "466 ms", "-3.0 %", "2.3×", "1.24–1.40 s", "61% (node0.gpu1)", "90%", "6%", "4%"]
    words = [row.name for row in cases] + ["compute on node0.gpu1 (93%)", "cannot be told apart", "chosen", "predicted"]
    for word in values + words:
        assert word.replace(" ", "") in letters, word
    folded = {piece for plan in (LONG_PLAN, *(row.plan for row in cases)) for piece in plan.split()}
    assert all(piece in letters for piece in folded)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_an_encoding_that_lacks_our_signs_gets_others(cases: tuple[CaseRow, ...], encoding: str) -> None:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding=encoding)
    print_tables(*case_tables(cases), "10 µs – größe", file=stream)
    stream.flush()
    text = buffer.getvalue().decode(encoding)
    assert ("440–469 ms" if encoding == "utf-8" else "440-469 ms") in text
    assert {"ascii": "10 us - gr??e", "latin-1": "10 us - größe", "utf-8": "10 µs – größe"}[encoding] in text


def test_a_plan_that_fits_stays_on_its_row(cases: tuple[CaseRow, ...]) -> None:
    (line,) = (line for line in printed(*case_tables(cases[:4])).splitlines() if "pipeline" in line)
    for cell in ("fast0[0:6] > slow0[6:9] 64/4; 1f1b", "243 ms", "233–252 ms", "261 ms", "-6.9 %", "no", "1.8×"):
        assert cell in line


def test_a_terminal_gets_the_chosen_plan_in_bold_and_marked(cases: tuple[CaseRow, ...]) -> None:
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, width=150, color_system="standard").print(*case_tables(cases[:4]))
    (line,) = (line for line in stream.getvalue().splitlines() if "chosen" in line)
    assert "\x1b[1m* chosen" in line


def test_tables_do_not_load_what_is_heavy() -> None:
    code = (
        "import sys, hetsim.report.tables as t, hetsim.report.text, hetsim.report.result, hetsim.report.trace, hetsim.runs\n"
        "t.print_tables(t.device_table([]))\n"
        "sys.exit(' '.join({'torch', 'pandas', 'matplotlib', 'scipy', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_speedup_is_of_measured_times_where_both_have_one(cases: tuple[CaseRow, ...]) -> None:
    assert speedup(cases, cases[1]) == pytest.approx(0.466 / 0.204)
    assert speedup(cases, cases[3]) == pytest.approx(0.452 / 0.241), "not measured: of the predictions"
    assert speedup(cases, cases[5]) == pytest.approx(1.36 / 0.69), "each network has its own even split"
    assert speedup(cases[1:4], cases[1]) is None


def test_error_is_relative_to_the_measurement(cases: tuple[CaseRow, ...]) -> None:
    assert cases[1].error == pytest.approx(-0.0245, abs=1e-4)
    assert (cases[1].inside, cases[2].inside, cases[3].inside, cases[3].error) == (True, False, None, None)


def test_the_answer_of_a_measured_run(cases: tuple[CaseRow, ...]) -> None:
    assert answer(cases[:4]) == (
        "The chosen plan is 2.3 times as fast as the even split: 204 ms instead of 466 ms a step. "
        "The prediction was 199 ms, 2.5 % below the measurement, which lies inside the 90 % interval of 192–206 ms."
    )
    assert regret(cases[:4]) == "It was also the fastest of the 3 plans that were measured."


def test_the_answer_before_anything_is_measured(cases: tuple[CaseRow, ...]) -> None:
    even, chosen, *_ = (replace(case, measured_s=None) for case in cases)
    assert answer([even, chosen]) == (
        "The chosen plan is 2.3 times as fast as the even split: 199 ms instead of 452 ms a step. "
        "This is a prediction (90 % interval 192–206 ms); it has not been measured."
    )
    assert regret([even, chosen]) == ""
    assert answer([chosen]).startswith("The chosen plan takes 199 ms a step.")
    assert answer([even]) == "No plan was chosen."


def test_the_answer_does_not_flatter(cases: tuple[CaseRow, ...]) -> None:
    even, chosen, other, _ = cases[:4]
    assert "is not faster than the even split: 500 ms instead of 466 ms" in answer([even, replace(chosen, measured_s=0.5)])
    assert "2.04 times" not in answer([even, replace(chosen, measured_s=0.45)])
    assert "1.04 times as fast" in answer([even, replace(chosen, measured_s=0.45)])
    assert answer([replace(even, chosen=True)]).startswith("The even split is the best plan found: 466 ms a step.")
    slower = [even, chosen, replace(other, measured_s=0.2)]
    assert regret(slower) == 'Of the 3 plans that were measured, "pipeline" was faster: the choice costs 2.0 %.'
    assert "outside the 90 % interval" in answer([even, replace(chosen, measured_s=0.25)])


def test_numbers_for_people() -> None:
    assert format_interval(0.192, 0.206) == "192–206 ms"
    assert format_interval(0.99, 1.02) == "0.99–1.02 s"
    assert format_interval(9.1e-6, 12.34e-6) == "9.1–12.3 µs"
    assert format_interval(0, 0) == "0–0 ns"
    assert [format_speedup(x) for x in (1, 2.27, 12.3, None)] == ["1.0×", "2.3×", "12×", "–"]


def test_plans_are_tied_where_they_may_be_as_fast_as_the_first() -> None:
    assert tied_with_best(CANDIDATES) == (1, 2)
    assert tied_with_best((CANDIDATES[0], CANDIDATES[2])) == ()
    assert tied_with_best(()) == ()


def test_json_keeps_every_field_of_every_row() -> None:
    curves = (BatchCurve("n", "fast", (1, 4), (0.1, 0.25)),)
    costs = (CostSummary("n", "t.csv", ("fast",), 9, {"measured": 72}, 4, ("a note",)),)
    document = json.loads(json.dumps(evidence_document(DEVICES, curves, costs), allow_nan=False))
    assert [DeviceRow(**row) for row in document["devices"]] == list(DEVICES)
    assert document["curves"] == [{"network": "n", "device_type": "fast", "microbatches": [1, 4], "seconds": [0.1, 0.25]}]
    assert document["costs"][0]["points"] == {"measured": 72}
    plans = json.loads(json.dumps(plans_document(CANDIDATES)))
    assert [CandidateRow(**row) for row in plans["candidates"]] == list(CANDIDATES)
