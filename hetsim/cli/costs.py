"""`hetsim costs`: the commands and their options, as typer sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hetsim.cli.options import Costs, Format

app = typer.Typer(
    name="costs",
    help="Look at cost tables, take them to another machine, and unite those of several.",
    epilog="Examples:  hetsim costs list   ·   hetsim costs show mixed-cpu --plot costs.svg",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Which = Annotated[
    str,
    typer.Argument(
        metavar="PATH|SCENARIO",
        help="A CSV file, a folder of costs, an export (folder or .zip), a scenario file, or the name of a folder in --costs.",
        show_default=False,
    ),
]
OneNetwork = Annotated[list[str] | None, typer.Option("--network", help="Only this network; may be given several times.")]


@app.command("list", epilog="Examples:  hetsim costs list   ·   hetsim costs list --costs /mnt/cluster/costs --format json")
def list_costs(costs: Costs = Path("runs/costs"), output: Format = "table") -> None:
    """Show which cost tables there are, and whether what was measured still holds on this machine."""
    from hetsim.cli.costs_list import list_costs as run

    run(costs, output)


@app.command(
    epilog="Examples:  hetsim costs show scenarios/costs/textbook.csv   ·   "
    "hetsim costs show mixed-cpu --network conv --plot conv.svg"
)
def show(
    which: Which,
    networks: OneNetwork = None,
    layers: Annotated[list[str] | None, typer.Option("--layer", help="Only this layer; may be given several times.")] = None,
    device_types: Annotated[
        list[str] | None, typer.Option("--device-type", help="Only this device type; may be given several times.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the layers' batch curves to this file (.svg or .png), too.")
    ] = None,
    links: Annotated[
        bool, typer.Option("--links", help="Show communication instead: latency, bandwidths, plateau of each operation.")
    ] = False,
    costs: Costs = Path("runs/costs"),
    output: Format = "table",
) -> None:
    """Show what each layer costs on each device type, how sure that is, and where it comes from."""
    from hetsim.cli.costs_show import show as run

    run(which, networks, layers, device_types, plot, costs, output, links=links)


@app.command(
    epilog="Examples:  hetsim costs export mixed-cpu mixed-cpu.zip   ·   hetsim costs export scenarios/k80_v100.yaml k80_v100"
)
def export(
    which: Which,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A folder to make, or an archive: NAME.zip.", show_default=False)
    ],
    networks: OneNetwork = None,
    costs: Costs = Path("runs/costs"),
    output: Format = "table",
) -> None:
    """Pack cost tables, raw samples and fingerprints for another machine."""
    from hetsim.cli.costs_move import export as run

    run(which, out, networks, costs, output)


@app.command(
    epilog="Examples:  hetsim costs merge both.zip old-host.zip new-host.zip   ·   "
    "hetsim costs merge both.csv k80.csv v100.csv --prefer most-samples"
)
def merge(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="A folder to make, an archive (NAME.zip), or one table (NAME.csv).", show_default=False
        ),
    ],
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="IN...", help="CSV files, folders of costs, exports; two or more.", show_default=False),
    ],
    prefer: Annotated[
        Literal["first", "last", "most-samples"] | None,
        typer.Option("--prefer", help="Which counts where two tables tell the same point differently."),
    ] = None,
    allow_mismatch: Annotated[
        bool,
        typer.Option("--allow-mismatch", help="Unite what was measured under different fingerprints, and mark it."),
    ] = False,
    output: Format = "table",
) -> None:
    """Unite the cost tables of several hosts into one with all their device types."""
    from hetsim.cli.costs_move import merge as run

    run(out, inputs, prefer, allow_mismatch=allow_mismatch, output=output)
