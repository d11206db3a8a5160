"""Links that were timed for some networks of a scenario, and the commands that look at others."""

import pytest

from calibration.store import SampleStore
from hetsim.cli.session import Session

SCENARIO = """\
hetsim: 1
name: pair
networks:
  small: {zoo: mlp, features: 8, width: 8, depth: 2}
  large: {zoo: mlp, features: 64, width: 64, depth: 4}
training: {global_batch: 8}
cluster:
  device_types: {one: {backend: cpu}, other: {backend: cpu, isa: avx2}}
  nodes: [{name: box, devices: {one: {cores: [[0]]}, other: {cores: [[0]]}}, link: {latency: 10 us, bandwidth: 10 GB/s}}]
"""


@pytest.fixture
def session(tmp_path):
    path = tmp_path / "pair.yaml"
    path.write_text(SCENARIO)
    return lambda *networks: Session(path, networks, tmp_path / "costs").calibration


def keep_links(calibration, seconds, sizes=None):
    """What a calibration writes of links, whose every message took `seconds`."""
    sizes = sizes or calibration._link_sizes()
    rows = [
        {"operation": "send_recv", "group": ["one0", "other0"], "size_bytes": size, "seconds": [seconds] * 3}
        for size in sizes["send_bytes"]
    ]
    about = {"kind": "links", "places": calibration._places(), "sizes": sizes, "fingerprint": calibration.fingerprints}
    SampleStore(calibration._directory).add(f"links {seconds}", {**about, "transfers": rows})


def messages_s(calibration):
    return {row.seconds for row in calibration.measured("small").table.transfers}


def test_links_that_were_timed_for_all_networks_serve_each_of_them(session):
    keep_links(session("small", "large"), 1e-3)
    assert not session("small", "large").missing_links()
    assert not session("small").missing_links()
    assert messages_s(session("small")) == {1e-3}


def test_a_network_with_other_sizes_wants_them_timed_too_and_the_latest_timing_counts(session):
    keep_links(session("small"), 1e-3)
    assert not session("small").missing_links()
    assert session("large").missing_links()
    keep_links(session("large"), 2e-3)
    assert not session("small", "large").missing_links()
    smallest = min(session("small").measured("small").table.transfers, key=lambda row: row.size_bytes)
    assert smallest.seconds == 2e-3


def test_links_between_other_places_do_not_count(session, tmp_path):
    keep_links(session("small"), 1e-3)
    (tmp_path / "pair.yaml").write_text(SCENARIO.replace("other: {cores: [[0]]}", "other: {cores: [[1]]}"))
    assert session("small").missing_links()
    assert messages_s(session("small")) == set()
