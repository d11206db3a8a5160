"""What the runtime takes beside the layers: small pipelines of a probe network are run as `hetsim run` runs them, and looked at.

Between two computations of a pipeline stands more than the call that posts a message: torch's runtime, the threads that carry
messages, and what all of them find in caches that a computation has just filled. None of it can be timed without running a
pipeline. So that no plan is fitted that is then predicted, the network is one of the probe's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hetsim.cli.progress import progress
from hetsim.cli.session import Session
from hetsim.costs.table import Operation
from hetsim.errors import CalibrationError, RankError
from hetsim.hardware import Cluster
from hetsim.plan import Plan
from hetsim.scenario.types import NetworkSpec
from hetsim.schedule import Action, Kind
from hetsim.timeline import Timeline
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
    types = {device.name: device.type for device in session.scenario.cluster.devices}
    results = results_in(logs)
    timelines = [timeline for number in range(len(plans)) for timeline in results.timelines(number)]
    session.calibration.keep_runtime(handling_rows(timelines, types))


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


def handling_rows(timelines: list[Timeline], types: Mapping[str, str]) -> list[dict[str, Any]]:
    """What was seen in `timelines`, by operation and device type: rows as those of timed links.

    A message is handled in a gap between two computations in which nothing else is posted; a step is begun by the time that the
    first stage begins to compute. `types`: device -> its type.
    """
    found: dict[tuple[Operation, str], list[float]] = defaultdict(list)
    for timeline in timelines:
        backwards = (span for span in timeline.spans if span.kind is Kind.BACKWARD)
        last = max(backwards, key=lambda span: Action.parse(span.action).stage).device
        for operation, seconds in _gaps(timeline, last):
            found[operation, types[last]].append(seconds)
        first = min((span for span in timeline.spans if span.kind is Kind.FORWARD), key=lambda span: span.start_ns)
        found["begin", types[first.device]].append(first.start_ns / 1e9)
    return [
        {"operation": operation, "group": [kind], "size_bytes": MESSAGE_BYTES, "seconds": seconds}
        for (operation, kind), seconds in found.items()
    ]


def _gaps(timeline: Timeline, device: str) -> list[tuple[Operation, float]]:
    """What is handled by itself between two computations of `device`, and the seconds from the end of one to the start of the
    next."""
    mine = [span for span in timeline.spans if span.device == device]
    computed = sorted((span for span in mine if span.kind in _COMPUTED), key=lambda span: span.start_ns)
    gaps: list[tuple[Operation, float]] = []
    for before, after in pairwise(computed):
        posted = [_HANDLED[s.kind] for s in mine if s.kind in _HANDLED and before.end_ns <= s.start_ns <= after.start_ns]
        if len(posted) == 1 and after.kind is not Kind.UPDATE:
            gaps.append((posted[0], (after.start_ns - before.end_ns) / 1e9))
    return gaps
