"""What the runtime takes beside the layers: small pipelines of a probe network are run as `hetsim run` runs them, and looked at.

Between two computations of a pipeline stands more than the call that posts a message: torch's runtime, the threads that carry
messages, and what all of them find in caches that a computation has just filled. None of it can be timed without running a
pipeline. So that no plan is fitted that is then predicted, the network is one of the probe's own.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hetsim.cli.progress import progress
from hetsim.cli.session import Session
from hetsim.costs import CostModel
from hetsim.costs.table import Operation
from hetsim.errors import CalibrationError, RankError
from hetsim.hardware import Cluster
from hetsim.plan import Plan
from hetsim.scenario.types import NetworkSpec
from hetsim.schedule import Action, Kind
from hetsim.timeline import Span, Timeline
from hetsim.workload import Training

WIDTH, DEPTH = 512, 8
SAMPLES, MICROBATCHES = 256, 8
MESSAGE_BYTES = SAMPLES // MICROBATCHES * WIDTH * 4
"""What the probe sends: float32 activations of a microbatch."""

STEPS = 20

_COMPUTED = (Kind.FORWARD, Kind.BACKWARD, Kind.UPDATE)
_HANDLED: dict[Kind, Operation] = {
    Kind.SEND_F: "handle_send",
    Kind.SEND_B: "handle_send",
    Kind.RECV_F: "handle_receive",
    Kind.RECV_B: "handle_receive",
}


def measure_runtime(session: Session, *, quiet: bool) -> None:
    """Run the probe where nobody has on this cluster, and keep what it showed. Raises CalibrationError where a rank fails."""
    plans = probe_plans(session.scenario.cluster)
    if not plans or not session.calibration.missing_runtime():
        return
    from executor.job import RunRequest
    from executor.launch import run as launch
    from executor.results import results_in

    training = Training(SAMPLES, dtype=session.scenario.networks[0].training.dtype)
    spec = NetworkSpec("probe", training, zoo="mlp", arguments={"features": WIDTH, "width": WIDTH, "depth": DEPTH})
    logs = session.directory / "logs" / "probe"
    with _told_as_calibration(), progress("looking at the runtime", quiet=quiet) as report:
        launch(
            [RunRequest(str(plan), plan) for plan in plans],
            spec,
            session.built_chain(spec),
            session.scenario.cluster,
            measure=replace(session.scenario.measure, steps=STEPS, lead_in_steps=1),
            log_dir=logs,
            seed=session.scenario.seed,
            on_progress=lambda p: report(p.name, p.step, p.steps),
        )
    cluster = session.scenario.cluster
    types = {device.name: device.type for device in cluster.devices}
    results = results_in(logs)
    timelines = [timeline for number in range(len(plans)) for timeline in results.timelines(number)]
    table = session.calibration.measured(session.scenario.networks[0].name).table
    costs = CostModel(session.built_chain(spec), cluster, table)

    def at_rest_s(source: str, target: str) -> float:
        return costs.send_s(source, target, MESSAGE_BYTES) - costs.post_send_s(source, MESSAGE_BYTES)

    session.calibration.keep_runtime(handling_rows(timelines, types, at_rest_s))


@contextmanager
def _told_as_calibration() -> Iterator[None]:
    try:
        yield
    except RankError as error:
        raise CalibrationError(error.problems) from error


def probe_plans(cluster: Cluster) -> list[Plan]:
    """Pipelines of two stages in which each device type once has the first stage and once the last, with cores of their own.

    The last has most of the layers, so that it never waits for a message. Empty where the cluster has no two such devices.
    """
    plans = []
    for kind in cluster.used_types:
        mine = next(device for device in cluster.devices if device.type == kind.name)
        cores = set(cluster.cores_of(mine.name))
        others = [d for d in cluster.devices if d is not mine and not cores & set(cluster.cores_of(d.name))]
        if others:
            unlike = next((d for d in others if d.type != kind.name), others[0])
            text = f"{unlike.name}[0:1] > {mine.name}[1:{DEPTH + 1}] {SAMPLES}/{MICROBATCHES}; 1f1b"
            plans.append(Plan.parse(text))
    return plans


def handling_rows(
    timelines: list[Timeline], types: Mapping[str, str], at_rest_s: Callable[[str, str], float]
) -> list[dict[str, Any]]:
    """What was seen in `timelines`, by operation and device type: rows as those of timed links.

    A message is handled in a gap between two computations in which nothing else is posted. It is handed over between the end of
    what made it and the start of what waited for it, less what handling it takes its sender and what it takes between devices at
    rest. A step is begun by the time that the first stage begins to compute. `types`: device -> its type; `at_rest_s`: (source,
    target) -> seconds of the probe's message behind the call that posts it.
    """
    found: dict[tuple[Operation, str], list[float]] = defaultdict(list)
    waits: dict[tuple[str, str], list[float]] = defaultdict(list)
    for timeline in timelines:
        first, last = _ends(timeline)
        for operation, seconds in _gaps(timeline, last):
            found[operation, types[last]].append(seconds)
        waits[last, first] += _waits(timeline, first, last)
        found["begin", types[first]].append(_computed(timeline, first)[0].start_ns / 1e9)
    for (source, target), seen_s in waits.items():
        if handled_s := found["handle_send", types[source]]:
            known_s = statistics.median(handled_s) + at_rest_s(source, target)
            found["hand_over", types[target]] += [max(0.0, seconds - known_s) for seconds in seen_s]
    return [
        {"operation": operation, "group": [kind], "size_bytes": MESSAGE_BYTES, "seconds": seconds}
        for (operation, kind), seconds in found.items()
        if seconds
    ]


def _ends(timeline: Timeline) -> tuple[str, str]:
    """The devices of the first and of the last stage."""
    stages = {Action.parse(span.action).stage: span.device for span in timeline.spans if span.kind is Kind.FORWARD}
    return stages[min(stages)], stages[max(stages)]


def _computed(timeline: Timeline, device: str) -> list[Span]:
    """What `device` computed, in order."""
    return sorted((s for s in timeline.spans if s.device == device and s.kind in _COMPUTED), key=lambda span: span.start_ns)


def _waits(timeline: Timeline, first: str, last: str) -> list[float]:
    """Seconds from the end of each backward of the last stage to the start of that of the first, where this one had nothing else
    to do."""
    made_ns = {Action.parse(s.action).item: s.end_ns for s in _computed(timeline, last) if s.kind is Kind.BACKWARD}
    return [
        (after.start_ns - made_ns[item]) / 1e9
        for before, after in pairwise(_computed(timeline, first))
        if after.kind is Kind.BACKWARD and before.end_ns <= made_ns[item := Action.parse(after.action).item]
    ]


def _gaps(timeline: Timeline, device: str) -> list[tuple[Operation, float]]:
    """What is handled by itself between two computations of `device`, and the seconds from the end of one to the start of the
    next."""
    posts = [span for span in timeline.spans if span.device == device and span.kind in _HANDLED]
    gaps: list[tuple[Operation, float]] = []
    for before, after in pairwise(_computed(timeline, device)):
        posted = [_HANDLED[span.kind] for span in posts if before.end_ns <= span.start_ns <= after.start_ns]
        if len(posted) == 1 and after.kind is not Kind.UPDATE:
            gaps.append((posted[0], (after.start_ns - before.end_ns) / 1e9))
    return gaps
