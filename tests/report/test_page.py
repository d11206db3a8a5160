"""The page: answer first, whole in one file, the same every time, and a browser has nothing to say about it."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import browse, in_browser, served
from report_world import HYBRID, PIPELINE, World, slowed

from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.plan import Plan
from hetsim.report.figures import THEMED
from hetsim.report.page import NetworkReport, ReportContent, Step, manifest_facts, render_page, write_page
from hetsim.report.rows import CandidateRow, CaseRow
from hetsim.report.summary import batch_curves, summarise_costs, summarise_devices
from hetsim.report.tables import Rows
from hetsim.report.text import answer
from hetsim.runs import FileDigest, Host, Manifest

MANIFEST = Manifest(
    scenario="office",
    created_utc="2026-11-23T05:14:22Z",
    argv=("hetsim", "validate", "office.yaml"),
    seed=7,
    versions={"hetsim": "0.1.0", "torch": None},
    host=Host("A processor", 2, 24 << 30, "Linux 6.1"),
    inputs=(FileDigest("costs.csv", 12, "ab" * 32),),
)


def network(world: World, cases: tuple[CaseRow, ...], name: str, text: str) -> NetworkReport:
    plan = Plan.parse(text)
    predicted = world.predicted(plan)
    measured = slowed(predicted, 1.04)
    return NetworkReport(
        name=name,
        description="9 layers, global batch 64",
        cases=tuple(case for case in cases if case.network == name),
        candidates=(
            CandidateRow(name, 1, text, 0.2, 0.19, 0.21, 2.3, 0.61, "fast0", "compute on fast0 (93%)", 1.0),
            CandidateRow(name, 2, "fast0[0:9] 64/1", 0.205, 0.2, 0.22, chance=0.3),
        ),
        devices=summarise_devices(predicted, plan, network=name, case="chosen", label="predicted"),
        chosen=Step(plan, predicted, measured),
        chain=world.chain,
        curves=batch_curves(world.table),
        costs=summarise_costs(replace(world.table, notes=("Made for tests.",))),
    )


@pytest.fixture
def content(world: World, cases: tuple[CaseRow, ...]) -> ReportContent:
    return ReportContent(
        title="Office <mixed> & more",
        networks=(network(world, cases, "small-cnn", HYBRID), network(world, cases, "gpt-mini", PIPELINE)),
        cluster=world.cluster,
        provenance=manifest_facts(MANIFEST),
        assumptions=("The global batch is the same for every plan.",),
        commands=("hetsim calibrate office.yaml", "hetsim validate office.yaml"),
    )


class Words(HTMLParser):
    """What a reader sees, and whether every element that was opened was closed in order."""

    void = frozenset({"meta", "link", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.void:
            self.open.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "srcset", "action")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.seen.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.seen).split())


def test_the_answer_comes_first_then_the_evidence(content: ReportContent) -> None:
    words = Words(render_page(content)).text
    order = [
        "Office <mixed> & more",
        "The chosen plan is 2.3 times as fast as the even split: 204 ms instead of 466 ms a step.",
        "Time of one training step, predicted and measured",
        "One step of the chosen plan",
        "How the devices spend the step",
        "Plans considered",
        "72 measured points",
        "Hardware",
        "Assumptions",
        "Where the figures come from",
        "How to reproduce",
    ]
    places = [words.index(part) for part in order]
    assert places == sorted(places)
    for case in content.networks[0].cases:
        assert f"{case.name} {case.plan}" in words
    for fact in (
        "A processor, 2 cores, 24.0 GiB, Linux 6.1",
        "hetsim 0.1.0",
        "SHA-256 abababababababab…",
        "Made for tests.",
    ):
        assert fact in words
    assert "CPU, 1 thread, instructions up to sse4.2, 4.00 GiB" in words
    assert "plans 1, 2 cannot be told apart by what is known of their costs" in words
    assert "hetsim calibrate office.yaml hetsim validate office.yaml" in words


def test_the_page_needs_nothing_from_elsewhere(content: ReportContent) -> None:
    page = render_page(content)
    words = Words(page)
    assert not re.search(r"https?://|<script|javascript:|\son\w+=|@import|<iframe|<img", page)
    assert {address for address in words.addresses if not address.startswith("#")} == {"data:,"}
    assert not re.findall(r"url\((?!#)", page)
    assert len(set(words.ids)) == len(words.ids)
    assert {address[1:] for address in words.addresses if address.startswith("#")} <= set(words.ids)
    assert len(page.encode()) < 1_000_000


def test_the_same_content_gives_the_same_page(content: ReportContent, tmp_path: Path) -> None:
    write_page(tmp_path / "report.html", content)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_page(content)


def test_the_light_theme_is_that_of_the_figures(content: ReportContent) -> None:
    light, dark = re.findall(r":root \{(.*?)\}", render_page(content), re.DOTALL)
    variables = dict(re.findall(r"--(\w+): (#\w{6})", light))
    assert variables == {name: colour for colour, name in THEMED.items()}
    assert set(re.findall(r"--(\w+):", dark)) == set(variables)


def test_what_a_user_wrote_is_never_markup(cases: tuple[CaseRow, ...]) -> None:
    hostile = '<script>alert("x")</script>'
    case = replace(cases[1], network=hostile, name=hostile, plan=hostile)
    report = ReportContent(
        hostile, (NetworkReport(hostile, hostile, (case,)),), None, {hostile: hostile}, (hostile,), (hostile,)
    )
    page = render_page(report)
    assert "<script" not in page
    assert Words(page).text.count(hostile) >= 8


def test_what_is_empty_is_left_out(cases: tuple[CaseRow, ...]) -> None:
    unmeasured = tuple(replace(case, measured_s=None) for case in cases[:2])
    words = Words(render_page(ReportContent("Plain", (NetworkReport("small-cnn", cases=unmeasured),)))).text
    assert "it has not been measured" in words
    for absent in ("Hardware", "Assumptions", "Plans considered", "Where the figures", "How to reproduce", "None"):
        assert absent not in words


def test_a_machine_that_drifted_is_told(cases: tuple[CaseRow, ...]) -> None:
    measured = [case for case in cases if case.measured_s is not None]
    for factor, words in ((1.5, "1.5× as slow"), (0.5, "2.0× as fast"), (1.05, "")):
        drifted = [replace(case, error_at_run_speed=factor * case.predicted_s / case.measured_s - 1) for case in measured]
        assert bool(words) == ("fixed piece of work" in answer(drifted))
        assert words in answer(drifted)


def test_a_plan_that_is_not_chosen_by_time_says_so_first(cases: tuple[CaseRow, ...]) -> None:
    beside = Rows("beside it", ("case", "plan"), ("step time", "limits"), (("even", "a0[0:1] 8/1", "2 s", "beyond"),))
    report = NetworkReport("n", cases=cases, headline="It costs 3 EUR.", reasons=("No plan costs less.",), beside=beside)
    words = Words(render_page(ReportContent("Plain", (report,)))).text
    assert "It costs 3 EUR." in words
    assert "the even split's speed" not in words
    order = [words.index(part) for part in ("It costs 3 EUR.", "No plan costs less.", "Beside it", "beyond")]
    assert order == sorted(order)


def test_a_large_report_stays_small(world: World, cases: tuple[CaseRow, ...]) -> None:
    """Three networks on eight devices with 32 microbatches."""
    devices = tuple(Device(f"node{i // 2}.gpu{i % 2}", "fast" if i % 2 else "slow", "here") for i in range(8))
    link = Link("host", 50e-6, 1e9)
    types = {name: DeviceType(name, "cuda", 16 << 30) for name in ("fast", "slow")}
    large = World(world.chain, Cluster((Node("here", devices, link),), types, link), world.table)
    text = " | ".join(
        f"node{a}.gpu0[0:3] > node{a}.gpu1[3:5] > node{b}.gpu0[5:8] > node{b}.gpu1[8:9] 128/32" for a, b in ((0, 1), (2, 3))
    )
    networks = [network(large, cases, name, f"{text}; 1f1b") for name in ("small-cnn", "gpt-mini", "small-cnn")]
    assert len(render_page(ReportContent("Large", tuple(networks))).encode()) < 1_000_000


# --- in a browser --------------------------------------------------------------------------------------------------------


@in_browser
def test_a_browser_finds_no_fault_and_asks_for_nothing_more(content: ReportContent, tmp_path: Path) -> None:
    write_page(tmp_path / "site" / "report.html", content)
    with served(tmp_path / "site") as (address, asked):
        console = browse(f"{address}/report.html", tmp_path / "profile", f"--screenshot={tmp_path / 'page.png'}")
    assert console == ""
    assert asked == ["/report.html"]
    assert (tmp_path / "page.png").stat().st_size > 10_000


@in_browser
def test_the_page_forbids_the_browser_to_fetch(content: ReportContent, tmp_path: Path) -> None:
    """A page with an image smuggled in is refused it: so the silence of the test above means something."""
    page = render_page(content).replace("</main>", '<img src="/elsewhere.png"></main>')
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "report.html").write_text(page, encoding="utf-8")
    with served(tmp_path / "site") as (address, asked):
        console = browse(f"{address}/report.html", tmp_path / "profile", "--dump-dom")
    assert "Content Security Policy" in console
    assert asked == ["/report.html"]
