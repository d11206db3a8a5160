"""Options that several commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hetsim.objective import Figure

OutputFormat = Literal["table", "json"]

ScenarioPath = Annotated[Path, typer.Argument(metavar="SCENARIO", help="The scenario file (YAML).", show_default=False)]
Format = Annotated[
    OutputFormat,
    typer.Option("--format", help="What stdout gets: tables for people, or one JSON document with a schema version."),
]
Networks = Annotated[
    list[str] | None, typer.Option("--network", help="Only this network of the scenario; may be given several times.")
]
Costs = Annotated[
    Path, typer.Option("--costs", help="Folder of measured costs; each scenario has a folder of its own in it.")
]
Runs = Annotated[Path, typer.Option("--runs", help="Folder in which the run directory is made.")]
PlanTexts = Annotated[
    list[str] | None,
    typer.Option("--plan", help="A plan as one line; may be given several times. Without it, the best plan is taken."),
]
Steps = Annotated[
    int | None, typer.Option("--steps", min=1, max=1_000_000, help="Timed steps of each plan, instead of the scenario's.")
]
MaxRestarts = Annotated[
    int,
    typer.Option(
        "--max-restarts", min=0, max=1000, help="When a rank dies, start all again so often, from their last checkpoint."
    ),
]
PrintCommands = Annotated[bool, typer.Option("--print-commands", help="Start nothing; print the command for each node.")]
Slurm = Annotated[bool, typer.Option("--slurm", help="Start nothing; print a script for sbatch.")]
Collect = Annotated[
    Path | None, typer.Option("--collect", help="Start nothing; read what the printed commands left in this run directory.")
]
Budget = Annotated[
    float, typer.Option("--budget", min=0.0, max=86_400.0, help="Seconds to spend on one point of the calibration.")
]
FailOver = Annotated[
    float | None,
    typer.Option("--fail-over", min=0.0, help="Exit with 4 if a prediction is off by more than so many per cent."),
]
AllowOutdated = Annotated[
    bool, typer.Option("--allow-outdated", help="Take costs that were measured under other conditions, and mark them.")
]
TimeLimit = Annotated[
    float | None,
    typer.Option("--time-limit", min=0.0, max=86_400.0, help="Seconds to search each network for; then the best so far."),
]
Risk = Annotated[
    Literal["median", "p90"],
    typer.Option(
        "--risk", help="What plans are ranked by: their predicted step, or the one that it stays under nine times in ten."
    ),
]
ObjectiveName = Annotated[
    Figure | None,
    typer.Option(
        "--objective", help="What plans are chosen by, instead of the scenario's: the step, or money or energy for a sample."
    ),
]
LimitTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        help="What a plan may come to at most: step=0.5s, money_per_million=3.2 or kwh_per_million=40, for a million samples; "
        "several times. =none lifts one of the scenario's.",
    ),
]
Edits = Annotated[
    list[str] | None,
    typer.Option(
        "--edit",
        help="An edit of the cluster, such as 'buy 2 V100 into new gpu-box' or 'retire old0'; several, or some with a ; between, "
        "make one variant.",
    ),
]
Variants = Annotated[
    list[str] | None, typer.Option("--variant", help="Only this variant of the scenario; may be given several times.")
]
Worth = Annotated[bool, typer.Option("--worth", help="What each device is worth, and in which order to retire.")]
Hinges = Annotated[bool, typer.Option("--hinges", help="Which inputs the last variant's advantage hinges on.")]
Money = Annotated[
    float | None,
    typer.Option("--budget", min=0.0, help="Search the best purchase for at most so much of the scenario's currency."),
]
PowerLimit = Annotated[
    str | None,
    typer.Option(
        "--power-limit", help="With --budget: what the whole cluster may take at work, such as '5 kW'; a bare number: watts."
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, max=1024, help="Processes that search; by default one a core.")
]
FromRun = Annotated[
    Path | None,
    typer.Option(
        "--from-run", help="Measure nothing; correct the costs by what the validation in this run directory found."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
