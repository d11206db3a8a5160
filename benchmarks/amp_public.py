"""Predictions of the strategies that the authors of AMP (NeurIPS 2022) measured for GPT-2 on 16 T4: `make accuracy-public`.

Four nodes of four GPUs, 50 Gbit/s between nodes, DeepSpeed with Megatron in float16: tensor, data and pipeline parallelism with
their own cuts. What is published of the layers is their forward for one sample alone. What a calibration would have told besides
is fitted here: the backward over the forward, how much of a layer grows with the microbatch, what the two kinds of links really
give, and what a step costs whatever it does. It is fitted to one half of the strategies and the other half is scored, then the
other way round: no strategy is scored with figures that it had a part in.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import spearmanr

from benchmarks.public_data import DATA_VARIABLE, data_folder
from hetsim.costs import STEP, CostModel, CostTable, LayerCost
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.plan import Exchange, Plan, Replica, Stage
from hetsim.simulator import step_s
from hetsim.workload import Chain, Layer

GPU, NODES, WIDTH = "T4", 4, 4
GLOBAL_BATCH, HIDDEN, TOKENS, VOCABULARY, BLOCKS, HALF = 32, 1024, 1024, 52256, 24, 2
PUBLISHED = "AMP's own estimates"

START = (2.0, 0.6, 0.4, 0.3, 3e9, 5e9, 0.1)
"""Where the fit sets out: backward over forward; share of a layer that grows with the microbatch over 1, 2 and 4 GPUs; bytes a
second between nodes, and inside one; seconds of each step."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """One measured strategy."""

    microbatch: int
    tensor: int
    data: int
    cuts: tuple[int, ...]
    amp_s: float
    measured_s: float


@dataclass(frozen=True, slots=True)
class Case:
    """One held-out strategy."""

    strategy: Strategy
    predicted_s: float

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted_s / self.strategy.measured_s - 1


def strategies(folder: Path) -> list[Strategy]:
    """Those that ran. Raises OSError where the file lacks."""
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["measured_s"]]
    return [
        Strategy(
            int(row["micro_batch"]),
            int(row["tp"]),
            int(row["dp"]),
            tuple(map(int, row["layer_partition"].strip("[]").split("|"))),
            float(row["amp_predicted_s"]),
            float(row["measured_s"]),
        )
        for row in rows
    ]


def forwards_s(folder: Path) -> dict[int, list[float]]:
    """Tensor-parallel GPUs -> the forward of each layer for one sample."""
    found: dict[int, dict[int, float]] = {}
    with (folder / "layer_forward_times.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(int(row["tp"]), {})[int(row["layer_index"])] = float(row["forward_s_microbatch1"])
    return {tp: [layers[i] for i in sorted(layers)] for tp, layers in found.items()}


def held_out(rows: Sequence[Strategy], forward_s: dict[int, list[float]]) -> list[Case]:
    """Every strategy, predicted with figures fitted to the other half: those of even and of odd places, by measured step."""
    order = sorted(rows, key=lambda row: row.measured_s)
    cases = []
    for half in (0, 1):
        known, scored = order[1 - half :: 2], order[half::2]

        def errors(logs: np.ndarray, known: Sequence[Strategy] = known) -> list[float]:
            return [float(np.log(predicted_s(row, forward_s, np.exp(logs)) / row.measured_s)) for row in known]

        fit = least_squares(errors, np.log(START), loss="soft_l1", f_scale=0.1, diff_step=1e-3, max_nfev=40)
        cases += [Case(row, predicted_s(row, forward_s, np.exp(fit.x))) for row in scored]
    return cases


def predicted_s(row: Strategy, forward_s: dict[int, list[float]], figures: Sequence[float]) -> float:
    """Seconds of a step, with the figures that START has."""
    backward, *growing, between, inside, fixed_s = figures
    share = dict(zip((1, 2, 4), growing, strict=True))[row.tensor]
    size = (1 - min(share, 1.0)) + share * row.microbatch
    costs = [
        LayerCost(GPU, f"l{i}", row.microbatch, s * size, backward * s * size, tensor_parallel=row.tensor)
        for i, s in enumerate(forward_s[row.tensor])
    ]
    costs += [LayerCost(GPU, STEP, 1, 0.0, 0.0, fixed_s)]
    model = CostModel(_chain(len(forward_s[row.tensor])), _cluster(between, inside), CostTable("gpt2", tuple(costs)))
    return step_s(_plan(row), model)


def _chain(layers: int) -> Chain:
    """Embedding, a conversion, the blocks, and four at the end, of which the third is the output layer."""
    block = 12 * HIDDEN * HIDDEN
    sizes = [VOCABULARY * HIDDEN, 0, *[block] * BLOCKS, 0, 0, VOCABULARY * HIDDEN, 0]
    output = TOKENS * HIDDEN * HALF
    return Chain(
        "gpt2", tuple(Layer(f"l{i}", (size,) if size else (), output) for i, size in enumerate(sizes[:layers])), 0, HALF
    )


def _cluster(between: float, inside: float) -> Cluster:
    nodes = tuple(
        Node(f"n{n}", tuple(Device(f"g{WIDTH * n + i}", GPU, f"n{n}") for i in range(WIDTH)), Link("bus", 1e-5, inside))
        for n in range(NODES)
    )
    return Cluster(nodes, {GPU: DeviceType(GPU)}, Link("network", 5e-5, between))


def _plan(row: Strategy) -> Plan:
    """Ranks fill the nodes: by stage, then by replica, then by tensor-parallel rank."""
    depth, share = len(row.cuts) - 1, GLOBAL_BATCH // row.data
    replicas = []
    for r in range(row.data):
        stages = []
        for s in range(depth):
            first = (s * row.data + r) * row.tensor
            leader, *others = (f"g{first + i}" for i in range(row.tensor))
            stages.append(Stage(leader, row.cuts[s], row.cuts[s + 1], tuple(others)))
        replicas.append(Replica(tuple(stages), share, max(1, share // row.microbatch)))
    return Plan(tuple(replicas), "1f1b", Exchange(whole=True))


def table(cases: Sequence[Case]) -> str:
    """The cases and their errors, as Markdown."""
    lines = [
        "| GPUs in tensor parallel | replicas | stages | microbatch | measured | predicted | error |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in sorted(cases, key=lambda c: (c.strategy.tensor, c.strategy.data, c.strategy.microbatch)):
        s = case.strategy
        cells = (
            s.tensor,
            s.data,
            len(s.cuts) - 1,
            s.microbatch,
            f"{s.measured_s:.2f} s",
            f"{case.predicted_s:.2f} s",
            f"{case.error:+.1%}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    measured = [case.strategy.measured_s for case in cases]
    for name, predicted in (
        ("held out", [case.predicted_s for case in cases]),
        (PUBLISHED, [case.strategy.amp_s for case in cases]),
    ):
        errors = [abs(p / m - 1) for p, m in zip(predicted, measured, strict=True)]
        rank = spearmanr(predicted, measured).statistic
        told = f"median error {median(errors):.1%}, mean {fmean(errors):.1%}, largest {max(errors):.1%}"
        lines += ["", f"{name}: {len(errors)} strategies, {told}, rank correlation {rank:.3f}"]
    return "\n".join(lines)


def main() -> int:
    """Print the table; 1 where the data is not there."""
    folder = data_folder() / "amp"
    if not folder.is_dir():
        sys.stderr.write(f"{folder} is not there; name the folder of the published data with {DATA_VARIABLE}\n")
        return 1
    sys.stdout.write(table(held_out(strategies(folder), forwards_s(folder))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
