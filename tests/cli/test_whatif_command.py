"""`hetsim whatif` as a user starts it: the shipped studies, the page in a browser, and questions that cannot be asked."""

import json
from pathlib import Path

import pytest
from browser import browse, in_browser, served


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
    assert "without the K80s: +0.0 % throughput" in done.stdout
    assert "kWh per million samples" in done.stdout
    assert "how all devices spend the step" in done.stdout
    (run,) = [name for name in hetsim.runs() if name != "whatif"]
    page = (hetsim.folder / "runs" / run / "report.html").read_text()
    assert "unknown, not zero" in page
    assert len(page.encode()) < 1_000_000


@in_browser
def test_its_page_is_shown_without_a_fault_and_fetches_nothing(hetsim, scenarios, tmp_path):
    asked_for = ("--variant", "without the K80s", "--worth", "--hinges", "--network", "bert", "-q")
    assert hetsim("whatif", scenarios / "retire_k80.yaml", *asked_for).returncode == 0
    (run,) = [name for name in hetsim.runs() if name != "whatif"]
    with served(hetsim.folder / "runs" / run) as (address, asked):
        console = browse(f"{address}/report.html", tmp_path / "profile", f"--screenshot={tmp_path / 'page.png'}")
        browse(
            f"{address}/report.html", tmp_path / "phone", "--window-size=400,900", f"--screenshot={tmp_path / 'small.png'}"
        )
    assert console == ""
    assert set(asked) == {"/report.html"}
    page = (hetsim.folder / "runs" / run / "report.html").read_text()
    assert page.count("<svg") == page.count("</svg>") == 3
    assert Path(tmp_path / "page.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--edit", "retire k80-99"), 'edit "retire k80-99": there is no device "k80-99"'),
        (("--edit", "buy 9 V100 into old1"), "node old1 has 0 free slots"),
        (("--variant", "nothing"), 'the scenario has no variant "nothing"'),
        (("--budget", "10"), "no device type has a purchase price"),
        (("--edit", "buy 1 TPU into old1"), "neither a device type of the cluster nor in the catalogue"),
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
