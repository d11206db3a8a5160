"""`hetsim report`."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hetsim.cli.output import talk
from hetsim.errors import Problem, RunDirectoryError
from hetsim.files import replacing
from hetsim.runs import RunDirectory

if TYPE_CHECKING:
    from hetsim.report.study_page import Step

PAGE = "report.html"


def report(path: Path, output: Path | None) -> None:
    """Say where the page of a finished run is, or write it to `output`; a study's is made anew from its result.

    Raises RunDirectoryError where the run is not whole, or is of a command that makes no page.
    """
    run = RunDirectory.open(path)
    page = run.path / PAGE
    result = run.read_json("result.json") if (run.path / "result.json").exists() else {}
    if not page.exists():
        mend = "hetsim plan, hetsim validate and hetsim whatif make one"
        raise RunDirectoryError(Problem(str(path), "is a run of a command that makes no page", mend))
    if output is None:
        typer.echo(str(page))
        return
    if "as_it_is" in result:
        from hetsim.report.page import manifest_facts
        from hetsim.report.study_page import write_study_page

        command = shlex.join(["hetsim", *run.manifest.argv[1:]])
        write_study_page(output, result, _steps(run, result), manifest_facts(run.manifest), command)
    else:
        with replacing(output) as temporary:
            shutil.copyfile(page, temporary)
    talk(f"wrote {output}")


def _steps(run: RunDirectory, document: Mapping[str, Any]) -> list[Step]:
    """The steps of a study, from its timelines."""
    from hetsim.report.study_page import AS_IT_IS, Step, shown_variant, step_file

    steps = []
    for variant in filter(None, (AS_IT_IS, shown_variant(document))):
        for network in document["layers"]:
            name = step_file(variant, network)
            predicted, measured = f"{name}-predicted", f"{name}-measured"
            found = run.timeline(measured) if measured in run.timelines else None
            steps.append(Step(variant, network, run.timeline(predicted), found))
    return steps
