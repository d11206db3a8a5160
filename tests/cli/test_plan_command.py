"""`hetsim plan`: limits of time, what plans are ranked by, and hybrids found where they are worth it."""

import json

import pytest

SCENARIO = """\
hetsim: 1
name: pairs
networks:
  net:
    layers:
      - {name: a, parameters: 1000000, output: 4 KiB, saved: 1 MiB}
      - {name: b, parameters: 1000000, output: 4 KiB, saved: 1 MiB}
      - {name: c, parameters: 1000000, output: 4 KiB, saved: 1 MiB}
      - {name: d, parameters: 1000000, output: 4 KiB, saved: 1 MiB}
    costs: costs.csv
training: {global_batch: 64, optimizer: sgd}
cluster:
  device_types:
    old: {memory: 40 MiB}
    new: {memory: 44 MiB}
  nodes:
    - {name: one, devices: {old: 2, new: 2}, link: {latency: 10 us, bandwidth: 12 GB/s}}
  network: {latency: 10 us, bandwidth: 10 GB/s}
search: {microbatches: [1, 8, 64]}
"""

COSTS = "# hetsim costs 1\ndevice_type,layer,microbatch,forward_s,backward_s,update_s,spread\n" + "".join(
    f"{kind},{layer},{m},{m * seconds / 3},{m * seconds * 2 / 3},0.0001,{spread}\n"
    for kind, seconds, spread in (("old", 0.002, 0.3), ("new", 0.001, 0.01))
    for layer in "abcd"
    for m in (1, 64)
)


@pytest.fixture
def scenario(hetsim):
    (hetsim.folder / "s.yaml").write_text(SCENARIO)
    (hetsim.folder / "costs.csv").write_text(COSTS)
    return "s.yaml"


def network_of(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["networks"][0]


def test_a_hybrid_is_found_where_no_device_holds_the_network(hetsim, scenario):
    """Four layers of 4 MB take 48 MB with gradients and momentum; two unlike devices hold them together, twice."""
    found = network_of(hetsim("plan", scenario, "--format", "json"))
    assert found["chosen"].count("|") == 1
    assert found["chosen"].count(">") == 2
    assert 0 <= found["gap"] < 0.2
    assert not found["ended_early"]
    assert any("hybrid" in sentence for sentence in found["explanation"])


def test_a_search_without_time_has_the_best_so_far(hetsim, scenario):
    found = network_of(hetsim("plan", scenario, "--time-limit", "0", "--format", "json"))
    assert found["ended_early"]
    assert found["lower_bound_s"] <= found["step_s"]
    assert "ended early" in hetsim("plan", scenario, "--time-limit", "0").stdout


def test_the_careful_rank_by_the_ninetieth_percentile(hetsim, scenario):
    bold, careful = (
        json.loads(hetsim("plan", scenario, "--risk", risk, "--format", "json").stdout) for risk in ("median", "p90")
    )
    assert {row["plan"] for row in bold["candidates"]} == {row["plan"] for row in careful["candidates"]}
    assert "90th percentile" in careful["networks"][0]["explanation"][-1]
    assert careful["networks"][0]["chosen"] == careful["candidates"][0]["plan"]


def test_nobody_is_told_what_they_did_not_ask_for(hetsim, scenario):
    done = hetsim("plan", scenario, "--risk", "p99")
    assert done.returncode == 2
    assert "p90" in done.stderr


def test_the_run_has_a_picture_of_the_chosen_plan_and_tells_of_the_corners(hetsim, scenario):
    found = network_of(hetsim("plan", scenario, "--format", "json"))
    assert [row["name"] for row in found["corners"]] == ["best on one device type", "best pipeline"]
    assert all(row["step_s"] >= found["step_s"] for row in found["corners"])
    (picture,) = (hetsim.folder / "runs").glob("*/figures/net-plan.svg")
    drawn = picture.read_text(encoding="utf-8")
    assert all(device in drawn for device in ("old0", "old1", "new0", "new1"))
