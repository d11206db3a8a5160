"""Predictions of plans that the authors of Sailor (SOSP 2025) measured on up to 64 nodes of four GH200: `make accuracy-public`.

OPT-350M and GPT-Neo-2.7B in tensor parallel over the four GPUs of each node, data parallel and pipelines of up to 8 stages under
1F1B over up to 64 nodes. Costs are Sailor's own profiles of single layers on the GPUs of one node, and its fit of the network's
bandwidth; nothing is fitted here, and no measured plan is used but to be compared with. As Megatron does it unless it is told
otherwise, gradients are exchanged as one message after the last backward, and a device does nothing else while it sends.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.public_data import DATA_VARIABLE, data_folder
from hetsim.costs import STEP, CostModel, CostTable, LayerCost, TransferCost
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.plan import Exchange, Plan, Replica, Stage
from hetsim.simulator import predict
from hetsim.workload import Chain, Layer, Training

GPU, WIDTH = "GH-96", 4
FLOAT_BYTES = 4

MODELS = ("OPT-350", "GPT-Neo-2.7")

MIXED_UP_S = 1.06094
"""Two plans have this figure for their gradient exchange, and one for its whole step too: their records are mixed up."""


@dataclass(frozen=True, slots=True)
class Case:
    """One measured plan and its prediction."""

    model: str
    shape: str
    measured_s: float
    predicted_s: float
    measured_bytes: int
    predicted_bytes: int

    @property
    def error(self) -> float:
        """predicted / measured - 1, of the step."""
        return self.predicted_s / self.measured_s - 1


@dataclass(frozen=True, slots=True)
class Profile:
    """What Sailor measured of one network on the GPUs of one node."""

    chain: Chain
    rows: Mapping[int, tuple[LayerCost, ...]]
    """By microbatch."""


def cases(folder: Path) -> list[Case]:
    """All plans but those whose records are mixed up. Raises OSError where a file lacks."""
    profiles = {model: _profile(folder, model) for model in MODELS}
    bandwidth = _bandwidth(folder / "network_fit.csv")
    measured = json.loads((folder / "plans_measured.json").read_text(encoding="utf-8"))
    return [_case(row, profiles[row["model"]], bandwidth) for row in measured if row["measured_grad_reduce_s"] != MIXED_UP_S]


def _case(row: Mapping[str, Any], profile: Profile, bandwidth: Mapping[str, float]) -> Case:
    microbatch, replicas, depth = row["micro_batch"], row["dp"], row["pp"]
    share = row["global_batch"] // replicas
    cuts = [0]
    for held in row["layers_per_stage"]:
        cuts.append(cuts[-1] + len(held))
    groups = [[[f"n{s}-{r}.{i}" for i in range(WIDTH)] for s in range(depth)] for r in range(replicas)]
    plan = Plan(
        tuple(
            Replica(
                tuple(Stage(g[0], cuts[s], cuts[s + 1], tuple(g[1:])) for s, g in enumerate(mine)),
                share,
                share // microbatch,
            )
            for mine in groups
        ),
        "1f1b",
        Exchange(whole=True),
    )
    part_bytes = profile.chain.parameter_bytes(range(cuts[1])) / WIDTH
    network = Link("network", 0.0, _at(bandwidth, part_bytes))
    nodes = tuple(
        Node(group[0].split(".")[0], tuple(Device(name, GPU, group[0].split(".")[0]) for name in group), network)
        for mine in groups
        for group in mine
    )
    cluster = Cluster(nodes, {GPU: DeviceType(GPU)}, network)
    sends = _blocking_sends(profile.chain, microbatch, bandwidth)
    costs = CostModel(profile.chain, cluster, CostTable(profile.chain.name, profile.rows[microbatch], sends))
    prediction = predict(plan, costs, Training(row["global_batch"], "adamw"))
    shape = f"{replicas} replicas of {depth} stages, {share // microbatch} microbatches of {microbatch}"
    peak = max(use.peak_bytes for use in prediction.memory)
    return Case(
        profile.chain.name, shape, row["measured_iteration_s"], prediction.step_s, row["measured_max_mem_bytes"], peak
    )


def _blocking_sends(chain: Chain, microbatch: int, bandwidth: Mapping[str, float]) -> tuple[TransferCost, ...]:
    """Sending occupies the device for as long as it takes the copies of all devices of the group to leave the node."""
    sizes = {chain.boundary_bytes_per_sample(cut) * microbatch for cut in range(1, len(chain))}
    return tuple(TransferCost("post_send", (GPU,), size, WIDTH * size / _at(bandwidth, size)) for size in sorted(sizes))


def _profile(folder: Path, model: str) -> Profile:
    """Layers with the sizes of one GPU, and the rows of the tensor-parallel group; the update is of a whole device."""
    sizes = {row["layer"]: row for row in _rows(folder / "layer_sizes.csv") if row["model"] == model and row["tp"] == "1"}
    parts = {
        row["layer"]: row for row in _rows(folder / "layer_sizes.csv") if row["model"] == model and row["tp"] == str(WIDTH)
    }
    layers = tuple(
        Layer(name, (int(row["params_floats"]),), FLOAT_BYTES * int(row["act_output_floats"])) for name, row in sizes.items()
    )
    rows: dict[int, list[LayerCost]] = defaultdict(list)
    updates: dict[int, float] = {}
    for row in _rows(folder / "layer_times.csv"):
        name, microbatch = row["layer"], int(row["micro_batch"])
        if (row["model"], row["gpu"], int(row["tp"])) == (model, GPU, WIDTH) and name in sizes:
            saved = FLOAT_BYTES * int(parts[name]["act_mem_floats"]) * microbatch
            times = (float(row["forward_s"]), float(row["backward_s"]))
            rows[microbatch].append(LayerCost(GPU, name, microbatch, *times, saved_bytes=saved, tensor_parallel=WIDTH))
            rows[microbatch].append(LayerCost(GPU, name, microbatch, *times, saved_bytes=saved))
            updates[microbatch] = float(row["optimizer_update_s"])
    whole = {m: (*mine, LayerCost(GPU, STEP, 1, 0.0, 0.0, updates[m])) for m, mine in rows.items()}
    return Profile(Chain(model, layers, 0, FLOAT_BYTES), whole)


def _bandwidth(file: Path) -> Mapping[str, float]:
    """Sailor's fit between nodes of which four GPUs send: GB/s = c2 x² + c1 x + c0, x = log2(MB), up to a largest value."""
    found = next(
        row
        for row in _rows(file)
        if row["scope"] == "inter_node" and row["sender_gpu"] == row["receiver_gpu"] == GPU
        if int(row["sender_gpus"]) == int(row["receiver_gpus"]) == WIDTH
    )
    return {key: float(found[key]) for key in ("c2", "c1", "c0", "max_bandwidth_Bps")}


def _at(fit: Mapping[str, float], size_bytes: float) -> float:
    x = math.log2(size_bytes / 1e6)
    return min(fit["max_bandwidth_Bps"], 1e9 * (fit["c2"] * x * x + fit["c1"] * x + fit["c0"]))


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def table(rows: Sequence[Case]) -> str:
    """The cases and their errors, as Markdown."""
    lines = ["| network | plan | measured | predicted | error |", "|---|---|---|---|---|"]
    lines += [
        f"| {c.model} | {c.shape} | {c.measured_s:.3f} s | {c.predicted_s:.3f} s | {c.error:+.1%} |"
        for c in sorted(rows, key=lambda c: (c.model, c.shape))
    ]
    for model in MODELS:
        errors = [abs(c.error) for c in rows if c.model == model]
        lines += [
            "",
            f"{model}: {len(errors)} plans, mean error {fmean(errors):.1%}, median {median(errors):.1%}, largest {max(errors):.1%}",
        ]
    return "\n".join(lines)


def main() -> int:
    """Print the table; 1 where the data is not there."""
    folder = data_folder() / "sailor"
    if not folder.is_dir():
        sys.stderr.write(f"{folder} is not there; name the folder of the published data with {DATA_VARIABLE}\n")
        return 1
    sys.stdout.write(table(cases(folder)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
