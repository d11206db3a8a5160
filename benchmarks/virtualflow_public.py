"""Predictions of data-parallel runs on V100 and P100 that the authors of VirtualFlow (MLSys 2022) logged: `make accuracy-public`.

Four networks on two to sixteen GPUs of two to four machines, with up to sixteen microbatches a GPU and step, and three runs of
the Transformer on V100 and P100 together, of up to ten machines. Costs are the logged steps of single GPUs. Nothing was logged
of the exchange of gradients, so its rate is taken from the other runs of the same network on GPUs of one kind: a run is never
among those that its own prediction rests on, and the mixed runs are used for nothing. Two ways to read the rates are compared:
as a ring's, whose bytes grow with the number of machines, and as work of each device, whatever their number.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Literal

from benchmarks.public_data import DATA_VARIABLE, data_folder
from hetsim.costs import CostModel, CostTable, LayerCost, TransferCost
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.plan import Exchange, Plan, Replica, Stage
from hetsim.simulator import step_s
from hetsim.workload import Chain, Layer

Way = Literal["ring", "own work"]
WAYS: tuple[Way, ...] = ("ring", "own work")

PARAMETERS = 25_000_000
"""Of every network here: the rate is fitted in seconds, so that the number cancels."""

GRADIENT_BYTES = 4 * PARAMETERS
FAST = Link("inside a machine", 0.0, 1e15)

SINGLE: Mapping[tuple[str, int], tuple[str, str]] = {
    ("resnet-imagenet", 256): ("virtual-m3", "virtual-m4"),
    ("resnet-imagenet", 1): ("virtual-m1", "virtual-m2"),
    ("resnet-cifar10", 128): ("virtual-m7", "virtual-m8"),
    ("resnet-cifar10", 1): ("virtual-m5", "virtual-m6"),
    ("transformer", 4096): ("virtual-m9", "virtual-m10"),
    ("bert-glue", 48): ("virtual-m13", "virtual-m14"),
    ("bert-glue", 1): ("virtual-m11", "virtual-m12"),
}
"""(network, microbatch) -> the runs of one V100 and of one P100 at it."""


@dataclass(frozen=True, slots=True)
class Run:
    """One logged run."""

    name: str
    network: str
    gpus: tuple[str, ...]
    """By rank."""

    machines: tuple[int, ...]
    """By rank."""

    shares: tuple[int, ...]
    microbatches: tuple[int, ...]
    step_s: float

    @property
    def mixed(self) -> bool:
        """Whether its GPUs are of several kinds."""
        return len(set(self.gpus)) > 1

    @property
    def plan(self) -> Plan:
        """Every rank's share, exchanged as one message after the last microbatch."""
        names = [f"g{rank}" for rank in range(len(self.gpus))]
        replicas = (Replica((Stage(n, 0, 1),), s, m) for n, s, m in zip(names, self.shares, self.microbatches, strict=True))
        return Plan(tuple(replicas), exchange=Exchange("hierarchical", whole=True))


@dataclass(frozen=True, slots=True)
class Case:
    """One run and its predictions."""

    run: Run
    predicted_s: Mapping[Way, float]

    def error(self, way: Way) -> float:
        """predicted / measured - 1."""
        return self.predicted_s[way] / self.run.step_s - 1


def cases(folder: Path) -> list[Case]:
    """All runs on several machines whose microbatch was timed on single GPUs. Raises OSError where the file lacks."""
    with (folder / "runs.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["run"]: row for row in csv.DictReader(stream)}
    steps = {name: float(row["step_time_median_s"]) for name, row in rows.items()}
    runs = [run for row in rows.values() if int(row["num_nodes"]) > 1 for run in _run(row)]
    found = []
    for run in runs:
        others = [o for o in runs if o.network == run.network and not o.mixed and o.name != run.name]
        predicted: dict[Way, float] = {}
        for way in WAYS:
            rates = [(o.step_s - _predict(o, steps, way, 0.0)) / _passes(o, way) for o in others]
            predicted[way] = _predict(run, steps, way, max(0.0, median(rates)))
        found.append(Case(run, predicted))
    return found


def _run(row: Mapping[str, str]) -> Iterator[Run]:
    """The run of a row, if each of its microbatches was timed on a single GPU."""
    kinds = tuple(name.split("-")[0] for name in row["gpus"].split("|"))
    machines, per_machine = int(row["num_nodes"]), int(row["gpus_per_rank"])
    if len(kinds) == 1:
        kinds *= machines
    if len(kinds) == machines and per_machine > 1:
        kinds = tuple(kind for kind in kinds for _ in range(per_machine))
    if row["split"]:
        shares = tuple(map(int, row["split"].split("|")))
        counts = tuple(map(int, row["vn_split"].split("|")))
    else:
        shares = (int(row["global_batch"]) // len(kinds),) * len(kinds)
        counts = (int(row["virtual_nodes_per_device"]),) * len(kinds)
    network = "-".join(row["job"].split("-virtual")[0].split("-04_")[0].split("-")[:2])
    network = "transformer" if network.startswith("transformer") else network
    run = Run(
        row["run"],
        network,
        kinds,
        tuple(rank // (len(kinds) // machines) for rank in range(len(kinds))),
        shares,
        counts,
        float(row["step_time_median_s"]),
    )
    if all(_single(run, rank) for rank in range(len(kinds))):
        yield run


def _single(run: Run, rank: int) -> str | None:
    """The run of one GPU whose step stands for a microbatch of `rank`; 3,072 tokens take the Transformer as long as 4,096."""
    size = run.shares[rank] // run.microbatches[rank]
    size = 4096 if (run.network, size) == ("transformer", 3072) else size
    found = SINGLE.get((run.network, size))
    return found[run.gpus[rank] != "V100"] if found else None


def _predict(run: Run, steps: Mapping[str, float], way: Way, seconds: float) -> float:
    """The step of `run` where a pass of all gradients takes `seconds`: over a link, or on each device."""
    kinds = {
        (gpu, share // count): steps[_single(run, rank) or ""]
        for rank, (gpu, share, count) in enumerate(zip(run.gpus, run.shares, run.microbatches, strict=True))
    }
    layers = tuple(LayerCost(gpu, "network", size, s / 3, 2 * s / 3) for (gpu, size), s in kinds.items())
    own = [TransferCost("bucket", (gpu,), GRADIENT_BYTES, seconds) for gpu in dict.fromkeys(run.gpus)]
    between = Link("network", 0.0, GRADIENT_BYTES / seconds if way == "ring" and seconds > 0 else FAST.bandwidth_bytes_per_s)
    nodes = tuple(
        Node(
            f"m{machine}",
            tuple(Device(f"g{r}", gpu, f"m{machine}") for r, gpu in enumerate(run.gpus) if run.machines[r] == machine),
            FAST,
        )
        for machine in sorted(set(run.machines))
    )
    cluster = Cluster(nodes, {gpu: DeviceType(gpu) for gpu in run.gpus}, between)
    chain = Chain(run.network, (Layer("network", (PARAMETERS,), 0),), 0, 4)
    table = CostTable(run.network, layers, tuple(own) if way == "own work" and seconds > 0 else ())
    return step_s(run.plan, CostModel(chain, cluster, table))


def _passes(run: Run, way: Way) -> float:
    """How often all gradients cross a machine's link in one exchange, or pass through each device."""
    machines = len(set(run.machines))
    return 2 * (machines - 1) / machines if way == "ring" else 1.0


def table(rows: Sequence[Case]) -> str:
    """The cases and their errors, as Markdown."""
    lines = ["| run | GPUs | machines | measured | as a ring | as own work |", "|---|---|---|---|---|---|"]
    for case in rows:
        run = case.run
        gpus = ", ".join(f"{run.gpus.count(kind)} {kind}" for kind in dict.fromkeys(run.gpus))
        errors = " | ".join(f"{case.predicted_s[way]:.2f} s, {case.error(way):+.1%}" for way in WAYS)
        lines.append(f"| {run.name}, {run.network} | {gpus} | {len(set(run.machines))} | {run.step_s:.2f} s | {errors} |")
    for name, chosen in (("one kind", [c for c in rows if not c.run.mixed]), ("mixed", [c for c in rows if c.run.mixed])):
        for way in WAYS:
            errors = [abs(c.error(way)) for c in chosen]
            summary = f"mean error {fmean(errors):.1%}, median {median(errors):.1%}, largest {max(errors):.1%}"
            lines += ["", f"{name}, {way}: {len(errors)} runs, {summary}"]
    return "\n".join(lines)


def main() -> int:
    """Print the table; 1 where the data is not there."""
    folder = data_folder() / "virtualflow"
    if not folder.is_dir():
        sys.stderr.write(f"{folder} is not there; name the folder of the published data with {DATA_VARIABLE}\n")
        return 1
    sys.stdout.write(table(cases(folder)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
