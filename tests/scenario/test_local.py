"""The clusters that a machine makes of itself."""

import os

import psutil
import pytest

from hetsim.errors import ScenarioError
from hetsim.hardware import DeviceType
from hetsim.scenario.local import cuda_cluster, local_cluster, mixed_cpu_cluster, usable_cores


def pinned(cluster):
    return [(device.name, device.type, device.cores) for device in cluster.devices]


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        ([3], [("fast0", "fast", (3,)), ("slow0", "slow", (3,))]),
        ([0, 1], [("fast0", "fast", (0,)), ("slow0", "slow", (1,))]),
        ([0, 2, 4], [("fast0", "fast", (0,)), ("slow0", "slow", (2,))]),
        (range(9), [("fast0", "fast", (0,)), ("slow0", "slow", (1,)), ("fast1", "fast", (2,)), ("slow1", "slow", (3,))]),
    ],
)
def test_cores_alternate_between_full_and_capped(cores, expected):
    cluster = mixed_cpu_cluster(list(cores), can_cap=True)
    memory_bytes = psutil.virtual_memory().total // len(expected)
    assert pinned(cluster) == expected
    assert cluster.device_types == {
        "fast": DeviceType("fast", "cpu", memory_bytes, isa="full", threads=1),
        "slow": DeviceType("slow", "cpu", memory_bytes, isa="sse4.2", threads=1),
    }


def test_where_nothing_can_be_capped_thread_counts_make_the_mix():
    cluster = mixed_cpu_cluster([4, 5, 6, 7], can_cap=False)
    assert pinned(cluster) == [("fast0", "fast", (4, 5)), ("slow0", "slow", (6,))]
    assert [(kind.isa, kind.threads) for kind in cluster.used_types] == [("full", 2), ("full", 1)]


@pytest.mark.parametrize(("cores", "got"), [([0], "1 usable core of"), ([0, 1], "2 usable cores of")])
def test_where_no_mix_can_be_made_the_error_says_what_would_do(cores, got):
    with pytest.raises(ScenarioError, match=f"got {got}.* expected an x86-64 processor or 3 cores.*Write the cluster out"):
        mixed_cpu_cluster(cores, can_cap=False)


def test_this_machine_pins_its_devices_to_cores_it_may_use():
    assert set(usable_cores()) <= set(range(os.cpu_count() or 1))
    cluster = local_cluster("mixed-cpu")
    assert {core for device in cluster.devices for core in device.cores} <= set(usable_cores())
    assert {kind.backend for kind in cluster.used_types} == {"cpu"}


def test_an_unknown_kind_of_local_cluster_is_refused():
    with pytest.raises(ScenarioError, match='got "tpu", expected mixed-cpu or cuda'):
        local_cluster("tpu")  # type: ignore[arg-type]


def test_gpus_of_one_name_are_one_type_as_large_as_the_smallest():
    gib = 2**30
    cluster = cuda_cluster(
        [("NVIDIA A100-SXM4-80GB", 79 * gib), ("Tesla K80", 11 * gib), ("NVIDIA A100-SXM4-80GB", 78 * gib)]
    )
    assert [(device.name, device.type, device.index) for device in cluster.devices] == [
        ("a100-sxm4-80gb0", "A100-SXM4-80GB", 0),
        ("tesla-k80-0", "Tesla K80", 1),
        ("a100-sxm4-80gb1", "A100-SXM4-80GB", 2),
    ]
    assert [(kind.backend, kind.memory_bytes) for kind in cluster.used_types] == [("cuda", 78 * gib), ("cuda", 11 * gib)]


def test_without_a_cuda_device_the_error_says_so():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA devices")
    with pytest.raises(ScenarioError, match="finds no CUDA device on this machine"):
        local_cluster("cuda")


@pytest.mark.cuda
def test_cuda_devices_are_found():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    cluster = local_cluster("cuda")
    assert [device.index for device in cluster.devices] == list(range(torch.cuda.device_count()))
    assert all(kind.memory_bytes for kind in cluster.used_types)
