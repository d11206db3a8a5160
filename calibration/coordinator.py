"""Calibrates a scenario: decides what is missing, has the workers time it, stores each point, makes the cost tables."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from calibration.fingerprint import fingerprint
from calibration.keys import network_key
from calibration.points import Point, curve_microbatches, gradient_sizes, message_sizes
from calibration.store import SampleStore, digest
from calibration.table import Closing, Conditions, closing, conditions, cost_table
from calibration.turns import representatives, sharing, turns
from calibration.workers import Workers
from hetsim.costs import CostTable
from hetsim.costs.files import write_layer_costs, write_transfer_costs
from hetsim.economics import Power
from hetsim.hardware import Device
from hetsim.scenario.types import Scenario
from hetsim.workload import Chain

CHECKED_SHARE = 8
"""The speed is looked at between steps of this part of the first network's batch."""

CROWD_ROUNDS = 3

RECENT_S = 3600.0
"""The cost tables hold for the median speed of so long before the latest look at it: single looks stray by some per cent."""


class Progress(Protocol):
    """Told as the measuring goes on."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """What is being measured, with its running median; points done; points in all."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    budget_s: float = 5.0
    """For one point; at least three steps are timed whatever they take."""

    precision: float = 0.01
    """Stop earlier once the median's 95 % interval is within this share of it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a calibration knows about one network."""

    table: CostTable
    closing: tuple[Closing, ...]
    conditions: tuple[Conditions, ...]


class Calibration:
    """The cost directory of a scenario: what has been measured, and the means to measure what is missing."""

    def __init__(self, scenario: Scenario, chains: Mapping[str, Chain], directory: Path) -> None:
        self._scenario = scenario
        self._specs = {spec.name: spec for spec in scenario.networks}
        self._chains = chains
        self._directory = directory
        self._store = SampleStore(directory)
        self._prints: dict[str, Mapping[str, Any]] = {
            name: fingerprint(device, scenario.cluster.device_types[name], scenario.cluster.node_of(device.name))
            for name, device in representatives(scenario.cluster).items()
        }
        self.identities = {
            name: {key: value for key, value in found.items() if key not in ("method", "environment")}
            for name, found in self._prints.items()
        }
        """Device type -> what its first device physically is, today."""

    @property
    def fingerprints(self) -> Mapping[str, Mapping[str, Any]]:
        """Device type -> what its timings depend on."""
        return self._prints

    @property
    def powers(self) -> dict[str, Power]:
        """Device type -> what its devices drew while their layers were timed and before that, where they told."""
        busy: dict[str, list[float]] = {}
        idle: dict[str, list[float]] = {}
        for row in self._rows("layers"):
            if "power_w" in row:
                busy.setdefault(row["device_type"], []).append(statistics.median(row["power_w"]))
            if "idle_w" in row:
                idle.setdefault(row["device_type"], []).append(row["idle_w"])
        # The least: a worker that starts when another has just ended finds its device warm.
        return {kind: Power(statistics.median(w), min(idle[kind]) if kind in idle else None) for kind, w in busy.items()}

    def outdated(self) -> dict[str, Mapping[str, Any]]:
        """Device type -> the fingerprint under which it was last measured, where nothing is on file under today's."""
        latest = {row["device_type"]: row["fingerprint"] for row in self._store if row["kind"] == "layers"}
        current = {row["device_type"] for row in self._rows("layers")}
        return {kind: latest[kind] for kind in self._prints if kind in latest and kind not in current}

    def take_outdated(self) -> None:
        """From here on the outdated measurements count as if they were today's. For planning alone, not for measuring."""
        self._prints |= self.outdated()

    def missing(self, points: Mapping[str, Sequence[Point]]) -> dict[str, list[Point]]:
        """Of `points` by network, those of which some device type is not on file yet."""
        gaps = {network: [p for p in rows if self._is_missing(network, p)] for network, rows in points.items()}
        return {network: rows for network, rows in gaps.items() if rows}

    def _is_missing(self, network: str, point: Point) -> bool:
        return any(self._layer_key(network, *part, point) not in self._store for part in point.microbatches)

    def missing_links(self) -> bool:
        """Whether the links have still to be timed."""
        if len(self._scenario.cluster.devices) < 2:
            return False
        timed = self._rows("links")
        return any(
            not set(wanted) <= {size for row in timed for size in row["sizes"][what]}
            for what, wanted in self._link_sizes().items()
        )

    def missing_runtime(self) -> bool:
        """Whether nobody has looked yet at what the runtime takes beside the layers."""
        return self._runtime_key() not in self._store

    def keep_runtime(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep what was seen of the runtime: rows with operation, group, size_bytes and seconds."""
        with self._store.locked():
            about = {"kind": "runtime", "places": self._places(), "fingerprint": self._prints}
            self._store.add(self._runtime_key(), {**about, "transfers": rows})
        self.write_tables()

    def measure(
        self,
        points: Mapping[str, Sequence[Point]],
        effort: Effort,
        on_progress: Progress | None = None,
    ) -> None:
        """Measure what `points`, by network, and the links lack. Each point is on disk before the next one begins."""
        gaps = [(network, point) for network, rows in self.missing(points).items() for point in rows]
        random.Random(self._scenario.seed).shuffle(gaps)  # noqa: S311 - so that a drift of the machine is no slope of a curve
        total = len(gaps) + self.missing_links()
        report = on_progress or _silent
        with ExitStack() as stack:
            if total:
                stack.enter_context(self._store.locked())
            workers: Workers | None = None
            if self.missing_links():
                workers = stack.enter_context(self._workers())
                report("links", 0, total)
                self._measure_links(workers, lambda what: report(f"links: {what}", 0, total))
            for done, (network, point) in enumerate(gaps, total - len(gaps)):
                if not self._is_missing(network, point):
                    continue  # it was part of an earlier one
                workers = workers or stack.enter_context(self._workers())
                told = partial(report, done=done, total=total)
                told(f"{network}: {point}")
                if point.crowd:
                    self._measure_crowd(workers, network, point)
                else:
                    self._measure_point(workers, network, point, effort, told)
        if total:
            report("done", total, total)
        self.write_tables()

    def measured(self, network: str) -> Measured:
        """All that is on file for `network` under today's fingerprints."""
        points = [row for row in self._rows("layers") if row["network_key"] == self._network_key(network)]
        rows = [transfer for kind in ("links", "runtime") for row in self._rows(kind) for transfer in row["transfers"]]
        # Links are timed again where a network needs other sizes; of what was timed twice, the latest counts.
        transfers = {(row["operation"], *row["group"], row["size_bytes"]): row for row in rows}.values()
        alone, crowd = (
            [row for row in self._rows(kind) if row["network_key"] == self._network_key(network)]
            for kind in ("alone", "crowd")
        )
        table = cost_table(network, points, transfers, self._canaries(), alone, crowd)
        return Measured(table, closing(points), conditions(points))

    def check_speed(self) -> None:
        """Look at how fast the devices are now; from here on the cost tables hold for that speed. Takes some seconds."""
        spec = self._scenario.networks[0]
        microbatch = max(1, spec.training.global_batch // CHECKED_SHARE)
        command = {"do": "check", "network": spec.name, "microbatch": microbatch}
        cluster = self._scenario.cluster
        results: dict[str, Any] = {}
        with self._workers() as workers:
            for group in turns(cluster, cluster.devices):
                results = workers.ask({device.name: command for device in group}) | results
        for kind, device in representatives(cluster).items():
            about = {"kind": "check", "device_type": kind, "fingerprint": self._prints[kind], "at_s": time.time()}
            self._store.add(digest("check", self._prints[kind], results), about | results[device.name])
        self.write_tables()

    def write_tables(self) -> None:
        """Write the cost tables as CSV beside the samples."""
        transfers: tuple[Any, ...] = ()
        for spec in self._scenario.networks:
            measured = self.measured(spec.name)
            if measured.table.layers:
                write_layer_costs(self._directory / f"{spec.name}.csv", measured.table.layers, measured.table.notes)
                transfers = measured.table.transfers
        if transfers:
            write_transfer_costs(self._directory / "transfers.csv", transfers)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _workers(self) -> Workers:
        s = self._scenario
        return Workers(s.cluster.devices, s.cluster, s.networks, s.seed, self._directory / "logs")

    def _measure_point(
        self, workers: Workers, network: str, point: Point, effort: Effort, report: Callable[[str], None]
    ) -> None:
        """Time a point, in turns where devices share cores; all others rest while some are timed alone or in turns."""
        cluster = self._scenario.cluster
        kept = {device.name for device in representatives(cluster).values()}
        sizes = dict(point.microbatches)
        common: dict[str, Any] = {"do": "measure", "network": network, "in_flight": point.in_flight, **asdict(effort)}
        common["accumulate"] = self._tells_accumulation(network, point)

        def on_progress(name: str, progress: Mapping[str, Any]) -> None:
            if name in kept:
                report(f"{network} × {sizes[cluster.device(name).type]} on {name}: {progress['median_s'] * 1e3:.1f} ms")

        groups = turns(cluster, [d for d in cluster.devices if d.type in sizes and (d.name in kept or not point.alone)])
        for group in groups:
            timed = [
                d
                for d in group
                if d.name in kept and self._layer_key(network, d.type, sizes[d.type], point) not in self._store
            ]
            if not timed:
                continue
            if point.alone or len(groups) > 1:
                self._rest(workers)
            results = workers.ask({d.name: {**common, "microbatch": sizes[d.type]} for d in group}, on_progress)
            if point.alone or len(groups) > 1:
                self._rest(workers)
            for device in timed:
                told = {"in_flight": point.in_flight, **results[device.name]}
                self._keep("alone" if point.alone else "layers", network, device.type, sizes[device.type], point, told)

    def _measure_crowd(self, workers: Workers, network: str, point: Point) -> None:
        """Time the devices that share cores in turns and all at once, again and again, so that drift hits both alike."""
        cluster = self._scenario.cluster
        sizes = dict(point.microbatches)
        crowd = [device for device in cluster.devices if device.type in sizes]
        told = {kind: next(d.name for d in sharing(cluster) if d.type == kind) for kind in sizes}
        found: dict[str, dict[str, list[list[float]]]] = {kind: {"apart_s": [], "crowd_s": []} for kind in sizes}
        for _ in range(CROWD_ROUNDS):
            apart: dict[str, list[float]] = {}
            for group in [*turns(cluster, crowd), crowd]:
                self._rest(workers)
                commands = {d.name: {"do": "share", "network": network, "microbatch": sizes[d.type]} for d in group}
                together = workers.ask(commands)
                if group is not crowd:
                    apart = together | apart
            for kind, name in told.items():
                found[kind]["apart_s"].append(apart[name])
                found[kind]["crowd_s"].append(together[name])
        self._rest(workers)
        for kind, size in sizes.items():
            self._keep("crowd", network, kind, size, point, found[kind])

    def _keep(
        self, what: str, network: str, device_type: str, microbatch: int, point: Point, told: Mapping[str, Any]
    ) -> None:
        """Write a point down."""
        about: dict[str, Any] = {
            "kind": what,
            "network": network,
            "network_key": self._network_key(network),
            "device_type": device_type,
        }
        about |= {"microbatch": microbatch, "fingerprint": self._prints[device_type], "at_s": time.time()}
        self._store.add(self._layer_key(network, device_type, microbatch, point), {**about, **told})

    def _rest(self, workers: Workers) -> None:
        workers.ask({device.name: {"do": "rest"} for device in self._scenario.cluster.devices})

    def _measure_links(self, workers: Workers, report: Callable[[str], None]) -> None:
        """Time the links among the devices of each backend; of those between a CPU and a GPU only the scenario tells."""
        devices = self._scenario.cluster.devices
        sizes = self._link_sizes()
        rows: list[Mapping[str, Any]] = []
        for backend in sorted({self._backend(device) for device in devices}):
            among = [device for device in devices if self._backend(device) == backend]
            rows += self._links_among(among, sizes, workers, report)
        about = {"kind": "links", "places": self._places(), "sizes": sizes, "fingerprint": self._prints}
        self._store.add(digest("links", self._places(), sizes, self._prints), {**about, "transfers": _merge_stamps(rows)})

    def _links_among(
        self, devices: Sequence[Device], sizes: Mapping[str, list[int]], workers: Workers, report: Callable[[str], None]
    ) -> list[Mapping[str, Any]]:
        names = [device.name for device in devices]
        with TemporaryDirectory(dir=self._directory) as folder:  # which other hosts share, where there are any
            meeting = (Path(folder).resolve() / "meeting").as_uri()
            common: dict[str, Any] = {"do": "links", "names": names, "meeting": meeting, **sizes}
            common["turns"] = [[names.index(d.name) for d in group] for group in turns(self._scenario.cluster, devices)]
            commands = {name: {**common, "rank": rank} for rank, name in enumerate(names)}
            results = workers.ask(commands, lambda _name, told: report(told["what"]))
        return [row for name in names for row in results[name]]

    def _backend(self, device: Device) -> str:
        return self._scenario.cluster.device_types[device.type].backend

    def _link_sizes(self) -> dict[str, list[int]]:
        sends: set[int] = set()
        reduces: set[int] = set()
        for spec in self._scenario.networks:
            chain, batch = self._chains[spec.name], spec.training.global_batch
            sends |= set(message_sizes(chain, batch))
            reduces |= set(gradient_sizes(chain, self._scenario.cluster))
        return {"send_bytes": sorted(sends), "reduce_bytes": sorted(reduces)}

    def _tells_accumulation(self, network: str, point: Point) -> bool:
        """Whether adding to gradients is timed at `point`: at the smallest microbatch, of whose step it is the largest part."""
        smallest = min(curve_microbatches(self._specs[network], self._scenario.search))
        return point.in_flight == 1 and not point.alone and all(size == smallest for _, size in point.microbatches)

    def _canaries(self) -> dict[str, list[float]]:
        """Device type -> its canary beside each recent point and check: the median of each."""
        looks: dict[str, list[Mapping[str, Any]]] = {}
        for row in self._store:
            if row["kind"] in ("layers", "check") and self._is_current(row):
                looks.setdefault(row["device_type"], []).append(row)
        return {kind: [statistics.median(row["canary_s"]) for row in _recent(rows)] for kind, rows in looks.items()}

    def _rows(self, kind: str) -> list[dict[str, Any]]:
        return [row for row in self._store if row["kind"] == kind and self._is_current(row)]

    def _is_current(self, row: Mapping[str, Any]) -> bool:
        if row["kind"] in ("links", "runtime"):
            return bool(row["fingerprint"] == self._prints and row.get("places") == self._places())
        return bool(row["fingerprint"] == self._prints.get(row["device_type"]))

    def _layer_key(self, network: str, device_type: str, microbatch: int, point: Point) -> str:
        kind = "crowd" if point.crowd else "alone" if point.alone else "layers"
        crowd = [(device.type, device.cores) for device in sharing(self._scenario.cluster)] if point.crowd else []
        what = (self._network_key(network), device_type, self._prints[device_type], microbatch, point.in_flight)
        return digest(kind, *crowd, *what)

    def _runtime_key(self) -> str:
        return digest("runtime", self._places(), self._prints)

    def _places(self) -> list[list[Any]]:
        """What links lie between, as JSON has it: each device's name and cores."""
        return [[device.name, list(device.cores)] for device in self._scenario.cluster.devices]

    def _network_key(self, network: str) -> str:
        return network_key(self._specs[network], self._scenario.seed)


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def _recent(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    latest_s = max(row["at_s"] for row in rows)
    return [row for row in rows if row["at_s"] >= latest_s - RECENT_S]


def _merge_stamps(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row an operation: seconds from the last rank's start to the last rank's end, for each repeat."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["stamps_ns"]:
            groups.setdefault(json.dumps([row["operation"], row["group"], row["size_bytes"]]), []).append(row)
    merged = []
    for key, ranks in groups.items():
        operation, group, size_bytes = json.loads(key)
        taking_part = ranks if len(group) > 1 else ranks[:1]  # what one device does by itself, the first of its type tells
        repeats = zip(*(rank["stamps_ns"] for rank in taking_part), strict=True)
        seconds = [(max(e for _, e in stamps) - max(s for s, _ in stamps)) / 1e9 for stamps in repeats]
        merged.append({"operation": operation, "group": group, "size_bytes": size_bytes, "seconds": seconds})
    return merged
