"""The sample store: what is added is durable, what is torn is dropped, what is foreign is refused."""

import json

import pytest

from calibration.store import SampleStore, digest
from hetsim.errors import CostError


def test_what_was_added_is_there_on_the_next_start(tmp_path):
    SampleStore(tmp_path).add("k1", {"kind": "layers", "whole_s": [0.1, 0.2]})
    store = SampleStore(tmp_path)
    assert "k1" in store
    assert [row["whole_s"] for row in store] == [[0.1, 0.2]]


def test_a_torn_last_line_is_dropped_and_the_rest_kept(tmp_path):
    store = SampleStore(tmp_path)
    store.add("k1", {"kind": "layers"})
    store.add("k2", {"kind": "layers"})
    whole = store.path.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[1])):
        store.path.write_bytes(whole[:-cut])
        again = SampleStore(tmp_path)
        assert "k1" in again
        assert "k2" not in again
        again.add("k3", {"kind": "layers"})
        assert {row["key"] for row in SampleStore(tmp_path)} == {"k1", "k3"}


@pytest.mark.parametrize("line", ["not json", "[]", "{}", json.dumps({"schema_version": 99, "key": "k"})])
def test_a_foreign_line_is_named(tmp_path, line):
    SampleStore(tmp_path).add("k1", {})
    path = tmp_path / "samples.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(CostError, match=r"samples\.jsonl:2:1"):
        SampleStore(tmp_path)


def test_a_digest_depends_on_content_not_on_order():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
