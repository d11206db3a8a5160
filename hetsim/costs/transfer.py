"""Costs on a device type that nobody measured, from one that somebody did and the specifications of both.

What a device takes is split into three parts. The floor is the host's: it launches kernels at its own pace, whatever the device.
What the floating point operations explain at the rate that the measured device achieves is computing; the rest is memory. The
floor stays, computing scales by achieved rates of computing, memory by those of memory: a roofline with achieved rates (Williams,
Waterman and Patterson 2009) that measures the intensity instead of assuming it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final

from hetsim.costs.table import OF_ONE_DEVICE, STEP, CostTable, LayerCost, Operation, TransferCost
from hetsim.hardware import DeviceType
from hetsim.hardware.catalogue import Format, accelerator
from hetsim.hardware.rates import AchievedRates, achieved_rates
from hetsim.workload import Chain

BACKWARD_FLOPS: Final = 2.0
"""Operations of a backward over those of the forward: a product for the gradient of each of its two factors."""

USUAL_COMPUTE_SHARE: Final = 0.6
"""Share of computing in the time above the floor where nobody knows the operations."""

HOST_BOUND: Final = 1 / 3
"""Share of the floor in a time from which on the host says what it is more than the device."""

SPREADS: Final[Mapping[tuple[bool, bool], float]] = {
    (True, False): 0.36,
    (True, True): 0.53,
    (False, False): 0.71,
    (False, True): 0.71,
}
"""(step factors of both devices known, host-bound) -> half the 95 % interval, relative: 1.96 / 1.645 of the error that 90 % of
held-out published points keep below (`make accuracy-public`); where nothing is known of a device, the larger of the two."""

_HOSTS_OWN: Final[tuple[Operation, ...]] = (
    "post_send",
    "post_receive",
    "handle_send",
    "handle_receive",
    "hand_over",
    "begin",
    "bucket_tensor",
)
_MEMORY: Final[tuple[Operation, ...]] = ("bucket",)
_SAME: Final = 1e-6
"""Squared distance of logarithms below which two specifications are as good as one."""


def transferred_s(
    seconds: float, *, floor_s: float, flops: float | None, source: AchievedRates, target: AchievedRates
) -> float:
    """Seconds on `target` of what took `seconds` on `source`, of which the host's own are `floor_s`; `flops` None: unknown."""
    above_s = max(seconds - floor_s, 0.0)
    share = compute_share(above_s, flops, source)
    ratio = (share * source.flops_per_s / target.flops_per_s + (1 - share) * source.bytes_per_s / target.bytes_per_s) * (
        target.step_factor / source.step_factor
    )
    return min(floor_s, seconds) + above_s * ratio


def compute_share(above_s: float, flops: float | None, source: AchievedRates) -> float:
    """Share of `above_s` that `flops` explain at the achieved rate of `source`, 0 to 1."""
    if flops is None:
        return USUAL_COMPUTE_SHARE
    needed_s = flops / source.flops_per_s
    return needed_s / above_s if needed_s < above_s else 1.0 if needed_s else 0.0


def host_floor_s(points: Iterable[tuple[float, float]]) -> float:
    """Seconds that the host takes whatever the batch, of a curve of (samples, seconds): where its line meets no samples.

    The line is that of least squares of relative errors; the floor is not below 0 nor above any point. Fewer than three points
    tell no floor from a rough curve: 0.
    """
    rows = [(size, seconds) for size, seconds in points if seconds > 0]
    if len({size for size, _ in rows}) < 3:
        return 0.0
    # Errors relative to t: minimise the sum of ((a + b x) / t - 1)^2.
    aa = sum(1 / t**2 for _, t in rows)
    ab = sum(x / t**2 for x, t in rows)
    bb = sum((x / t) ** 2 for x, t in rows)
    a, b = sum(1 / t for _, t in rows), sum(x / t for x, t in rows)
    intercept = (a * bb - b * ab) / (aa * bb - ab**2)
    return min(max(intercept, 0.0), *(t for _, t in rows))


def blended_s(estimates: Sequence[tuple[float, AchievedRates]], target: AchievedRates) -> float:
    """What several measured devices foretell for `target`, in seconds: the nearer a specification, the more it counts.

    Inverse-distance weights (Shepard 1968) on logarithms of rates and seconds: one of the very specification decides alone.
    """
    if any(seconds <= 0 for seconds, _ in estimates):
        return fmean(seconds for seconds, _ in estimates)
    weights = [1 / (_SAME + _distance2(rates, target)) for _, rates in estimates]
    mean = sum(w * math.log(seconds) for w, (seconds, _) in zip(weights, estimates, strict=True)) / sum(weights)
    return math.exp(mean)


def spread(*, known: bool, host_share: float) -> float:
    """Half the 95 % interval of a transferred time, relative; `known`: of both chips the step factor is."""
    return SPREADS[known, host_share >= HOST_BOUND]


def rates_of(device_type: DeviceType, kind: Format) -> AchievedRates | None:
    """What a device type achieves by its entry in the catalogue; None where it names none, or that one lacks the format."""
    return achieved_rates(accelerator(device_type.catalogue), kind) if device_type.catalogue else None


@dataclass(frozen=True, slots=True)
class Transferred:
    """A cost table with what was added to it."""

    table: CostTable
    sources: Mapping[str, tuple[str, ...]]
    """Device type that was priced by transfer -> those measured that it was priced from."""


def with_transferred(table: CostTable, chain: Chain, device_types: Iterable[DeviceType], kind: Format) -> Transferred:
    """`table`, with costs of those of `device_types` that it has none of, where their and a measured one's specifications serve.

    The new rows have provenance `transferred`. Device types without an entry in the catalogue stay as they are.
    """
    rates = {one.name: found for one in device_types if (found := rates_of(one, kind)) is not None}
    priced = {row.device_type for row in table.layers if row.provenance != "transferred"}
    measured = {name: found for name, found in rates.items() if name in priced}
    wanted = [name for name in rates if name not in {row.device_type for row in table.layers}]
    if not measured or not wanted:
        return Transferred(table, {})
    view = _Measured(table, chain, measured)
    layers = [row for name in wanted for row in view.layers(name, rates[name])]
    own = [row for name in wanted for row in view.own_work(name, rates[name])]
    notes = tuple(f"{name}: nothing measured, transferred from {', '.join(measured)} by specification" for name in wanted)
    whole = replace(
        table, layers=table.layers + tuple(layers), transfers=table.transfers + tuple(own), notes=table.notes + notes
    )
    return Transferred(whole, dict.fromkeys(wanted, tuple(measured)))


def transferred_layers(
    table: CostTable, chain: Chain, measured: Mapping[str, AchievedRates], name: str, target: AchievedRates
) -> tuple[LayerCost, ...]:
    """The rows of a device type `name` that achieves `target`, from the rows of the `measured` types of `table`."""
    return tuple(_Measured(table, chain, measured).layers(name, target))


def transferred_types(table: CostTable) -> list[str]:
    """The device types of which the table has costs that were transferred."""
    return list(dict.fromkeys(row.device_type for row in table.layers if row.provenance == "transferred"))


@dataclass(frozen=True, slots=True)
class _Times:
    """One kind of seconds of a row, with its floor and operations."""

    seconds: float
    floor_s: float
    flops: float | None


class _Measured:
    """The rows of the measured device types, by what they are of."""

    def __init__(self, table: CostTable, chain: Chain, rates: Mapping[str, AchievedRates]) -> None:
        self._rates = rates
        self._flops = {layer.name: layer.forward_flops_per_sample for layer in chain.layers}
        self._flops_known = any(self._flops.values())
        self._transfers = table.transfers
        self._rows: dict[tuple[str, int, int, int], list[LayerCost]] = defaultdict(list)
        curves: dict[tuple[str, str, int, int], list[LayerCost]] = defaultdict(list)
        for row in table.layers:
            if row.device_type in rates and row.layer not in OF_ONE_DEVICE and row.provenance != "transferred":
                self._rows[row.layer, row.tensor_parallel, row.in_flight, row.microbatch].append(row)
                curves[_curve_of(row)].append(row)
        self._floors = {
            key: tuple(host_floor_s((r.microbatch, getattr(r, f)) for r in rows) for f in ("forward_s", "backward_s"))
            for key, rows in curves.items()
        }

    def layers(self, name: str, target: AchievedRates) -> Iterable[LayerCost]:
        """A row of `name` for each layer and microbatch that any of the measured types has."""
        for rows in self._rows.values():
            if rows[0].layer == STEP:
                # What a step costs whatever a device holds is the host's.
                times = [blended_s([(r.update_s, self._rates[r.device_type]) for r in rows], target)]
                forward_s, backward_s, update_s, host_share = 0.0, 0.0, times[0], 1.0
            else:
                forward_s, forward_floor_s = self._moved(rows, target, "forward_s")
                backward_s, backward_floor_s = self._moved(rows, target, "backward_s")
                update_s, _ = self._moved(rows, target, "update_s")
                total_s = forward_s + backward_s
                host_share = (forward_floor_s + backward_floor_s) / total_s if total_s else 0.0
            told = [row for row in rows if row.accumulate_s is not None]
            known = target.trained_on and all(self._rates[row.device_type].trained_on for row in rows)
            yield replace(
                rows[0],
                device_type=name,
                forward_s=forward_s,
                backward_s=backward_s,
                update_s=update_s,
                accumulate_s=self._moved(told, target, "accumulate_s")[0] if told else None,
                saved_bytes=max((row.saved_bytes for row in rows if row.saved_bytes is not None), default=None),
                spread=math.hypot(max(row.spread for row in rows), spread(known=known, host_share=host_share)),
                samples=0,
                provenance="transferred",
            )

    def own_work(self, name: str, target: AchievedRates) -> Iterable[TransferCost]:
        """What `name` spends by itself on communication: packing is memory's, posting the host's."""
        groups: dict[tuple[Operation, int], list[TransferCost]] = defaultdict(list)
        for row in self._transfers:
            if row.operation in (*_HOSTS_OWN, *_MEMORY) and row.group[0] in self._rates:
                groups[row.operation, row.size_bytes].append(row)
        for rows in groups.values():
            estimates = []
            for row in rows:
                source = self._rates[row.group[0]]
                floor_s = row.seconds if row.operation in _HOSTS_OWN else 0.0
                moved = transferred_s(row.seconds, floor_s=floor_s, flops=0.0, source=source, target=target)
                estimates.append((moved, source))
            yield replace(rows[0], group=(name,), seconds=blended_s(estimates, target), samples=0)

    def _moved(self, rows: Sequence[LayerCost], target: AchievedRates, field: str) -> tuple[float, float]:
        """Seconds on `target`, and the floor in them."""
        estimates, floors = [], []
        for row in rows:
            source, times = self._rates[row.device_type], self._times(row, field)
            moved = transferred_s(times.seconds, floor_s=times.floor_s, flops=times.flops, source=source, target=target)
            estimates.append((moved, source))
            floors.append((times.floor_s, source))
        return blended_s(estimates, target), blended_s(floors, target)

    def _times(self, row: LayerCost, field: str) -> _Times:
        if field in ("update_s", "accumulate_s"):
            return _Times(getattr(row, field), 0.0, 0.0)  # each parameter is read and written, and hardly reckoned with
        forward = field == "forward_s"
        floor_s = self._floors[_curve_of(row)][0 if forward else 1]
        seconds = row.forward_s if forward else row.backward_s
        return _Times(seconds, floor_s, self._operations(row, 1.0 if forward else BACKWARD_FLOPS))

    def _operations(self, row: LayerCost, factor: float) -> float | None:
        if row.layer.startswith("@"):
            return 0.0
        return self._flops.get(row.layer, 0.0) * row.microbatch * factor if self._flops_known else None


def _curve_of(row: LayerCost) -> tuple[str, str, int, int]:
    return row.device_type, row.layer, row.tensor_parallel, row.in_flight


def _distance2(a: AchievedRates, b: AchievedRates) -> float:
    return math.log(a.flops_per_s / b.flops_per_s) ** 2 + math.log(a.bytes_per_s / b.bytes_per_s) ** 2
