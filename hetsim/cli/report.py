"""`hetsim report`."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import typer

from hetsim.cli.output import talk
from hetsim.errors import Problem, RunDirectoryError
from hetsim.files import replacing
from hetsim.runs import RunDirectory

PAGE = "report.html"


def report(path: Path, output: Path | None) -> None:
    """Say where the page of a finished run is, or write it to `output`; a study's is made anew from its result.

    Raises RunDirectoryError where the run is not whole, or is of a command that makes no page.
    """
    run = RunDirectory.open(path)
    page = run.path / PAGE
    result = run.read_json("result.json") if (run.path / "result.json").exists() else {}
    if not page.exists():
        mend = "hetsim validate and hetsim whatif make one"
        raise RunDirectoryError(Problem(str(path), "is a run of a command that makes no page", mend))
    if output is None:
        typer.echo(str(page))
        return
    if "as_it_is" in result:
        from hetsim.report.page import manifest_facts
        from hetsim.report.study import write_study_page

        write_study_page(output, result, manifest_facts(run.manifest), shlex.join(["hetsim", *run.manifest.argv[1:]]))
    else:
        with replacing(output) as temporary:
            shutil.copyfile(page, temporary)
    talk(f"wrote {output}")
