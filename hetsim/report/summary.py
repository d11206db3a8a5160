"""What a timeline or a cost table comes to: shares of the step, batch curves, counts of points."""

from __future__ import annotations

from collections import Counter, defaultdict

from hetsim.communication import busy_and_exposed_ns
from hetsim.costs import CostTable
from hetsim.memory import MemoryUse
from hetsim.plan import Plan
from hetsim.report.rows import BatchCurve, CostSummary, DeviceRow
from hetsim.timeline import Timeline
from hetsim.units import format_bytes


def ordered_devices(timeline: Timeline, plan: Plan) -> tuple[str, ...]:
    """Devices of `timeline` in the order of the plan; those that the plan does not know come last."""
    present = timeline.devices
    return (*(d for d in plan.devices if d in present), *(d for d in present if d not in plan.devices))


def summarise_devices(timeline: Timeline, plan: Plan, *, network: str, case: str, label: str) -> tuple[DeviceRow, ...]:
    """How each device spends the step of `timeline`; `label` says whether it is predicted or measured."""
    spent_ns = busy_and_exposed_ns(timeline, plan)
    step_ns = max((span.end_ns for span in timeline.spans), default=0)
    rows = []
    for device in ordered_devices(timeline, plan):
        busy_ns, exposed_ns = spent_ns[device]
        parts_ns = (busy_ns, exposed_ns, step_ns - busy_ns - exposed_ns)
        rows.append(DeviceRow(network, case, label, device, *(part / step_ns if step_ns else 0.0 for part in parts_ns)))
    return tuple(rows)


def memory_text(use: MemoryUse) -> str:
    """`1.2 GiB of 4.0 GiB`; `≥` where what layers keep for their backwards is not known."""
    least = "" if use.activations_known else "≥ "
    of_what = "" if use.limit_bytes is None else f" of {format_bytes(use.limit_bytes)}"
    return f"{least}{format_bytes(use.peak_bytes)}{of_what}"


def summarise_costs(table: CostTable) -> CostSummary:
    """How many points of which provenance `table` has, and for what."""
    return CostSummary(
        network=table.network,
        source=table.source,
        device_types=tuple(dict.fromkeys(row.device_type for row in table.layers)),
        layers=len({row.layer for row in table.layers if not row.layer.startswith("@")}),
        points=dict(Counter(row.provenance for row in table.layers)),
        transfers=len(table.transfers),
        notes=table.notes,
    )


def batch_curves(table: CostTable) -> tuple[BatchCurve, ...]:
    """Seconds of the whole chain's forward and backward on each device type, at the microbatches that all layers have.

    Of plain costs alone: with several microbatches in flight the same size takes another time.
    """
    seconds: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in table.layers:
        if not row.layer.startswith("@") and row.tensor_parallel == 1 and row.in_flight == 1:
            seconds[row.device_type][row.microbatch][row.layer] = row.forward_s + row.backward_s
    curves = []
    for device_type, by_size in seconds.items():
        complete = max(len(layers) for layers in by_size.values())
        sizes = tuple(size for size in sorted(by_size) if len(by_size[size]) == complete)
        totals = tuple(sum(by_size[size].values()) for size in sizes)
        curves.append(BatchCurve(table.network, device_type, sizes, totals))
    return tuple(curves)
