"""Run directories: whole or not there, and refused when they are not what they say."""

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsim.errors import NoRoomError, RunDirectoryError, RunError
from hetsim.runs import MANIFEST, RunDirectory, RunWriter, slug
from hetsim.schedule import Action, Kind
from hetsim.timeline import Span, Timeline
from hetsim.timeline_file import COLUMNS, HEAD, read_timeline, write_timeline

NOW = datetime(2026, 11, 23, 5, 14, 22, tzinfo=UTC)
TIMELINE = Timeline.of([Span("fast0", Kind.FORWARD, "0F0", 0, 81_250_001), Span("slow0", Kind.UPDATE, "1UPDATE", 3, 9)])


def begin(base: Path, **changes: object) -> RunWriter:
    given = {"seed": 7, "argv": ["hetsim", "plan", "office.yaml"], "now": NOW, **changes}
    return RunDirectory.create(base, "Office / Mix", "name: office\n", **given)  # type: ignore[arg-type]


def finished(base: Path) -> Path:
    with begin(base) as run:
        run.write_json("result.json", {"schema_version": 1, "networks": []})
        run.write_timeline("chosen.predicted", TIMELINE)
        run.write_text("report.html", "<!doctype html>")
        run.log("planned")
    return run.path


def test_a_finished_run_opens_and_gives_back_what_was_written(tmp_path: Path) -> None:
    table = tmp_path / "costs.csv"
    table.write_text("x")
    with begin(tmp_path / "runs", inputs=[table]) as run:
        run.write_json("result.json", {"b": 1, "a": [0.1]})
        run.write_timeline("chosen.predicted", TIMELINE)
    assert re.fullmatch(r"20261123T051422Z-office-mix-[0-9a-f]{6}", run.path.name)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [run.path.name]
    opened = RunDirectory.open(run.path)
    assert opened.read_json("result.json") == {"b": 1, "a": [0.1]}
    assert opened.timelines == ("chosen.predicted",)
    assert opened.timeline("chosen.predicted") == TIMELINE
    assert (run.path / "scenario.yaml").read_text() == "name: office\n"
    manifest = opened.manifest
    assert manifest.scenario == "Office / Mix"
    assert manifest.created_utc == "2026-11-23T05:14:22Z"
    assert (manifest.seed, manifest.argv) == (7, ("hetsim", "plan", "office.yaml"))
    assert manifest.versions["simpy"] == version("simpy")
    assert manifest.host.cores == os.cpu_count()
    assert manifest.inputs[0].sha256 == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # sha256 of "x"
    assert {row.path for row in manifest.outputs} == {"scenario.yaml", "result.json", "timelines/chosen.predicted.csv"}


def test_the_name_tells_the_question_apart(tmp_path: Path) -> None:
    hashes = []
    for seed in (1, 1, 2):
        with begin(tmp_path, seed=seed) as run:
            pass
        hashes.append(run.path.name)
    assert hashes[1] == f"{hashes[0]}-2"
    assert hashes[2].rpartition("-")[2] != hashes[0].rpartition("-")[2]


def test_the_same_run_writes_the_same_bytes(tmp_path: Path) -> None:
    first, second = finished(tmp_path / "a"), finished(tmp_path / "b")
    assert first.name == second.name
    for name in ("result.json", "scenario.yaml", "timelines/chosen.predicted.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_versions_are_told_without_importing_the_packages() -> None:
    heavy = "{'torch', 'pandas', 'matplotlib'} & set(sys.modules)"
    code = f"import sys, hetsim.runs as runs; runs._versions(); runs.Host.here(); print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_failed_run_keeps_results_and_is_marked(tmp_path: Path) -> None:
    run = begin(tmp_path)
    run.write_timeline("chosen.measured", TIMELINE)
    with pytest.raises(KeyboardInterrupt), run:
        raise KeyboardInterrupt
    (left,) = tmp_path.iterdir()
    assert left.name == f"{run.path.name}.partial"
    assert "KeyboardInterrupt" in (left / "log.txt").read_text()
    with pytest.raises(RunDirectoryError, match="did not finish, expected a finished one"):
        RunDirectory.open(left)


def test_a_failed_run_without_results_leaves_nothing(tmp_path: Path) -> None:
    run = begin(tmp_path)
    run.log("planning")
    with pytest.raises(ZeroDivisionError), run:
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_only_a_marked_folder(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from hetsim.runs import RunDirectory\n"
        "with RunDirectory.create(Path(sys.argv[1]), 'office', '', seed=0, argv=[]) as run:\n"
        "    run.write_text('result.json', '{}'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".partial")
    with pytest.raises(RunDirectoryError, match="did not finish"):
        RunDirectory.open(left)


@contextmanager
def disk_of(size_bytes: int) -> Iterator[None]:
    """Inside the block no file grows beyond so many bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill_up(base: Path, size_bytes: int, error: Exception | None = None) -> None:
    """A run whose disk is full from some moment on, and that fails then, or comes to its end."""
    with ExitStack() as full, begin(base) as run:
        run.write_json("result.json", {})
        full.enter_context(disk_of(size_bytes))
        if error is not None:
            raise error


def test_a_disk_that_is_full_at_once_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    with disk_of(4), pytest.raises(NoRoomError, match=r"cannot be written: File too large\. Make room there"):
        begin(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [None, OSError(errno.ENOSPC, "No space left on device")])
def test_a_disk_that_fills_up_is_told_and_the_run_is_not_finished(tmp_path: Path, error: Exception | None) -> None:
    with pytest.raises(NoRoomError, match=r"cannot be written: (File too large|No space left on device)\. Make room"):
        fill_up(tmp_path, 64, error)
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]


def test_a_full_disk_does_not_hide_why_the_run_failed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="rank 0 died"):
        fill_up(tmp_path, 4, RunError("rank 0 died"))
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]


def test_all_damage_is_told_at_once(tmp_path: Path) -> None:
    path = finished(tmp_path)
    (path / "result.json").write_text("{}\n")
    (path / "timelines/chosen.predicted.csv").unlink()
    (path / "report.html").write_text("rendered anew")
    with pytest.raises(RunDirectoryError) as caught:
        RunDirectory.open(path)
    places = [Path(problem.where).name for problem in caught.value.problems]
    assert places == ["result.json", "chosen.predicted.csv"]
    assert "changed after the run" in caught.value.problems[0].what
    assert "is missing" in caught.value.problems[1].what


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "manifest.json: there is no such file"),
        ("{", "manifest.json:1:2: is not JSON"),
        ("[]", 'expected an object with "format": "hetsim run"'),
        ('{"format": "other"}', 'expected an object with "format": "hetsim run"'),
        ('{"format": "hetsim run", "schema_version": 99}', "got schema_version 99, expected 1"),
        ('{"format": "hetsim run", "schema_version": 1}', "does not have the entries of a manifest: 'scenario'"),
    ],
)
def test_a_foreign_folder_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(RunDirectoryError, match=re.escape(message)):
        RunDirectory.open(tmp_path)


DIGEST_FAULTS = [
    *(("path", wrong, "does not have the entries of a manifest") for wrong in (None, 3, [], {})),
    *(("sha256", wrong, "does not have the entries of a manifest") for wrong in (None, 3, {})),
    *(("path", wrong, "is missing, expected") for wrong in ("x" * 300, "a\0b", "nowhere")),
]


@pytest.mark.parametrize(("key", "wrong", "said"), DIGEST_FAULTS)
def test_a_manifest_that_lists_no_files_is_refused(tmp_path: Path, key: str, wrong: object, said: str) -> None:
    path = finished(tmp_path) / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["outputs"][0][key] = wrong
    path.write_text(json.dumps(manifest))
    with pytest.raises(RunDirectoryError, match=said):
        RunDirectory.open(path.parent)


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000])
def test_json_that_python_cannot_hold_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(RunDirectoryError, match="is no JSON that can be read"):
        RunDirectory.open(tmp_path)


def test_a_missing_folder_input_or_timeline_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="nowhere: there is no such folder"):
        RunDirectory.open(tmp_path / "nowhere")
    with pytest.raises(RunDirectoryError, match=r"lost\.csv: cannot be read: No such file"):
        begin(tmp_path, inputs=[tmp_path / "lost.csv"])
    run = RunDirectory.open(finished(tmp_path))
    with pytest.raises(RunDirectoryError, match=r'no timeline "x"; it has chosen\.predicted'):
        run.timeline("x")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="cannot make a run directory here"):
        begin(tmp_path / "file")


def test_numbers_that_json_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"), begin(tmp_path) as run:
        run.write_json("result.json", {"step_s": float("nan")})
    assert list(tmp_path.iterdir()) == []


names = st.text("ab0é_.-/", min_size=1, max_size=12)
actions = st.builds(Action, st.integers(0, 99), st.sampled_from(Kind), st.integers(0, 999))


@st.composite
def spans(draw: st.DrawFn) -> Span:
    action = draw(actions)
    start = draw(st.integers(-(10**9), 10**18))
    return Span(draw(names), action.kind, str(action), start, start + draw(st.integers(0, 10**18)))


@given(st.lists(spans(), max_size=8))
def test_a_timeline_file_gives_back_every_nanosecond(tmp_path_factory: pytest.TempPathFactory, rows: list[Span]) -> None:
    path = tmp_path_factory.mktemp("timeline") / "t.csv"
    timeline = Timeline.of(rows)
    write_timeline(path, timeline)
    assert read_timeline(path) == timeline


def test_a_timeline_file_tells_every_fault_and_its_place(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_timeline(path, TIMELINE)
    rows = ["fast0,F,0F0,0", "fast0,B,0F0,0,1", ",F,0F0,0,1", "fast0,F,zero,0,1", "fast0,F,0F0,1.5,x", "fast0,F,0F0,9,8"]
    path.write_text(path.read_text() + "\n".join(rows) + "\n")
    with pytest.raises(RunDirectoryError) as caught:
        read_timeline(path)
    found = [(problem.where.removeprefix(f"{path}:"), problem.what) for problem in caught.value.problems]
    assert [place for place, _ in found] == ["5:1", "6:7", "7:1", "8:9", "9:13", "9:17", "10:15"]
    assert found[0][1].startswith("got 4 fields, expected 5")
    assert found[1][1] == 'got kind "B", expected "F" as action 0F0 says'
    assert found[5][1] == 'got "x", expected whole nanoseconds'


def test_a_foreign_timeline_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with pytest.raises(RunDirectoryError, match="there is no such file"):
        read_timeline(path)
    for content, message in (
        ("", "t.csv:1:1: the file is empty"),
        (f"{HEAD}\n", 't.csv:2:1: got "the end of the file", expected "device,kind'),
        ("device\n", 't.csv:1:1: got "device", expected "# hetsim'),
        (f"{HEAD}\nx\n", 't.csv:2:1: got "x", expected "device,kind'),
    ):
        path.write_text(content)
        with pytest.raises(RunDirectoryError, match=re.escape(message)):
            read_timeline(path)
    path.write_bytes(b"\xff")
    with pytest.raises(RunDirectoryError, match="got the byte 0xff, expected text in UTF-8"):
        read_timeline(path)
    path.write_text("\n".join([HEAD, ",".join(COLUMNS)] + ["x"] * 30))
    with pytest.raises(RunDirectoryError, match="and 10 more faults"):
        read_timeline(path)


def test_any_label_becomes_a_file_name() -> None:
    assert slug("vgg: batch split by peak FLOP/s, 50 %") == "vgg-batch-split-by-peak-flop-s-50"
    assert slug("größe_1") == "größe-1"


def test_manifest_is_plain_json(tmp_path: Path) -> None:
    content = json.loads((finished(tmp_path) / MANIFEST).read_text())
    assert content["format"] == "hetsim run"
    assert content["schema_version"] == 1
    assert [row["path"] for row in content["outputs"]] == [
        "log.txt", "report.html", "result.json", "scenario.yaml", "timelines/chosen.predicted.csv",
    ]  # fmt: skip
