"""`hetsim plan`: limits of time, what plans are ranked by, and hybrids found where they are worth it."""

import json
import re

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
    assert careful["candidates"][0]["high_s"] < bold["candidates"][0]["high_s"]
    assert careful["candidates"][0]["step_s"] >= bold["candidates"][0]["step_s"]
    assert "Nine times in ten" in careful["networks"][0]["explanation"][-1]
    assert careful["networks"][0]["chosen"] == careful["candidates"][0]["plan"]
    assert [document["networks"][0]["risk"] for document in (bold, careful)] == ["median", "p90"]
    assert careful["candidates"][0]["p90_s"] < bold["candidates"][0]["p90_s"]
    assert all(row["step_s"] <= row["p90_s"] <= row["high_s"] for row in (*bold["candidates"], *careful["candidates"]))


def test_a_wide_plan_is_outlined_and_told_in_full_once(hetsim, scenario):
    wide = (
        SCENARIO.replace("old: 2, new: 2", "old: 6, new: 6").replace("memory: 40", "memory: 400").replace("44 MiB", "1 GiB")
    )
    (hetsim.folder / "s.yaml").write_text(wide)
    done = hetsim("plan", scenario)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert re.search(r"\d × (old|new)\[\d:\d\]", text)
    first, _, full = text.partition("Plan 1 in full: ")
    chosen = network_of(hetsim("plan", scenario, "--format", "json"))["chosen"]
    assert chosen not in first
    assert full.startswith(chosen)


def test_what_is_not_known_of_a_plan_is_marked(hetsim, scenario):
    """Layers keep nothing for their backwards, as far as is said; and shares go beyond what was measured."""
    unknown = SCENARIO.replace(", saved: 1 MiB", "").replace("global_batch: 64", "global_batch: 512")
    (hetsim.folder / "s.yaml").write_text(unknown.replace("memory: 40", "memory: 400").replace("44 MiB", "1 GiB"))
    measured = COSTS.replace("spread\n", "spread,provenance\n", 1)
    for spread in ("0.3", "0.01"):
        measured = measured.replace(f",{spread}\n", f",{spread},measured\n")
    (hetsim.folder / "costs.csv").write_text(measured)
    text = " ".join(hetsim("plan", scenario).stdout.split())
    assert "≥ what layers keep for their backwards is not known" in text
    assert "costs beyond all that was measured (new0 at " in text
    first = json.loads(hetsim("plan", scenario, "--format", "json").stdout)["candidates"][0]
    assert not first["activations_known"]
    assert first["extrapolated"].startswith("new0 at ")


def test_predictions_tell_the_memory_and_no_empty_columns(hetsim, scenario):
    text = " ".join(hetsim("predict", scenario).stdout.split())
    assert "peak memory" in text
    assert re.search(r"MiB of 4[04]\.0 MiB", text)
    assert "measured" not in text
    assert "error" not in text


def test_a_plan_has_a_page(hetsim, scenario):
    assert hetsim("plan", scenario, "-q").returncode == 0
    (run,) = hetsim.runs()
    page = (hetsim.folder / "runs" / run / "report.html").read_text()
    assert "This is a prediction" in page
    assert "Plans considered" in page
    assert page.count("<svg") >= 3
    assert hetsim("report", f"runs/{run}").stdout.strip() == f"runs/{run}/report.html"


def test_plans_are_objects_for_notebooks(scenarios):
    import hetsim as package

    (found,) = package.plans(scenarios / "textbook.yaml").values()
    frame = found.to_frame()
    assert frame["plan"][0] == str(found.result.chosen.plan)
    assert (frame["low_s"] <= frame["step_s"]).all()
    assert found._repr_html_().startswith("<table")


PRICED = SCENARIO.replace(
    "old: {memory: 40 MiB}", "old: {memory: 400 MiB, price: {per_hour: 1}, power: {busy: 100 W, idle: 10 W}}"
).replace("new: {memory: 44 MiB}", "new: {memory: 400 MiB, price: {per_hour: 5}, power: {busy: 300 W, idle: 30 W}}")
ECONOMICS = "economics: {currency: EUR, electricity: 0.2, pue: 1.2}\n"


@pytest.fixture
def priced(hetsim):
    (hetsim.folder / "s.yaml").write_text(PRICED + ECONOMICS)
    (hetsim.folder / "costs.csv").write_text(COSTS)
    return "s.yaml"


def test_money_is_told_beside_every_plan_and_plans_are_chosen_by_it(hetsim, priced):
    by_time = network_of(hetsim("plan", priced, "--format", "json"))
    by_money = network_of(hetsim("plan", priced, "--objective", "money", "--format", "json"))
    assert by_money["objective"] == {"least": "money", "limits": {}}
    assert by_money["money_per_million"] < by_time["money_per_million"]
    assert by_money["step_s"] > by_time["step_s"]
    assert (
        by_money["lower_bound"]
        <= by_money["money_per_million"]
        <= by_money["lower_bound"] * (1 + by_money["gap"]) * 1.000001
    )
    assert all(row["money_per_million"] >= by_money["money_per_million"] for row in by_money["baselines"])
    text = " ".join(hetsim("plan", priced, "--objective", "energy").stdout.split())
    assert "EUR per million" in text
    assert "of the chosen energy" in text
    assert "more frugal" in text


def test_limits_of_the_command_line_go_before_those_of_the_file(hetsim, priced):
    whole = (hetsim.folder / priced).read_text()
    wanted = "search: {microbatches: [1, 8, 64], objective: money, limits: {step: 0.3 s, kwh_per_million: 40}}"
    (hetsim.folder / priced).write_text(whole.replace("search: {microbatches: [1, 8, 64]}", wanted))
    found = network_of(hetsim("plan", priced, "--format", "json"))
    assert found["objective"] == {"least": "money", "limits": {"step": 0.3, "kwh_per_million": 40.0}}
    assert found["step_s"] <= 0.3
    looser = network_of(
        hetsim("plan", priced, "--limit", "step=none", "--limit", "kwh_per_million=none", "--format", "json")
    )
    assert looser["objective"]["limits"] == {}
    assert looser["money_per_million"] < found["money_per_million"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--limit", "step=1ms"], ["limit step: the limit is 1.00 ms a step, and no plan is under", "Raise step to"]),
        (["--limit", "step=60ms", "--limit", "money_per_million=2"], ["no plan can keep to 60.0 ms a step and 2.000 EUR"]),
    ],
)
def test_limits_that_nothing_keeps_end_with_3_and_the_nearest_plan(hetsim, priced, options, told):
    done = hetsim("plan", priced, *options)
    assert done.returncode == 3
    assert all(text in done.stderr for text in told), done.stderr
    assert not hetsim.runs()


@pytest.mark.parametrize("limit", ["steps=1s", "step=soon", "money_per_million=0", "step"])
def test_a_limit_that_cannot_be_read_is_told(hetsim, priced, limit):
    done = hetsim("plan", priced, "--limit", limit)
    assert done.returncode == 2
    assert f"--limit {limit}: got" in done.stderr


def test_a_limit_is_given_once_and_only_a_limit_can_be_lifted(hetsim, priced):
    twice = hetsim("plan", priced, "--limit", "step=1s", "--limit", "step=2s")
    assert twice.returncode == 2
    assert "--limit step=2s: step has been given a limit before" in twice.stderr
    unknown = hetsim("plan", priced, "--limit", "speed=none")
    assert unknown.returncode == 2
    assert 'got no limit called "speed"' in unknown.stderr


def test_prices_that_lack_are_told_with_their_place(hetsim, scenario):
    done = hetsim("plan", scenario, "--objective", "money")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["s.yaml"] * len(lines)
    assert "s.yaml:14:" in done.stderr
    assert "device type old: its price is unknown, so money cannot be told" in done.stderr
    assert "the price of electricity is unknown" in done.stderr
    assert "while it is busy and while it is idle" in done.stderr


def test_the_careful_are_held_to_their_limits_nine_times_in_ten(hetsim, priced):
    """The costs of the old ones are 30 % unsure: a step that they just keep in the middle, they miss too often."""
    bold = network_of(hetsim("plan", priced, "--objective", "money", "--format", "json"))
    limit = f"step={bold['step_s'] * 1.02}s"
    careful = network_of(
        hetsim("plan", priced, "--objective", "money", "--limit", limit, "--risk", "p90", "--format", "json")
    )
    assert (
        network_of(hetsim("plan", priced, "--objective", "money", "--limit", limit, "--format", "json"))["chosen"]
        == bold["chosen"]
    )
    assert careful["chosen"] != bold["chosen"]
    assert "Nine times in ten" in careful["explanation"][-1]


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


def test_costs_of_nothing_make_a_plan_of_nothing(hetsim, scenario):
    """A table may say that a layer takes no time; what would be divided by it is left out."""
    (hetsim.folder / "costs.csv").write_text(re.sub(r"(?m)^(old|new),(.),(\d+),.*$", r"\1,\2,\3,0,0,0,0", COSTS))
    (hetsim.folder / "s.yaml").write_text(SCENARIO.replace("parameters: 1000000, output: 4 KiB", "output: 0"))
    found = hetsim("plan", scenario)
    assert found.returncode == 0, found.stderr
    assert "Warning" not in found.stderr
