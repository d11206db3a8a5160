"""A network on a mixed cluster, plans for it, and the cases of a validation."""

import pytest
from report_world import DATA_PARALLEL, HYBRID, PIPELINE, World

from hetsim.costs import CostTable, LayerCost
from hetsim.hardware import Cluster, Device, DeviceType, Link, Node
from hetsim.plan import Plan
from hetsim.report.rows import EVEN_SPLIT, CaseRow
from hetsim.workload import Chain, Layer


@pytest.fixture(scope="session")
def world() -> World:
    widths = (16, 16, 32, 32, 64, 64, 128, 128, 10)
    layers = tuple(
        Layer(f"conv{i}" if i < 8 else "head", (40_000 * width, width), 65536 // (i + 1), 65536, 1e6 * (i + 1))
        for i, width in enumerate(widths)
    )
    chain = Chain("small-cnn", layers, input_bytes_per_sample=3 * 32 * 32 * 4)
    types = {"fast": DeviceType("fast", "cpu", 4 << 30), "slow": DeviceType("slow", "cpu", 4 << 30, isa="sse4.2")}
    host = Link("host memory", 50e-6, 5e9)
    devices = tuple(Device(name, name[:4], "here") for name in ("fast0", "fast1", "slow0"))
    cluster = Cluster((Node("here", devices, host),), types, host)
    rows = [
        LayerCost(
            kind,
            layer.name,
            size,
            speed * (1e-3 + 2e-4 * size),
            speed * (2e-3 + 4.5e-4 * size),
            2e-4,
            spread=0.02,
            samples=30,
        )
        for kind, speed in (("fast", 1.0), ("slow", 3.9))
        for layer in layers
        for size in (1, 4, 16, 64)
    ]
    return World(chain, cluster, CostTable("small-cnn", tuple(rows), source="calibration/small-cnn.csv"))


@pytest.fixture(params=[DATA_PARALLEL, PIPELINE, HYBRID], ids=["data parallel", "pipeline", "hybrid"])
def plan(request: pytest.FixtureRequest) -> Plan:
    return Plan.parse(request.param)


@pytest.fixture
def cases() -> tuple[CaseRow, ...]:
    cnn, gpt = "small-cnn", "gpt-mini"
    hybrid = "fast0[0:10] > slow0[10:14] 12/6 | fast1[0:14] 4/1; 1f1b"
    return (
        CaseRow(cnn, EVEN_SPLIT, "fast0[0:9] 32/1 | slow0[0:9] 32/1", 0.452, 0.44, 0.469, 0.466, 0.461, 0.472),
        CaseRow(cnn, "chosen", "fast0[0:9] 52/1 | slow0[0:9] 12/1", 0.199, 0.192, 0.206, 0.204, 0.202, 0.207, True),
        CaseRow(cnn, "pipeline", "fast0[0:6] > slow0[6:9] 64/4; 1f1b", 0.243, 0.233, 0.252, 0.261, 0.257, 0.266),
        CaseRow(cnn, "fastest alone", "fast0[0:9] 64/1", 0.241, 0.237, 0.246),
        CaseRow(gpt, EVEN_SPLIT, "fast0[0:14] 8/2 | slow0[0:14] 8/2", 1.31, 1.24, 1.4, 1.36, 1.33, 1.38),
        CaseRow(gpt, "chosen", hybrid, 0.71, 0.66, 0.75, 0.69, 0.68, 0.71, True),
    )
