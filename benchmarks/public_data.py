"""Published step times of single GPUs, as batch curves, and what is known of the networks and devices behind them.

Which GPU stands behind a name follows from the source where it says so, else from the service that it names (Google's P100 is the
PCIe card, its V100 the SXM2 module). Operations of a network are counted from its published architecture.
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from hetsim.hardware.catalogue import Format

DATA_VARIABLE = "HETSIM_PUBLIC_DATA"

Curve = Mapping[float, float]
"""Samples -> seconds of a step."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One network in one source, with its curve on each GPU."""

    source: str
    network: str
    family: str
    """Networks of one architecture, whatever the source and size: held out together."""

    kind: Format
    gigaflops_per_sample: float | None
    """Of the forward; None: the published architecture is not certain enough."""

    curves: Mapping[str, Curve]
    """By name in the catalogue."""

    set_aside: str = ""
    """Why it is not of the main result, from the sources' own words and curves; "" where it is."""


P100, V100, K80 = "P100 PCIe 16GB", "V100 SXM2 16GB", "K80"
DEVICES: Mapping[str, Mapping[str, str]] = {
    "pipefisher": {"p100": P100, "v100": V100, "rtx3090": "RTX 3090"},
    "jabas": {"Tesla P100-PCIE-16GB": P100, "Tesla V100-PCIE-16GB": "V100 PCIe 16GB"},
    "sia": {
        "aws": "T4",
        "rtx": "RTX 2080 Ti",
        "quad": "Quadro RTX 6000",
        "dgx": "A100 SXM 40GB",
        "dgx-ext": "A100 SXM 40GB",
    },
    "virtualflow": {"K80": K80, "P100": P100, "V100": V100, "2080Ti": "RTX 2080 Ti"},
    "gavel": {"k80": K80, "p100": P100, "v100": V100},
    "tensorflow_2017": {"P100-SXM2": "P100 SXM2 16GB", "K80 (one GK210)": K80},
    "zeus": {"p100": P100, "v100": V100, "rtx6000": "Quadro RTX 6000", "a40": "A40"},
    "sailor": {"V100-16": V100, "A100-40": "A100 SXM 40GB"},
}

# Forward operations of a sample, a multiply-add being two: a transformer layer of width d on n tokens 24 n d^2 + 4 n^2 d.
_BERT_BASE_128, _BERT_BASE_384 = 22.4, 71.0
NETWORKS: Mapping[str, tuple[str, float | None]] = {
    "pipefisher/bert-base": ("bert", 1.86),  # one layer, 128 tokens
    "pipefisher/bert-large": ("bert", 3.29),  # one layer, 128 tokens
    "pipefisher/t5-base": ("t5", 8.05),  # one layer, 512 tokens
    "pipefisher/t5-large": ("t5", 13.95),
    "pipefisher/opt-125m": ("opt", 41.9),  # one layer, 2048 tokens
    "pipefisher/opt-350m": ("opt", 68.7),
    "jabas/resnet50": ("resnet50", 8.2),
    "sia/imagenet": ("resnet50", 8.2),
    "sia/cifar10": ("resnet18", 1.11),
    "sia/bert": ("bert", _BERT_BASE_384),
    "virtualflow/bert-glue-CoLA": ("bert", _BERT_BASE_128),
    "virtualflow/bert-glue-SST-2": ("bert", _BERT_BASE_128),
    "virtualflow/resnet-cifar10": ("resnet-cifar", 0.25),
    "virtualflow/transformer": ("transformer", None),
    "gavel/ResNet-50": ("resnet50", 8.2),
    "gavel/ResNet-18": ("resnet18", 1.11),
    "gavel/Transformer": ("transformer", None),
    "gavel/LM": ("lstm", None),
    "tensorflow_2017/InceptionV3": ("inception", 11.4),
    "tensorflow_2017/ResNet-50": ("resnet50", 8.2),
    "tensorflow_2017/ResNet-152": ("resnet152", 23.0),
    "tensorflow_2017/AlexNet": ("alexnet", 1.43),
    "tensorflow_2017/VGG16": ("vgg", 31.0),
    "zeus/imagenet/resnet50/adadelta": ("resnet50", 8.2),
    "zeus/cifar100/shufflenetv2/adadelta": ("shufflenet", 0.09),
    "zeus/squad/bert_base_uncased/adamw": ("bert", _BERT_BASE_384),
    "zeus/sentiment140/bert_base_uncased/adamw": ("bert", None),
    "sailor/GPT-Neo-2.7": ("gpt-neo", 365.0),  # one layer, 2048 tokens
    "sailor/OPT-350": ("opt", 68.7),  # one layer, 2048 tokens
}
SET_ASIDE: Mapping[str, str] = {
    "gavel/Recommendation": "a step grows as the batch shrinks",
    "sia/ncf": "flat: the host alone",
    "zeus/movielens-1m/ncf/adam": "flat: the host alone",
    "sia/deepspeech2": "samples of unlike length, decoded on the host",
    "zeus/librispeech/deepspeech2/adamw": "samples of unlike length, decoded on the host",
    "sia/yolov3": "steps rise and fall with the batch",
}
_TF32 = ("pipefisher", "sia", "zeus", "sailor")
"""Sources of PyTorch 1.7 to 1.11, which computes float32 products in TF32 on GPUs that have it."""

_DATASET = {"imagenet": 1_281_167, "cifar100": 50_000, "squad": 88_524}
"""Samples in an epoch; for others 100 000, which cancels between devices."""


def data_folder() -> Path:
    """Where the published data lies: $HETSIM_PUBLIC_DATA, else `shared/data` beside the checkout."""
    return Path(os.environ.get(DATA_VARIABLE) or Path(__file__).resolve().parents[2] / "shared" / "data")


def workloads(folder: Path) -> list[Workload]:
    """All workloads that at least two GPUs of the catalogue were timed with."""
    samples: dict[tuple[str, str], dict[str, dict[float, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for source, read in _READERS.items():
        for network, gpu, batch, seconds in read(folder / source):
            device = DEVICES[source].get(gpu)
            if device is not None and not _faulty(source, network, gpu, batch):
                samples[source, network][device][batch].append(seconds)
    found = []
    for (source, network), devices in samples.items():
        curves = {device: {b: median(s) for b, s in sorted(points.items())} for device, points in devices.items()}
        if len(curves) > 1:
            name = f"{source}/{network}"
            family, flops = NETWORKS.get(name, (network, None))
            kind: Format = "tf32" if source in _TF32 else "float32"
            found.append(Workload(source, network, family, kind, flops, curves, SET_ASIDE.get(name, "")))
    return found


def step_curves(folder: Path) -> dict[tuple[str, str, str], Curve]:
    """Every curve by (source, network, the source's own name of the GPU), in rising order of batch; each once.

    Some tables are given twice in a source, under two names. Raises OSError where a file lacks.
    """
    samples: dict[tuple[str, str, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for source, read in _READERS.items():
        for network, gpu, batch, seconds in read(folder / source):
            if not _faulty(source, network, gpu, batch):
                samples[source, network, gpu][batch].append(seconds)
    curves = {key: {b: median(points[b]) for b in sorted(points)} for key, points in samples.items()}
    first = {(key[:2], tuple(curve.items())): key for key, curve in reversed(curves.items())}
    return {key: curve for key, curve in curves.items() if first[key[:2], tuple(curve.items())] == key}


def _faulty(source: str, network: str, gpu: str, batch: float) -> bool:
    """Points that the data itself gives away as copies of others."""
    if source == "gavel" and network == "Transformer":
        return batch == 256 and gpu == "v100"  # the P100's figure to the last digit
    return (
        source == "virtualflow" and network == "transformer" and batch > 128
    )  # the data set's largest batch again and again


Points = Iterator[tuple[str, str, float, float]]
"""Network, GPU, samples, seconds."""


def _rows(file: Path) -> Iterator[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def _pipefisher(folder: Path) -> Points:
    for row in _rows(folder / "per_layer_time_memory.csv"):
        yield row["model"], row["gpu"], float(row["bs"]), (float(row["time_f"]) + float(row["time_b"])) / 1e3


def _jabas(folder: Path) -> Points:
    for row in _rows(folder / "compute_profile.csv"):
        if row["virtual_workers_per_gpu"] == "1":
            milliseconds = float(row["forward_ms"]) + float(row["backward_ms"]) + float(row["update_ms"])
            yield row["model"], row["gpu"], float(row["local_batch"]), milliseconds / 1e3


def _sia(folder: Path) -> Points:
    for row in _rows(folder / "step_times.csv"):
        if row["num_gpus"] == "1":
            yield row["app"], row["cluster"], float(row["local_batch"]), float(row["step_time_s"])


def _virtualflow(folder: Path) -> Points:
    for row in _rows(folder / "single_gpu_batch_profile.csv"):
        if float(row["examples_per_s"] or 0) > 0:
            yield row["workload"], row["gpu"], float(row["batch"]), float(row["batch"]) / float(row["examples_per_s"])


def _gavel(folder: Path) -> Points:
    for row in _rows(folder / "throughputs.csv"):
        single = row["table"] == "motivation" and row["num_gpus"] == "1" and row["batch_per_gpu"]
        if single and float(row["steps_per_s"]) > 0:
            yield row["model"], row["gpu"], float(row["batch_per_gpu"]), 1 / float(row["steps_per_s"])


def _tensorflow(folder: Path) -> Points:
    for row in _rows(folder / "images_per_second.csv"):
        if row["num_gpus"] == "1" and row["data"] == "synthetic":
            batch = float(row["batch_per_gpu"])
            yield row["model"], row["gpu"], batch, batch / float(row["images_per_s"])


def _zeus(folder: Path) -> Points:
    """At the highest power limit of each setting."""
    best: dict[tuple[str, ...], tuple[float, float]] = {}
    for row in _rows(folder / "epoch_time_power.csv"):
        key = (row["dataset"], row["network"], row["optimizer"], row["gpu"], row["batch_size"])
        found = (float(row["power_limit_W"]), float(row["time_per_epoch_s"]))
        best[key] = max(best.get(key, found), found)
    for (dataset, network, optimizer, gpu, batch), (_, epoch_s) in best.items():
        steps = _DATASET.get(dataset, 100_000) / float(batch)
        yield f"{dataset}/{network}/{optimizer}", gpu, float(batch), epoch_s / steps


def _sailor(folder: Path) -> Points:
    """One inner transformer layer."""
    for row in _rows(folder / "layer_times.csv"):
        if row["tp"] == "1" and row["layer"] == "3" and row["model"] in ("GPT-Neo-2.7", "OPT-350"):
            yield row["model"], row["gpu"], float(row["micro_batch"]), float(row["forward_s"]) + float(row["backward_s"])


_READERS: Mapping[str, Callable[[Path], Points]] = {
    "pipefisher": _pipefisher,
    "jabas": _jabas,
    "sia": _sia,
    "virtualflow": _virtualflow,
    "gavel": _gavel,
    "tensorflow_2017": _tensorflow,
    "zeus": _zeus,
    "sailor": _sailor,
}
