"""The sample store: what is added is durable, what is torn is dropped, what is foreign is refused."""

import json

import pytest

from calibration.store import SampleStore, digest
from hetsim.errors import CostError

POINT = {
    "kind": "layers", "network": "net", "network_key": "n", "device_type": "cpu", "microbatch": 4, "in_flight": 1, "rounds": 3,
    "fingerprint": {}, "at_s": 1.0, "layers": {"a": {"forward_s": [0.1], "backward_s": [0.2], "update_s": [0.0]}},
    "marked_s": [0.3], "marked_update_s": [0.0], "whole_s": [], "whole_update_s": [], "accumulation_s": [], "canary_s": [0.01],
}  # fmt: skip


def test_what_was_added_is_there_on_the_next_start(tmp_path):
    SampleStore(tmp_path).add("k1", {**POINT, "whole_s": [0.1, 0.2]})
    store = SampleStore(tmp_path)
    assert "k1" in store
    assert [row["whole_s"] for row in store] == [[0.1, 0.2]]


def test_a_torn_last_line_is_dropped_and_the_rest_kept(tmp_path):
    store = SampleStore(tmp_path)
    store.add("k1", POINT)
    store.add("k2", POINT)
    whole = store.path.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[1])):
        store.path.write_bytes(whole[:-cut])
        again = SampleStore(tmp_path)
        assert "k1" in again
        assert "k2" not in again
        again.add("k3", POINT)
        assert {row["key"] for row in SampleStore(tmp_path)} == {"k1", "k3"}


@pytest.mark.parametrize("line", ["not json", "[]", "{}", json.dumps({"schema_version": 99, "key": "k"})])
def test_a_foreign_line_is_named(tmp_path, line):
    SampleStore(tmp_path).add("k1", POINT)
    path = tmp_path / "samples.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(CostError, match=r"samples\.jsonl:2:1"):
        SampleStore(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": None}, {"network": 1}, {"microbatch": 0}, {"fingerprint": None}, {"canary_s": []}, {"canary_s": [-1.0]},
        {"marked_s": ["0.3"]}, {"layers": {"a": {"forward_s": [0.1]}}}, {"layers": []}, {"at_s": True},
        {"kind": "links", "transfers": [{"operation": "send_recv", "group": ["a"], "size_bytes": 1, "seconds": []}]},
        {"kind": "check", "canary_s": [True]},
    ],
)  # fmt: skip
def test_a_sample_that_no_calibration_writes_is_named(tmp_path, change):
    SampleStore(tmp_path).add("k1", POINT)
    row = {"schema_version": 1, "key": "k2", **POINT} | change
    if change == {"kind": None}:
        del row["kind"]
    path = tmp_path / "samples.jsonl"
    path.write_text(path.read_text() + json.dumps(row) + "\n")
    with pytest.raises(CostError, match=r"samples\.jsonl:2:1"):
        SampleStore(tmp_path)
    path.write_text(
        path.read_text().replace(json.dumps(row), json.dumps(row).replace("0.3", "NaN").replace("-1.0", "1e999"))
    )
    with pytest.raises(CostError, match=r"samples\.jsonl:2:1"):
        SampleStore(tmp_path)


def test_a_digest_depends_on_content_not_on_order():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
