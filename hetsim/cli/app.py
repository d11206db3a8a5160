"""The commands and their options, as typer sees them; each command's work is a module of its own, imported when it runs."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from hetsim.cli.costs import app as costs_app
from hetsim.cli.import_command import import_command
from hetsim.cli.options import (
    AllowOutdated,
    Budget,
    Collect,
    Costs,
    Edits,
    FailOver,
    Format,
    FromRun,
    Hinges,
    LimitTexts,
    MaxRestarts,
    Money,
    Networks,
    ObjectiveName,
    PlanTexts,
    PowerLimit,
    PrintCommands,
    Quiet,
    Risk,
    Runs,
    ScenarioPath,
    Slurm,
    Steps,
    TimeLimit,
    Variants,
    Workers,
    Worth,
)
from hetsim.errors import HetsimError, InputError

INTERRUPTED = 130

_ABOUT_DISKS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES)


class _Commands(TyperGroup):
    """Turns hetsim's errors into a message on stderr and their exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except HetsimError as error:
            for problem in error.problems:
                typer.echo(f"error[{error.code}]: {problem}", err=True)
            ctx.exit(error.exit_code)
        except BrokenPipeError:
            raise  # whoever read our output has had enough
        except OSError as error:
            if error.filename is None and error.errno not in _ABOUT_DISKS:
                raise
            place = f"{error.filename}: " if error.filename is not None else ""
            typer.echo(f"error[file]: {place}{error.strerror}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            typer.echo("interrupted; what was finished is kept", err=True)
            ctx.exit(INTERRUPTED)


app = typer.Typer(
    cls=_Commands,
    name="hetsim",
    help="How to train one network on unlike accelerators: measure, split, predict, run for real, compare.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """The console command `hetsim`."""
    status: int | str | None = 1
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - closed by whoever started us
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    try:
        app(prog_name="hetsim")
    except SystemExit as end:
        status = end.code
        raise
    finally:
        _leave_threads_behind(status)


def _leave_threads_behind(status: int | str | None) -> None:
    """End the process at once where the user's network has left threads that would keep it for ever."""
    left = [t for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
    if left and "hetsim.models.user_code" in sys.modules:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status if isinstance(status, int) else 0 if status is None else 1)


def _version(wanted: bool) -> None:
    if wanted:
        from hetsim import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """How to train one network on unlike accelerators: measure, split, predict, run for real, compare."""


@app.command(epilog="Examples:  hetsim doctor   ·   hetsim doctor --format json")
def doctor(output: Format = "table") -> None:
    """Show what this machine offers, and what will hurt the accuracy of measurements here."""
    from hetsim.cli.doctor import doctor as run

    run(output)


@app.command(
    epilog="Examples:  hetsim calibrate scenarios/mixed_cpu.yaml   ·   "
    "hetsim calibrate scenarios/mixed_cpu.yaml --budget 2 --dry-run"
)
def calibrate(
    scenario: ScenarioPath,
    networks: Networks = None,
    costs: Costs = Path("runs/costs"),
    budget: Budget = 5.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be measured and how long it takes; measure nothing.")
    ] = False,
    from_run: FromRun = None,
    output: Format = "table",
    quiet: Quiet = False,
) -> None:
    """Time the layers of the scenario's networks on its devices, and the links between them. Points on file are kept."""
    from hetsim.cli.calibrate import calibrate as run

    run(scenario, networks, costs, budget, dry_run=dry_run, from_run=from_run, output=output, quiet=quiet)


@app.command(
    epilog="Examples:  hetsim plan scenarios/textbook.yaml   ·   hetsim plan scenarios/k80_v100.yaml --time-limit 10 --format json"
    "   ·   hetsim plan scenarios/retire_k80.yaml --objective money --limit step=0.5s"
)
def plan(
    scenario: ScenarioPath,
    networks: Networks = None,
    time_limit: TimeLimit = None,
    objective: ObjectiveName = None,
    limits: LimitTexts = None,
    risk: Risk = "median",
    costs: Costs = Path("runs/costs"),
    runs: Runs = Path("runs"),
    allow_outdated: AllowOutdated = False,
    output: Format = "table",
    quiet: Quiet = False,
) -> None:
    """Find the best split of each network, beside the baselines, and how far from the best possible it can be.

    Ctrl-C ends the search with the best so far.
    """
    from hetsim.cli.plan import Wish
    from hetsim.cli.plan import plan as run

    wish = Wish(objective, tuple(limits or ()), time_limit, risk, quiet=quiet)
    run(scenario, networks, costs, runs, wish, allow_outdated=allow_outdated, output=output)


@app.command(
    epilog="Examples:  hetsim predict scenarios/textbook.yaml   ·   "
    "hetsim predict scenarios/textbook.yaml --plan 'k80-0[0:12] 32/1 | v100-0[0:12] 64/1' --format json"
)
def predict(
    scenario: ScenarioPath,
    plans: PlanTexts = None,
    networks: Networks = None,
    costs: Costs = Path("runs/costs"),
    runs: Runs = Path("runs"),
    allow_outdated: AllowOutdated = False,
    output: Format = "table",
) -> None:
    """Predict a step of the best plan, or of the plans given: timeline, step time, memory, and what limits it."""
    from hetsim.cli.predict import predict as run

    run(scenario, plans, networks, costs, runs, allow_outdated=allow_outdated, output=output)


@app.command(
    epilog="Examples:  hetsim run scenarios/mixed_cpu.yaml --steps 10   ·   "
    "hetsim run scenarios/mixed_cpu.yaml --network gpt --plan 'fast0[0:8] 12/1 | slow0[0:8] 4/1'   ·   "
    "hetsim run cluster.yaml --slurm"
)
def run(
    scenario: ScenarioPath,
    plans: PlanTexts = None,
    networks: Networks = None,
    steps: Steps = None,
    max_restarts: MaxRestarts = 0,
    print_commands: PrintCommands = False,
    slurm: Slurm = False,
    collect: Collect = None,
    costs: Costs = Path("runs/costs"),
    runs: Runs = Path("runs"),
    allow_outdated: AllowOutdated = False,
    output: Format = "table",
    quiet: Quiet = False,
) -> None:
    """Train for real, one process a device, with the best plan or the plans given, and measure the steps.

    Nodes that are other hosts are reached by ssh, or by the commands that --print-commands and --slurm print.
    """
    from hetsim.cli.run import Start
    from hetsim.cli.run import run as execute

    if sum((print_commands, slurm, collect is not None)) > 1:
        raise InputError("--print-commands, --slurm and --collect exclude each other")
    by_hand: Literal["commands", "slurm"] | None = "slurm" if slurm else "commands" if print_commands else None
    start = Start(steps, max_restarts, by_hand, collect, quiet=quiet)
    execute(scenario, plans, networks, start, costs, runs, allow_outdated=allow_outdated, output=output)


@app.command(
    epilog="Examples:  hetsim validate scenarios/mixed_cpu.yaml   ·   "
    "hetsim validate scenarios/mixed_cpu.yaml --network gpt --fail-over 10 --format json"
)
def validate(
    scenario: ScenarioPath,
    networks: Networks = None,
    steps: Steps = None,
    costs: Costs = Path("runs/costs"),
    runs: Runs = Path("runs"),
    budget: Budget = 5.0,
    fail_over: FailOver = None,
    output: Format = "table",
    quiet: Quiet = False,
) -> None:
    """All of it: calibrate what is missing, plan, predict, run the plan and the baselines for real, and compare."""
    from hetsim.cli.validate import validate as execute

    execute(scenario, networks, steps, costs, runs, budget, fail_over, output=output, quiet=quiet)


@app.command(
    epilog="Examples:  hetsim whatif scenarios/retire_k80.yaml   ·   "
    "hetsim whatif scenarios/textbook.yaml --edit 'retire k80-0' --hinges   ·   "
    "hetsim whatif scenarios/mixed_fleet.yaml --worth   ·   "
    "hetsim whatif scenarios/buy_under_budget.yaml --budget 40000 --power-limit '5 kW'"
)
def whatif(
    scenario: ScenarioPath,
    edits: Edits = None,
    variants: Variants = None,
    worth: Worth = False,
    hinges: Hinges = False,
    budget: Money = None,
    power_limit: PowerLimit = None,
    workers: Workers = None,
    time_limit: TimeLimit = None,
    networks: Networks = None,
    costs: Costs = Path("runs/costs"),
    runs: Runs = Path("runs"),
    allow_outdated: AllowOutdated = False,
    output: Format = "table",
    quiet: Quiet = False,
) -> None:
    """Buy, retire, swap: what each variant of the cluster would change in time, money and energy, each planned anew.

    Ctrl-C ends a search for purchases with the best so far; the same command goes on with it.
    """
    from hetsim.cli.whatif import Question, power_limit_w
    from hetsim.cli.whatif import whatif as ask

    question = Question(
        tuple(edit.strip() for text in edits or () for edit in text.split(";") if edit.strip()),
        tuple(variants or ()),
        worth,
        hinges,
        budget,
        power_limit_w(power_limit, budget),
        workers,
        time_limit,
        quiet=quiet,
    )
    ask(scenario, networks, question, costs, runs, allow_outdated=allow_outdated, output=output)


@app.command(epilog="Examples:  hetsim report runs/NAME   ·   hetsim report runs/NAME --output for-the-board.html")
def report(
    run_directory: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="A finished run of validate or whatif.", show_default=False)
    ],
    page: Annotated[Path | None, typer.Option("--output", help="Write the page to this file.")] = None,
) -> None:
    """The page of a finished run: where it is, or with --output a copy to hand over. It has everything in it."""
    from hetsim.cli.report import report as tell

    tell(run_directory, page)


app.add_typer(costs_app)
app.command(
    "import",
    epilog="Examples:  hetsim import vgg16/graph.txt --device-type V100 --microbatch 128 --scenario vgg16.yaml   ·   "
    "hetsim import curve.csv --network bert --parameters 110000000 --scenario bert.yaml",
)(import_command)
