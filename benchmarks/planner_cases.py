"""Generated planning problems: networks as numbers on mixed clusters from sixteen devices to three quarters of a thousand.

Nothing here is measured. Layers take operations over an achieved rate plus what starting their kernels takes, so that small
microbatches are inefficient, as they are on real devices; memory, peak rates and links are those of the data sheets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hetsim.costs import CostModel, CostTable, LayerCost
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.workload import Chain, Layer, Training

GIB = 1 << 30
MICROBATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What a data sheet says, and how well kernels do on it."""

    name: str
    flops_per_s: float
    """Achieved."""

    memory_bytes: int
    bytes_per_s: float
    """Of its memory, achieved: what optimizers are limited by."""

    launch_s: float
    """What a layer takes however small its work is."""


K80 = Accelerator("K80", 1.6e12, 12 * GIB, 170e9, 120e-6)
P100 = Accelerator("P100", 6.5e12, 16 * GIB, 550e9, 80e-6)
T4 = Accelerator("T4", 4.5e12, 16 * GIB, 240e9, 80e-6)
V100 = Accelerator("V100", 11e12, 16 * GIB, 700e9, 60e-6)
A100 = Accelerator("A100", 45e12, 40 * GIB, 1200e9, 50e-6)
H100 = Accelerator("H100", 120e12, 80 * GIB, 2500e9, 40e-6)


@dataclass(frozen=True, slots=True)
class PlanningCase:
    """One problem."""

    name: str
    costs: CostModel
    training: Training


def gpt(blocks: int, width: int, tokens: int = 1024, vocabulary: int = 50_000) -> Chain:
    """Embedding, blocks and head; a block has 12 width² parameters and 24 width² + 4 width tokens operations a token."""
    block = Layer(
        "", (4 * width * width, 8 * width * width), 4 * tokens * width, 60 * tokens * width,
        tokens * (24.0 * width * width + 4.0 * width * tokens),
    )  # fmt: skip
    embedding = Layer("embedding", (vocabulary * width,), 4 * tokens * width, 4 * tokens * width, 2.0 * tokens * width)
    head = Layer("head", (vocabulary * width,), 0, 8 * tokens * vocabulary, 2.0 * tokens * width * vocabulary)
    inner = [Layer(f"block{i}", block.parameters, *_sizes(block)) for i in range(blocks)]
    return Chain(f"gpt {blocks}x{width}", (embedding, *inner, head), 8 * tokens)


def vgg() -> Chain:
    """VGG-16: convolutions that compute, and three dense layers that hold 90 % of the parameters."""
    rows = []
    side, channels = 224, 3
    widths = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    for number, out in enumerate(widths):
        pool = number in (1, 3, 6, 9, 12)
        flops, parameters = 18.0 * channels * out * side * side, 9 * channels * out
        saved = 8 * out * side * side
        side, channels = side // 2 if pool else side, out
        rows.append(Layer(f"conv{number}", (parameters,), 4 * out * side * side, saved, flops))
    for number, (a, b) in enumerate([(25088, 4096), (4096, 4096), (4096, 1000)]):
        rows.append(Layer(f"dense{number}", (a * b,), 4 * b, 8 * b, 2.0 * a * b))
    return Chain("vgg16", tuple(rows), 4 * 3 * 224 * 224)


def resnet() -> Chain:
    """ResNet-50 by blocks: much computation, few parameters."""
    rows = [Layer("stem", (9408,), 4 * 64 * 56 * 56, 12 * 64 * 112 * 112, 2.4e8)]
    for stage, (blocks, width, side) in enumerate([(3, 64, 56), (4, 128, 28), (6, 256, 14), (3, 512, 7)]):
        for number in range(blocks):
            parameters = 17 * width * width
            activation = 4 * 4 * width * side * side
            rows.append(
                Layer(f"b{stage}.{number}", (parameters,), activation, 6 * activation, 2.0 * parameters * side * side)
            )
    rows.append(Layer("dense", (2048 * 1000,), 4000, 16_000, 4.1e6))
    return Chain("resnet50", tuple(rows), 4 * 3 * 224 * 224)


def case(
    name: str,
    chain: Chain,
    parts: Sequence[tuple[Accelerator, int, int]],
    batch: int,
    network_gbit_per_s: float,
    optimizer: str = "sgd",
) -> PlanningCase:
    """`parts`: (accelerator, devices, devices a node)."""
    network = Link("network", 20e-6, network_gbit_per_s * 1e9 / 8)
    nodes = []
    for accelerator, count, width in parts:
        inside = Link("inside", 8e-6, 100e9 if accelerator.memory_bytes > 16 * GIB else 11e9)
        for first in range(0, count, width):
            node = f"{accelerator.name.lower()}-{first // width}"
            devices = [Device(f"{node}.{i}", accelerator.name, node) for i in range(min(width, count - first))]
            nodes.append(Node(node, tuple(devices), inside))
    types = {a.name: DeviceType(a.name, memory_bytes=a.memory_bytes, peak_flops_per_s=a.flops_per_s) for a, _, _ in parts}
    table = CostTable(chain.name, tuple(_rows(chain, [a for a, _, _ in parts])))
    training = Training(batch, "adamw" if optimizer == "adamw" else "sgd")
    return PlanningCase(name, CostModel(chain, Cluster(tuple(nodes), types, network), table), training)


def _sizes(layer: Layer) -> tuple[int, int, float]:
    return layer.output_bytes_per_sample, layer.saved_bytes_per_sample, layer.forward_flops_per_sample


def _rows(chain: Chain, accelerators: Sequence[Accelerator]) -> Iterator[LayerCost]:
    for a in accelerators:
        for layer in chain.layers:
            update_s = 5 * 4 * layer.parameter_count / a.bytes_per_s  # reads three values of a parameter and writes two
            for m in MICROBATCHES:
                forward_s = m * layer.forward_flops_per_sample / a.flops_per_s + a.launch_s
                yield LayerCost(a.name, layer.name, m, forward_s, 2 * forward_s, update_s)


def cases(size: int) -> list[PlanningCase]:
    """The problems with `size` devices: 16, 128, 512 or 768."""
    half, third = size // 2, size // 3
    rest, many = size - 2 * third, size // 16
    volta_kepler = [(V100, half, 4), (K80, half, 8)]
    three_old = [(V100, third, 4), (P100, third, 4), (K80, rest, 8)]
    three = [(A100, third, 8), (V100, third, 4), (P100, rest, 4)]
    three_new = [(H100, third, 8), (A100, third, 8), (V100, rest, 4)]
    rows = [
        ("resnet50, V100 and K80, 10 Gbit/s", resnet(), volta_kepler, 512, 10.0),
        ("resnet50, V100, P100 and K80, 25 Gbit/s", resnet(), three_old, 1000, 25.0),
        ("vgg16, V100 and P100, 10 Gbit/s", vgg(), [(V100, half, 4), (P100, half, 4)], 512, 10.0),
        ("vgg16, A100 and T4, 100 Gbit/s", vgg(), [(A100, half, 8), (T4, half, 4)], 777, 100.0),
        ("gpt 24x1024, V100 and T4, 25 Gbit/s", gpt(24, 1024), [(V100, half, 4), (T4, half, 4)], 128, 25.0),
        ("gpt 24x1024, A100, V100 and P100, 100 Gbit/s", gpt(24, 1024), three, 256, 100.0),
        ("gpt 32x2560, A100 and V100, 100 Gbit/s", gpt(32, 2560), [(A100, half, 8), (V100, half, 4)], 128, 100.0),
        ("gpt 48x2048, H100, A100 and V100, 200 Gbit/s", gpt(48, 2048), three_new, 192, 200.0),
    ]
    adam = ("gpt 32x2560", "gpt 48x2048")
    return [
        case(f"{size} devices, {name}", chain, parts, batch * many, speed, "adamw" if name.startswith(adam) else "sgd")
        for name, chain, parts, batch, speed in rows
    ]
