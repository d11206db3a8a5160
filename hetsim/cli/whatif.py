"""`hetsim whatif`."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

from hetsim import __version__
from hetsim.cli.options import OutputFormat
from hetsim.cli.output import print_json, talk
from hetsim.cli.progress import progress
from hetsim.cli.session import Session
from hetsim.errors import InputError, Problem
from hetsim.reading import did_you_mean
from hetsim.report.study import BEST_PURCHASE
from hetsim.report.study_page import Step, shown_variant
from hetsim.scenario.document import Key, read_document
from hetsim.scenario.types import Scenario
from hetsim.study.document import study_document
from hetsim.study.edits import Variant, edited
from hetsim.study.estimate import Estimate, Estimator
from hetsim.study.evidence import evidence
from hetsim.study.hinges import hinges
from hetsim.study.on_file import measured_step, validations
from hetsim.study.purchases import Found, purchases
from hetsim.study.sets import Limits
from hetsim.study.study import Study
from hetsim.study.worth import retirements, worths
from hetsim.units import parse_watts

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
    from hetsim.report.study import print_study
    from hetsim.report.study_page import write_study_page

    session = Session(path, networks, costs, allow_outdated=allow_outdated)
    estimator = estimator_of(session, question.time_limit_s)
    study = ask(estimator, question, runs / "whatif")
    document = _document(session, estimator, study, runs)
    steps = _steps(study, document, runs)
    command = shlex.join(["hetsim", *sys.argv[1:]]) if sys.argv[1:] else f"hetsim whatif {path}"
    with session.new_run(runs) as run:
        run.write_json("result.json", document)
        for step in steps:
            run.write_timeline(f"{step.file}-predicted", step.predicted)
            if step.measured is not None:
                run.write_timeline(f"{step.file}-measured", step.measured)
        write_study_page(run.file("report.html"), document, steps, manifest_facts(run.manifest), command)
    if output == "json":
        print_json(document)
    else:
        print_study(document)
    talk(f"report {run.path / 'report.html'}")
    if study.found is not None and study.found.ended_early:
        talk(f"the search goes on where it was: {command}")
        raise KeyboardInterrupt


def _document(session: Session, estimator: Estimator, study: Study, runs: Path) -> dict[str, Any]:
    """The study as JSON, with what it rests on."""
    digest = hashlib.sha256(session.path.read_bytes()).hexdigest()
    live = {spec.name: digest for spec in session.live}
    validate = f"hetsim validate {session.path}"
    if not live:
        validate += ", with networks of the zoo or of your own in place of published costs"
    return {
        **study_document(study),
        **evidence(estimator, study, session.scenario),
        "held_out_runs": validations(runs, session.scenario.name, live),
        "validate": validate,
    }


def _steps(study: Study, document: dict[str, Any], runs: Path) -> list[Step]:
    """What the page draws: steps on the cluster as it is and on the best variant, measured too where that very plan was run."""
    measured = {(case["network"], case["plan"]): case for case in reversed(document["held_out_runs"])}
    steps = []
    for row in (study.whole, *(row for row in study.variants if row.variant.name == shown_variant(document))):
        for answer in row.answers:
            case = measured.get((answer.network, answer.plan))
            step = measured_step(runs, case) if case else None
            steps.append(Step(row.variant.name, answer.network, answer.prediction.timeline, step))
    return steps


def estimator_of(session: Session, time_limit_s: float | None = None) -> Estimator:
    """What estimates of a scenario's variants rest on. Raises CostError where its own cluster is not priced."""
    specs = session.scenario.networks
    for spec in specs:
        session.costs(spec)  # tells what is missing
    tables = {spec.name: session.table(spec) for spec in specs}
    return Estimator(session.with_powers(), {spec.name: session.chains[spec.name] for spec in specs}, tables, time_limit_s)


def ask(estimator: Estimator, question: Question, journals: Path, executor: Executor | None = None) -> Study:
    """The answer to `question`; `executor` plans purchases. Raises InputError for an edit that cannot be made, with its place."""
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
    found = None if question.budget is None else _search(estimator, question, question.budget, journals, executor)
    if found is not None and found.best.edits:
        best = edited(scenario.cluster, found.best.edits, BEST_PURCHASE)
        estimates.append(estimator.estimate(best))
    return Study(scenario, whole, tuple(estimates), rows, order, found, advantage, moved)


def _variants(estimator: Estimator, question: Question) -> Iterator[Variant]:
    """The scenario's that are meant, and the one of the command line."""
    scenario, known = estimator.scenario, estimator.scenario.what_if.variants
    for name in question.variants:
        if name not in known:
            mend = did_you_mean(name, known) or "It has none: say what is meant with --edit"
            raise InputError(Problem("", f'the scenario has no variant "{name}"', mend))
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


def power_limit_w(text: str | None, budget: float | None) -> float | None:
    """Watts of `--power-limit`. Raises InputError where that is no power, or where no budget goes with it."""
    if text is None:
        return None
    if budget is None:
        raise InputError(
            Problem("--power-limit", "limits a search for purchases, and none is asked for", "Add --budget MONEY")
        )
    try:
        watts = parse_watts(text)
    except ValueError as error:
        raise InputError(Problem("--power-limit", str(error))) from None
    if watts < 0:
        raise InputError(Problem("--power-limit", f"got {watts:g} W, expected 0 W or more"))
    return watts


def _search(estimator: Estimator, question: Question, budget: float, journals: Path, executor: Executor | None) -> Found:
    """The best purchase, by `executor`, or else by as many processes as there are cores."""
    workers = question.workers or os.cpu_count() or 1
    cluster = estimator.scenario.cluster
    kinds = estimator.scenario.what_if.buy or tuple(
        name for name, kind in cluster.device_types.items() if kind.price and kind.price.purchase is not None
    )
    limits = Limits(budget, question.power_limit_w)
    journal = journals / f"{_digest(estimator)}.jsonl"
    own = nullcontext(executor) if executor is not None else _processes(workers)
    try:
        with own as pool, progress("purchases", quiet=question.quiet) as report:
            return purchases(
                estimator,
                kinds,
                limits,
                pool,
                journal=journal,
                on_progress=lambda done, total, best: report(f"best {best.samples_per_s:.4g} samples/s", done, total),
                at_once=2 * workers,
            )
    except InputError as error:
        raise InputError([_in_the_file(problem, estimator.scenario) for problem in error.problems]) from None


def _in_the_file(problem: Problem, scenario: Scenario) -> Problem:
    """A fault of what can be bought, with its place in the scenario's file."""
    if scenario.path is None:
        return problem
    kind = problem.where.removeprefix("device type ")
    keys: tuple[Key, ...] = ("cluster", "device_types", kind, "price") if kind != problem.where else ("cluster", "nodes")
    return replace(problem, where=read_document(scenario.path).where(keys), what=f"{problem.where} {problem.what}")


@contextmanager
def _processes(workers: int) -> Iterator[Executor]:
    """A pool that ends with the block, whatever its processes are doing then."""
    others = active_children()
    # Started anew, not forked: a fork of a process with threads may hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_leave_interrupts_to_the_parent)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in active_children():
            if process not in others:
                process.terminate()
        pool.shutdown()


def _leave_interrupts_to_the_parent() -> None:
    """Ctrl-C reaches all processes of a terminal, and a planner would pass off what it has by then as the best."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
