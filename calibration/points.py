"""Which microbatches to measure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from calibration.turns import sharing
from hetsim.costs.gathered import FEW_IN_FLIGHT
from hetsim.exchange import buckets
from hetsim.hardware import Cluster
from hetsim.plan import Plan, Replica, Stage
from hetsim.scenario.types import NetworkSpec, Search
from hetsim.workload import Chain

MANY_IN_FLIGHT = 8
"""At most so many microbatches are put in flight to see what that costs; more would only be colder by little."""

CURVE_POINTS = 4
"""Beyond four points by log scale, interpolation error of published curves no longer falls."""


@dataclass(frozen=True, slots=True)
class Point:
    """What is measured at once, each device type on its own devices."""

    microbatches: tuple[tuple[str, int], ...]
    """(device type, samples), sorted."""

    in_flight: int = 1
    """Microbatches that are forward before the first is backward."""

    alone: bool = False
    """Whether all other devices rest meanwhile; then there is one device type."""

    crowd: bool = False
    """Whether the devices that share cores are timed in turns and then all at once."""

    @classmethod
    def of(cls, microbatches: Mapping[str, int], in_flight: int = 1) -> Point:
        """The point of a mapping from device type to samples."""
        return cls(tuple(sorted(microbatches.items())), in_flight)

    def __str__(self) -> str:
        sizes = ", ".join(f"{kind} × {size}" for kind, size in self.microbatches)
        if self.alone or self.crowd:
            return f"{sizes} ({'alone' if self.alone else 'sharing cores'})"
        return sizes if self.in_flight == 1 else f"{sizes} ({self.in_flight} in flight)"


def curve_points(spec: NetworkSpec, search: Search, cluster: Cluster) -> tuple[Point, ...]:
    """The points of the batch curves: plain steps, steps with several microbatches in flight as pipelines have them, the whole
    batch on one device while the others rest, and an even share of it on devices that share cores."""
    kinds = [kind.name for kind in cluster.used_types]
    plain = [Point.of(dict.fromkeys(kinds, size)) for size in curve_microbatches(spec, search)]
    batch = spec.training.global_batch
    counts = sorted(m for m in search.microbatches if m > 1 and batch % m == 0)
    pipelined = [
        Point.of(dict.fromkeys(kinds, batch // m), min(m, FEW_IN_FLIGHT)) for m in dict.fromkeys(counts[:1] + counts[-1:])
    ]
    several = len(cluster.devices) > 1
    needed = several and {"pipeline"} & set(search.strategies)
    alone = [Point(((kind, batch),), alone=True) for kind in kinds]
    share = max(1, batch // len(cluster.devices))
    crowded = dict.fromkeys((device.type for device in sharing(cluster)), share)
    crowd = [Point(tuple(sorted(crowded.items())), crowd=True)] if crowded else []
    return (*plain, *(pipelined if needed else ()), *(alone if several else ()), *crowd)


def curve_microbatches(spec: NetworkSpec, search: Search) -> tuple[int, ...]:
    """Microbatches by log scale that span what plans may ask for: from the smallest of a pipeline to the whole batch."""
    batch = spec.training.global_batch
    pipelined = [batch // m for m in search.microbatches if batch % m == 0]
    smallest = max(1, min(pipelined, default=batch), batch // 16)
    ratio = (batch / smallest) ** (1 / (CURVE_POINTS - 1))
    return tuple(sorted({round(smallest * ratio**i) for i in range(CURVE_POINTS)} | {batch}))


def plan_points(plans: Iterable[Plan], cluster: Cluster) -> tuple[Point, ...]:
    """The points at which `plans` use the device types, each once; what the devices of a plan do at once is one point."""
    rows: dict[Point, None] = {}
    for plan in plans:
        by_count: dict[int, list[dict[str, int]]] = {}
        for replica in plan.replicas:
            pipelined = len(replica.stages) > 1 and replica.microbatches > 1
            most = MANY_IN_FLIGHT if plan.schedule == "gpipe" else FEW_IN_FLIGHT
            groups = by_count.setdefault(min(replica.microbatches, most) if pipelined else 1, [])
            for device in replica.devices:
                _add(groups, cluster.device(device).type, replica.microbatch_samples)
        rows |= {Point.of(sizes, in_flight): None for in_flight, groups in by_count.items() for sizes in groups}
    return tuple(rows)


def _add(groups: list[dict[str, int]], kind: str, size: int) -> None:
    """Put `size` for the device type `kind` into the first group that has it or room for it; a group has one size for each type."""
    for group in groups:
        if group.setdefault(kind, size) == size:
            return
    groups.append({kind: size})


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
