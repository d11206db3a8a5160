"""Which microbatches to measure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hetsim.exchange import buckets
from hetsim.hardware import Cluster
from hetsim.plan import Plan, Replica, Stage
from hetsim.scenario.types import NetworkSpec, Search
from hetsim.workload import Chain

CURVE_POINTS = 4
"""Beyond four points by log scale, interpolation error of published curves no longer falls."""


def curve_microbatches(spec: NetworkSpec, search: Search) -> tuple[int, ...]:
    """Microbatches by log scale that span what plans may ask for: from the smallest of a pipeline to the whole batch."""
    batch = spec.training.global_batch
    pipelined = [batch // m for m in search.microbatches if batch % m == 0]
    smallest = max(1, min(pipelined, default=batch), batch // 16)
    ratio = (batch / smallest) ** (1 / (CURVE_POINTS - 1))
    return tuple(sorted({round(smallest * ratio**i) for i in range(CURVE_POINTS)} | {batch}))


def plan_microbatches(plans: Iterable[Plan], cluster: Cluster) -> tuple[Mapping[str, int], ...]:
    """The microbatches at which `plans` use each device type: one mapping a plan, all of it to be measured at once."""
    rows = []
    for plan in plans:
        point: dict[str, int] = {}
        for replica in plan.replicas:
            for device in replica.devices:
                point.setdefault(cluster.device(device).type, replica.microbatch_samples)
        rows.append(point)
    return tuple(rows)


def message_sizes(chain: Chain, batch: int) -> tuple[int, ...]:
    """Bytes of messages to time: by powers of eight from 1 KiB to the largest that a pipeline of this network can send."""
    largest = max((chain.boundary_bytes_per_sample(cut) * batch for cut in range(1, len(chain))), default=1024)
    return _powers(1024, largest, 8)


def gradient_sizes(chain: Chain, cluster: Cluster) -> tuple[int, ...]:
    """Bytes of all-reduces to time: powers of eight, and the very buckets of data parallelism over all devices."""
    whole = Plan(tuple(Replica((Stage(device.name, 0, len(chain)),), samples=1) for device in cluster.devices))
    exact = {bucket.size_bytes for bucket in buckets(whole, chain)}
    return tuple(sorted({*exact, *_powers(1024, max(exact, default=1024), 8)}))


def _powers(start: int, end: int, ratio: int) -> tuple[int, ...]:
    sizes = [start]
    while sizes[-1] < end:
        sizes.append(min(sizes[-1] * ratio, end))
    return tuple(sizes)
