"""`hetsim whatif`."""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from hetsim import __version__
from hetsim.cli.options import OutputFormat
from hetsim.cli.output import print_json, talk
from hetsim.cli.progress import progress
from hetsim.cli.session import Session
from hetsim.errors import InputError, Problem
from hetsim.reading import did_you_mean
from hetsim.scenario.document import Key, read_document
from hetsim.scenario.types import Scenario
from hetsim.study.document import study_document
from hetsim.study.edits import Variant, edited
from hetsim.study.estimate import Estimate, Estimator
from hetsim.study.hinges import hinges
from hetsim.study.purchases import Found, purchases
from hetsim.study.sets import Limits
from hetsim.study.study import Study
from hetsim.study.worth import retirements, worths

MOST_RETIREMENTS = 16
"""Steps of an order to retire in; each plans one cluster for every kind of device in every node."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the user asks."""

    edits: tuple[str, ...] = ()
    """Of one variant."""

    variants: tuple[str, ...] = ()
    """Those of the scenario that are meant; empty: all."""

    worth: bool = False
    hinges: bool = False
    budget: float | None = None
    power_limit_w: float | None = None
    workers: int | None = None
    time_limit_s: float | None = None
    quiet: bool = False


def whatif(
    path: Path,
    networks: Sequence[str] | None,
    question: Question,
    costs: Path,
    runs: Path,
    *,
    allow_outdated: bool,
    output: OutputFormat,
) -> None:
    """Hold variants of the cluster against it, each planned anew; show and keep what they come to."""
    from hetsim.report.page import manifest_facts
    from hetsim.report.study import print_study, write_study_page

    session = Session(path, networks, costs, allow_outdated=allow_outdated)
    estimator = estimator_of(session, question.time_limit_s)
    study = ask(estimator, question, runs / "whatif")
    document = study_document(study)
    with session.new_run(runs) as run:
        run.write_json("result.json", document)
        command = shlex.join(["hetsim", *sys.argv[1:]]) if sys.argv[1:] else f"hetsim whatif {path}"
        write_study_page(run.file("report.html"), document, manifest_facts(run.manifest), command)
    if output == "json":
        print_json(document)
    else:
        print_study(document)
    talk(f"report {run.path / 'report.html'}")


def estimator_of(session: Session, time_limit_s: float | None = None) -> Estimator:
    """What estimates of a scenario's variants rest on. Raises CostError where its own cluster is not priced."""
    specs = session.scenario.networks
    for spec in specs:
        session.costs(spec)  # tells what is missing
    tables = {spec.name: session.table(spec) for spec in specs}
    return Estimator(_with_powers(session), {spec.name: session.chains[spec.name] for spec in specs}, tables, time_limit_s)


def _with_powers(session: Session) -> Scenario:
    """The scenario, with the power that was measured beside the layers of device types of which it says none."""
    measured = session.calibration.powers if session.live else {}
    cluster = session.scenario.cluster
    types = {
        name: replace(kind, power=measured[name])
        if name in measured and (kind.power is None or kind.power.assumed)
        else kind
        for name, kind in cluster.device_types.items()
    }
    return replace(session.scenario, cluster=replace(cluster, device_types=types))


def ask(estimator: Estimator, question: Question, journals: Path) -> Study:
    """The answer to `question`. Raises InputError for an edit that cannot be made, with its place."""
    scenario = estimator.scenario
    variants = [*_variants(estimator, question)]
    with _told("estimating", quiet=question.quiet) as report:
        report("the cluster as it is")
        whole = estimator.estimate(Variant("as it is", scenario.cluster))
        estimates = []
        for variant in variants:
            report(variant.name)
            estimates.append(estimator.estimate(variant))
        rows, order = ((), ()) if not question.worth else _worth(estimator, whole, report)
        advantage, moved = (None, ()) if not question.hinges else _hinges(estimator, variants, report)
    found = None if question.budget is None else _search(estimator, question, question.budget, journals)
    if found is not None and found.best.edits:
        best = edited(scenario.cluster, found.best.edits, "the best purchase")
        estimates.append(estimator.estimate(best))
    return Study(scenario, whole, tuple(estimates), rows, order, found, advantage, moved)


def _variants(estimator: Estimator, question: Question) -> Iterator[Variant]:
    """The scenario's that are meant, and the one of the command line."""
    scenario, known = estimator.scenario, estimator.scenario.what_if.variants
    for name in question.variants:
        if name not in known:
            raise InputError(Problem("", f'the scenario has no variant "{name}"', did_you_mean(name, known)))
    only_asked = bool(question.edits or question.worth or question.budget is not None)
    for name in question.variants or (() if only_asked else known):
        try:
            yield edited(scenario.cluster, known[name], name)
        except InputError as error:
            raise InputError([_placed(problem, estimator.scenario, name) for problem in error.problems]) from None
    if question.edits:
        yield edited(scenario.cluster, question.edits)
    if not (only_asked or known):
        mend = "Say --edit 'retire DEVICE', --worth or --budget MONEY; or write variants under what_if"
        raise InputError(Problem(str(scenario.path or scenario.name), "asks nothing: it has no variants", mend))


def _placed(problem: Problem, scenario: Scenario, variant: str) -> Problem:
    """A fault of an edit in the scenario, with the place of the edit in its file."""
    if scenario.path is None:
        return problem
    keys: tuple[Key, ...] = ("what_if", "variants", variant)
    texts = [f'edit "{text}"' for text in scenario.what_if.variants[variant]]
    if problem.where in texts:
        keys = (*keys, texts.index(problem.where))
    return replace(problem, where=read_document(scenario.path).where(keys), what=f"{problem.where}: {problem.what}")


def _worth(estimator: Estimator, whole: Estimate, report: Callable[[str], None]) -> tuple[Any, Any]:
    return worths(estimator, whole, report), retirements(estimator, whole, MOST_RETIREMENTS, report)


def _hinges(estimator: Estimator, variants: Sequence[Variant], report: Callable[[str], None]) -> tuple[Any, Any]:
    if not variants:
        raise InputError(Problem("", "--hinges asks what the advantage of a variant hinges on, and there is none"))
    return hinges(estimator, variants[-1].edits, report)


def _search(estimator: Estimator, question: Question, budget: float, journals: Path) -> Found:
    """The best purchase, by as many processes as there are cores."""
    workers = question.workers or os.cpu_count() or 1
    cluster = estimator.scenario.cluster
    kinds = estimator.scenario.what_if.buy or tuple(
        name for name, kind in cluster.device_types.items() if kind.price and kind.price.purchase is not None
    )
    limits = Limits(budget, question.power_limit_w)
    journal = journals / f"{_digest(estimator)}.jsonl"
    # Started anew, not forked: a fork of a process with threads may hang.
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool, progress("purchases", quiet=question.quiet) as report:
        return purchases(
            estimator,
            kinds,
            limits,
            pool,
            journal=journal,
            on_progress=lambda done, total, best: report(f"best {best.samples_per_s:.4g} samples/s", done, total),
            at_once=2 * workers,
        )


def _digest(estimator: Estimator) -> str:
    """Of all that an estimate rests on, this program's version too, but for the folder that the scenario lies in."""
    scenario = estimator.scenario
    parts = (scenario.networks, scenario.cluster, scenario.search, scenario.economics, scenario.simulation, scenario.seed)
    inputs = dict(estimator.chains), dict(estimator.tables)
    return hashlib.sha256(repr((__version__, parts, inputs, estimator.time_limit_s)).encode()).hexdigest()[:16]


@contextmanager
def _told(what: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A line that says what is being looked at."""
    with progress(what, quiet=quiet) as report:
        count = 0

        def tell(text: str) -> None:
            nonlocal count
            count += 1
            report(text, count, max(count + 1, 2))

        yield tell
