"""`hetsim whatif` as a user starts it: the shipped studies, the page in a browser, and questions that cannot be asked."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from browser import browse, figures_seen, in_browser, served


def test_the_k80s_beside_the_v100s_are_not_worth_their_power(hetsim, scenarios):
    found = hetsim.json("whatif", scenarios / "retire_k80.yaml", "-q")
    assert found["schema_version"] == 1
    assert found["currency"] == "USD"
    without = next(row for row in found["variants"] if row["name"] == "without the K80s")
    figures = {row["name"]: row for row in without["figures"]}
    assert figures["throughput"]["new"] >= figures["throughput"]["old"] * 0.999
    assert figures["cost"]["change"] < -0.05
    assert figures["energy"]["change"] < -0.2
    assert figures["energy"]["low"] <= figures["energy"]["change"] <= figures["energy"]["high"]
    for network in without["networks"]:
        assert "k80" not in network["plan"]
        assert sum(network["shares"].values()) == pytest.approx(1)


def test_a_bought_type_that_nobody_measured_is_marked(hetsim, scenarios):
    found = hetsim.json("whatif", scenarios / "buy_under_budget.yaml", "--budget", "12000", "-q")
    purchases = found["purchases"]
    assert purchases["best"]["spent"] <= 12000
    assert purchases["considered"] == purchases["ruled_out"] + len(purchases["planned"]) + purchases["infeasible"]
    front = purchases["front"]
    assert front[0]["edits"] == []
    assert [row["samples_per_s"] for row in front] == sorted(row["samples_per_s"] for row in front)
    again = hetsim.json("whatif", scenarios / "buy_under_budget.yaml", "--budget", "12000", "-q")
    assert again["purchases"] == purchases, "what was planned is taken from its journal"
    bought = hetsim.json("whatif", scenarios / "buy_under_budget.yaml", "--edit", "buy 1 A100 into new1", "-q")
    assert bought["variants"][0]["networks"][0]["transferred"] == ["A100"]


def test_edits_that_are_printed_can_be_pasted_back(hetsim, scenarios):
    """Purchases are told as `buy …; buy …`: one --edit takes them as several would be."""
    edits = "retire k80-0", "retire k80-1"
    once, twice = (
        hetsim.json("whatif", scenarios / "mixed_fleet.yaml", *words, "-q")
        for words in (("--edit", "; ".join(edits)), ("--edit", edits[0], "--edit", edits[1]))
    )
    assert once["variants"] == twice["variants"]


def test_a_fleets_mix_is_answered_as_one_and_without_prices_nothing_is_made_up(hetsim, scenarios):
    found = hetsim.json("whatif", scenarios / "mixed_fleet.yaml", "--worth", "-q")
    whole = found["as_it_is"]
    rates = {row["network"]: row for row in whole["networks"]}
    weights, batches = {"resnet50": 3, "bert": 1}, {"resnet50": 128, "bert": 32}
    seconds = sum(weights[n] * rates[n]["step_s"] / batches[n] for n in weights) / 4
    assert whole["samples_per_s"] == pytest.approx(1 / seconds)
    assert whole["per_million"] is None
    assert {row["verdict"] for row in found["worth"]} <= {"keep", "indifferent", "retire"}
    assert all(row["per_million_without"] is None for row in found["worth"])


def test_the_tables_say_old_and_new(hetsim, scenarios):
    done = hetsim("whatif", scenarios / "retire_k80.yaml", "--variant", "without the K80s", "--network", "bert", "-q")
    assert done.returncode == 0, done.stderr
    assert "without the K80s: throughput 0.0 %, cost -" in done.stdout
    assert "kWh per million samples" in done.stdout
    assert "How all devices spend the step" in done.stdout
    (run,) = [name for name in hetsim.runs() if name != "whatif"]
    page = (hetsim.folder / "runs" / run / "report.html").read_text()
    assert "unknown, not zero" in page
    assert len(page.encode()) < 1_000_000


@in_browser
def test_its_page_is_shown_without_a_fault_and_fetches_nothing(hetsim, scenarios, tmp_path):
    deep = tmp_path / "a_folder_whose_name_is_wider_than_a_phone_because_it_has_no_blank_at_all"
    shutil.copytree(scenarios, deep)
    asked_for = ("--variant", "without the K80s", "--worth", "--hinges", "--network", "bert", "-q")
    assert hetsim("whatif", deep / "retire_k80.yaml", *asked_for).returncode == 0
    (run,) = [name for name in hetsim.runs() if name != "whatif"]
    with served(hetsim.folder / "runs" / run) as (address, asked):
        console = browse(f"{address}/report.html", tmp_path / "profile", f"--screenshot={tmp_path / 'page.png'}")
        browse(
            f"{address}/report.html", tmp_path / "phone", "--window-size=400,900", f"--screenshot={tmp_path / 'small.png'}"
        )
    assert console == ""
    assert set(asked) == {"/report.html"}
    assert Path(tmp_path / "page.png").stat().st_size > 10_000
    for width in (1200, 390):
        page_width, seen = figures_seen(hetsim.folder / "runs" / run, tmp_path / f"look{width}", width)
        labels = " ".join(label for label, *_ in seen)
        for what in ("variant changes", "gains by each device", "moves with each input", "in the course of one step"):
            assert what in labels
        assert ("holds which layers" in labels, "costs each device type" in labels) == (True, True)
        assert all(w > 300 and h > 50 and drawn > 0 for _, w, h, drawn in seen)
        assert page_width <= width, "only what is wide scrolls, each for itself"


def test_a_page_made_anew_is_the_one_that_was_there(hetsim, scenarios):
    assert hetsim("whatif", scenarios / "mixed_fleet.yaml", "--variant", "K80s gone", "-q").returncode == 0
    (run,) = [name for name in hetsim.runs() if name != "whatif"]
    folder = hetsim.folder / "runs" / run
    assert hetsim("report", folder, "--output", "again.html").returncode == 0
    assert (hetsim.folder / "again.html").read_text().partition("<pre>")[0] == (
        folder / "report.html"
    ).read_text().partition("<pre>")[0]
    assert hetsim("report", folder).stdout.strip().endswith("report.html")


def test_the_page_says_where_every_input_comes_from_and_what_is_known_of_errors(hetsim, scenarios):
    found = hetsim.json("whatif", scenarios / "buy_under_budget.yaml", "--edit", "buy 1 A100 into new1", "-q")
    inputs = {row["what"]: (row["value"], row["source"]) for row in found["inputs"]}
    assert inputs["time of resnet50 on V100"][0] == "4 measured points"
    assert "transferred from K80, V100" in inputs["time of resnet50 on A100"][1]
    assert inputs["power of A100"] == ("400 W busy, 50 W idle", "the scenario")
    assert inputs["price of V100"][0] == "6,000 USD, written off over 4 years"
    assert found["held_out_runs"] == []
    (k80,) = [row for row in found["held_out_points"] if row["device_type"] == "K80"]
    # 32 samples between 16 and 64, and 64 between 32 and 128, foretold by the others.
    assert k80["points"] == 2
    assert 0 < k80["median_error"] <= abs(k80["largest_error"]) < 0.3
    (run,) = [name for name in hetsim.runs() if name != "whatif"]
    page = (hetsim.folder / "runs" / run / "report.html").read_text()
    assert "No run on file says how far these predictions are off" in page
    assert "hetsim validate" in page


@pytest.mark.slow
def test_ctrl_c_shows_the_front_so_far_and_the_same_command_goes_on(hetsim, scenarios):
    """Ctrl-C reaches the whole group of processes, as from a terminal."""
    command = [sys.executable, "-m", "hetsim", "whatif", str(scenarios / "buy_under_budget.yaml"), "--budget", "40000"]
    command += ["--format", "json", "-q"]
    process = subprocess.Popen(
        command, cwd=hetsim.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    journals = hetsim.folder / "runs" / "whatif"
    while process.poll() is None and not any(len(file.read_text().splitlines()) >= 3 for file in journals.glob("*.jsonl")):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "the search goes on where it was: hetsim whatif" in stderr
    (journal,) = journals.glob("*.jsonl")
    kept = journal.read_text().splitlines()
    early = json.loads(stdout)["purchases"]
    assert early["ended_early"]
    assert len(early["planned"]) == len(kept) >= 3
    assert early["front"]
    whole = hetsim.json("whatif", scenarios / "buy_under_budget.yaml", "--budget", "40000", "-q")["purchases"]
    assert journal.read_text().splitlines()[: len(kept)] == kept
    assert not whole["ended_early"]
    assert whole["considered"] == whole["ruled_out"] + len(whole["planned"]) + whole["infeasible"]


def test_the_front_against_energy_is_told_too(hetsim, scenarios):
    found = hetsim.json("whatif", scenarios / "buy_under_budget.yaml", "--budget", "12000", "-q")["purchases"]
    front = found["energy_front"]
    assert [row["kwh_per_million"] for row in front] == sorted(row["kwh_per_million"] for row in front)
    assert front[-1]["samples_per_s"] == pytest.approx(found["best"]["samples_per_s"])


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--edit", "retire k80-99"), 'edit "retire k80-99": there is no device "k80-99"'),
        (("--edit", "buy 9 V100 into old1"), "node old1 has 0 free slots"),
        (("--variant", "nothing"), 'the scenario has no variant "nothing"'),
        (("--budget", "10"), "no device type has a purchase price"),
        (("--edit", "buy 1 TPU into old1"), "neither a device type of the cluster nor in the catalogue"),
        (("--edit", "retire k80-0", "--edit", "retire k80-0"), 'the edit "retire k80-0" took it out'),
        (("--power-limit", "5 kW"), "none is asked for. Add --budget MONEY"),
        (("--budget", "10", "--power-limit", "5 kV"), "expected a power"),
    ],
)
def test_what_cannot_be_asked_is_told_and_leaves_nothing(hetsim, scenarios, words, what):
    text = (scenarios / "retire_k80.yaml").read_text().replace("costs/", f"{scenarios}/costs/")
    text = text.replace("nodes:\n", "nodes:\n", 1).replace("devices: {K80: 4}, power", "devices: {K80: 4}, slots: 4, power")
    text = text.replace("price: {purchase: 8000, life: 4 years}, ", "").replace("price: {purchase: 0, life: 1 year}, ", "")
    (hetsim.folder / "s.yaml").write_text(text)
    done = hetsim("whatif", "s.yaml", *words, "-q")
    assert done.returncode == 2
    assert what in done.stderr
    assert hetsim.runs() == []


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("purchase: 8000", "purchase: -1", "price.purchase: got -1"),
        ("purchase: 8000, life: 4 years", "life: 4 years", "got a life without a purchase"),
        ("purchase: 8000, life: 4 years", "purchase: 8000, per_hour: 1", "expected one of them"),
        ("pue: 1.5", "pue: 0.5", "economics.pue: got 0.5"),
        ("busy: 224 W", "busy: 224 V", "expected a power"),
        (
            "name: new1, devices: {V100: 2}",
            "name: new1, slots: 1, devices: {V100: 2}",
            "got 1, and the node holds 2 devices",
        ),
    ],
)
def test_faults_of_the_economics_have_their_place(hetsim, scenarios, old, new, what):
    text = (scenarios / "retire_k80.yaml").read_text().replace("costs/", f"{scenarios}/costs/")
    assert old in text
    (hetsim.folder / "s.yaml").write_text(text.replace(old, new))
    done = hetsim("whatif", "s.yaml", "-q")
    assert done.returncode == 2
    assert what in done.stderr
    assert "s.yaml:" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "words", "place", "what"),
    [
        ("buy: [V100, A100]", "buy: [V100, B200X]", (), "B200X", 'what_if.buy.1: got "B200X", which is no device type'),
        ("buy: [V100, A100]", "buy: [V100, K8]", (), "K8]", 'Did you mean "K80"?'),
        ("price: {purchase: 11000, life: 4 years}, ", "", (), "A100]", "which has no purchase price"),
        (
            "",
            "",
            ("--budget", "100"),
            "{purchase: 6000",
            "costs 6,000 and is the cheapest to be had: a budget of 100 buys nothing",
        ),
        ("", "", ("--budget", "40000", "--power-limit", "1 W"), "- {name: old1", "takes 3,400 W at work as it is"),
        (", slots: 6", "", ("--budget", "40000"), "", ""),
    ],
)
def test_faults_of_what_can_be_bought_have_their_place(hetsim, scenarios, old, new, words, place, what):
    text = (scenarios / "buy_under_budget.yaml").read_text().replace("costs/k80", f"{scenarios}/costs/k80")
    text = text.replace(old, new) if old else text
    if not what:  # no slot is left anywhere
        text, place, what = text.replace(", slots: 4", ""), "- {name: old1", "has no free slot in any node"
    (hetsim.folder / "s.yaml").write_text(text)
    line = next(i for i, row in enumerate(text.splitlines(), 1) if (place in row and "buy:" not in row) or place in row[20:])
    column = text.splitlines()[line - 1].index(place) + 1
    done = hetsim("whatif", "s.yaml", *(words or ("--budget", "20000")), "-q")
    assert done.returncode == 2
    assert f"s.yaml:{line}:{column}: " in done.stderr
    assert what in done.stderr


def test_a_fault_of_an_edit_in_the_scenario_has_its_place(hetsim, scenarios):
    text = (scenarios / "retire_k80.yaml").read_text().replace("costs/", f"{scenarios}/costs/")
    text = text.replace("[retire node old1, retire node old2]", "[retire node old1, retire node old9]")
    (hetsim.folder / "s.yaml").write_text(text)
    line = next(i for i, row in enumerate(text.splitlines(), 1) if "without the K80s" in row)
    column = text.splitlines()[line - 1].rindex("retire node old9") + 1
    done = hetsim("whatif", "s.yaml", "-q")
    assert done.returncode == 2
    assert f's.yaml:{line}:{column}: edit "retire node old9": there is no node "old9"' in done.stderr


def test_a_smaller_budget_is_kept_after_a_larger_one(hetsim, scenarios):
    scenario = scenarios / "buy_under_budget.yaml"
    large = hetsim.json("whatif", scenario, "--budget", "22000", "-q")["purchases"]
    small = hetsim.json("whatif", scenario, "--budget", "12000", "-q")["purchases"]
    assert large["best"]["spent"] > 12000
    assert max(row["spent"] for row in small["planned"]) <= 12000
    assert small["considered"] == small["ruled_out"] + len(small["planned"]) + small["infeasible"]


def test_a_frame_for_notebooks(hetsim, scenarios):
    import hetsim as package

    study = package.whatif(scenarios / "mixed_fleet.yaml", edits=["retire node box2"], runs=hetsim.folder / "runs")
    frame = study.to_frame()
    assert list(frame["variant"]) == ["as it is", "retire node box2"]
    assert frame["throughput_change"][0] == 0
    assert study._repr_html_().startswith("<table")
    json.dumps([str(column) for column in frame.columns])


def test_what_was_asked_besides_has_frames_too(hetsim, scenarios):
    import hetsim as package

    runs = hetsim.folder / "runs"
    with ThreadPoolExecutor(1) as pool:
        bought = package.whatif(
            scenarios / "buy_under_budget.yaml", budget=12000, power_limit_w=3750, executor=pool, runs=runs
        )
    frame = bought.front_frame()
    assert list(frame["purchase"]) == ["nothing", "buy 1 V100 into new1"], "two V100s would take 4,000 W"
    assert frame["spent_USD"][1] == 6000
    assert bought._repr_html_().count("<table") == 2
    worth = package.whatif(scenarios / "mixed_fleet.yaml", worth=True, runs=runs).worth_frame()
    assert {"device", "gain", "resnet50", "bert", "verdict"} <= set(worth.columns)
