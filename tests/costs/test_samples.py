"""Raw samples, read beside whoever writes them: nothing is changed, and what is no sample is named by its place."""

import json

import pytest

from hetsim.costs.samples import differences, digest, fingerprints_of, read_samples
from hetsim.errors import CostError

PRINT = {"torch": "2.13.0", "threads": 1, "environment": {"OMP_NUM_THREADS": "1"}}


def line(**changes):
    row = {"schema_version": 1, "key": "k", "kind": "layers", "network": "n", "device_type": "V100", "fingerprint": PRINT}
    return json.dumps(row | changes) + "\n"


def test_a_file_that_is_written_to_is_left_as_it_is(tmp_path):
    path = tmp_path / "samples.jsonl"
    content = line() + line(key="l", kind="links", fingerprint={"V100": PRINT}) + line()[:40]
    path.write_text(content)
    first, links = read_samples(path)
    assert (first.line, first.key, first.network, first.device_type, first.fingerprint) == (1, "k", "n", "V100", PRINT)
    assert (links.kind, links.network, links.fingerprint) == ("links", "", None)
    assert path.read_text() == content


@pytest.mark.parametrize("content", [None, ""])
def test_nothing_is_no_samples(tmp_path, content):
    if content is not None:
        (tmp_path / "samples.jsonl").write_text(content)
    assert read_samples(tmp_path / "samples.jsonl") == ()


def test_the_latest_fingerprint_comes_last_and_each_once(tmp_path):
    other = PRINT | {"torch": "2.12.0"}
    (tmp_path / "s").write_text(line() + line(fingerprint=other) + line() + line(network="m", fingerprint=other))
    assert fingerprints_of(read_samples(tmp_path / "s"), "n") == {"V100": (other, PRINT)}


def test_all_lines_that_are_no_samples_are_named(tmp_path):
    path = tmp_path / "s"
    bad = [
        '{"schema_version": 1, "key":\n',
        "[1, 2]\n",
        line(schema_version=2),
        line(schema_version=True),
        line(key=3),
        line(fingerprint=[]),
        line().replace('"threads": 1', '"threads": NaN'),
        line().replace('"threads": 1', '"threads": 1e999'),
        line().replace('"threads": 1', f'"threads": {"9" * 5000}'),
        "[" * 100_000 + "\n",
    ]
    path.write_text(line() + "".join(bad) + line())
    with pytest.raises(CostError) as caught:
        read_samples(path)
    assert [p.where.removeprefix(f"{path}:").split(":")[0] for p in caught.value.problems] == [str(i) for i in range(2, 12)]
    assert "is not JSON" in caught.value.problems[0].what
    assert "got schema_version 2, expected 1" in caught.value.problems[2].what


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n", b"{torn", b"\x00\x01"])
def test_a_foreign_file_is_refused(tmp_path, content):
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(CostError):
        read_samples(tmp_path / "s")


def test_differences_name_nested_keys_and_both_values():
    other = {"torch": "2.12.0", "threads": 1, "environment": {"OMP_NUM_THREADS": "2"}, "driver": "550"}
    assert differences(PRINT, other) == [
        ("torch", "2.13.0", "2.12.0"),
        ("environment.OMP_NUM_THREADS", "1", "2"),
        ("driver", "nothing", "550"),
    ]
    assert differences(PRINT, dict(reversed(PRINT.items()))) == []
    assert digest(PRINT) == digest(dict(reversed(PRINT.items()))) != digest(other)
