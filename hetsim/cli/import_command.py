"""`hetsim import`: the command and its options, as typer sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hetsim.cli.options import Format


def import_command(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The profile.", show_default=False)],
    kind: Annotated[
        Literal["pipedream", "sailor", "curve"] | None,
        typer.Option("--as", help="What the profile is. Without it, the file has to give it away."),
    ] = None,
    device_type: Annotated[
        str | None, typer.Option("--device-type", help="What the device is called, where the file does not say or not well.")
    ] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="What the network is called. Default: after the file, or as in it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The cost table to write.", show_default="costs/NETWORK.csv")
    ] = None,
    scenario: Annotated[
        Path | None, typer.Option("--scenario", help="Write a scenario around the table, too, ready to be planned.")
    ] = None,
    microbatch: Annotated[
        int | None, typer.Option("--microbatch", min=1, max=10**9, help="pipedream: samples in the batch that was profiled.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="sailor: which model of a file with several.")] = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="sailor: only this GPU of a file with several. Default: all of them.")
    ] = None,
    sizes: Annotated[
        Path | None, typer.Option("--sizes", help="sailor: its llm_info.json with the sizes of the layers.")
    ] = None,
    parameters: Annotated[
        int | None, typer.Option("--parameters", min=0, max=10**12, help="curve: parameters of the network, for --scenario.")
    ] = None,
    backward_share: Annotated[
        float,
        typer.Option(
            "--backward-share",
            min=0.0,
            max=1.0,
            show_default="2/3",
            help="curve: share of the seconds that is the backward.",
        ),
    ] = 2 / 3,
    spread: Annotated[
        float,
        typer.Option("--spread", min=0.0, max=1.0, help="Half the 95 % interval to assume of each time, relative to it."),
    ] = 0.0,
    output: Format = "table",
) -> None:
    """Read a profile that another tool measured into a cost table: PipeDream's, Sailor's, or a batch curve."""
    from hetsim.cli.import_profile import import_profile
    from hetsim.costs.profiles.profile import Wanted

    wanted = Wanted(device_type, network, microbatch, model, gpu, backward_share, parameters, spread)
    import_profile(path, kind, wanted, sizes, out, scenario, output)
