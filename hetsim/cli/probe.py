"""What the runtime takes beside the layers: small plans of a probe network are run as `hetsim run` runs them, and looked at.

Between two computations of a pipeline stands more than the call that posts a message: torch's runtime, the threads that carry
messages, and what all of them find in caches that a computation has just filled. An exchange of gradients finds them as full, and
sets off all updates at once, which share the way to memory. None of it can be timed without running such plans. So that no plan is
fitted that is then predicted, the network is one of the probe's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from hetsim.cli.probe_rows import exchange_row, handling_rows
from hetsim.cli.progress import progress
from hetsim.cli.session import Session
from hetsim.costs import CostModel
from hetsim.errors import CalibrationError, RankError
from hetsim.hardware import Cluster, Device
from hetsim.plan import Plan
from hetsim.scenario.types import NetworkSpec
from hetsim.workload import Training

WIDTH, DEPTH = 512, 8
SAMPLES, MICROBATCHES = 256, 8
MESSAGE_BYTES = SAMPLES // MICROBATCHES * WIDTH * 4
"""What the probe sends: float32 activations of a microbatch."""

STEPS = 20


def measure_runtime(session: Session, *, quiet: bool) -> None:
    """Run the probe where nobody has on this cluster, and keep what it showed. Raises CalibrationError where a rank fails."""
    cluster = session.scenario.cluster
    pipelines, exchanging = probe_plans(cluster), exchanging_plan(cluster)
    if exchanging is None or not session.calibration.missing_runtime():
        return
    from executor.job import RunRequest
    from executor.launch import run as launch
    from executor.results import results_in

    plans = [*pipelines, exchanging]
    training = Training(SAMPLES, dtype=session.scenario.networks[0].training.dtype)
    spec = NetworkSpec("probe", training, zoo="mlp", arguments={"features": WIDTH, "width": WIDTH, "depth": DEPTH})
    chain, logs = session.built_chain(spec), session.directory / "logs" / "probe"
    with _told_as_calibration(), progress("looking at the runtime", quiet=quiet) as report:
        launch(
            [RunRequest(str(plan), plan) for plan in plans],
            spec,
            chain,
            cluster,
            measure=replace(session.scenario.measure, steps=STEPS, lead_in_steps=1),
            log_dir=logs,
            seed=session.scenario.seed,
            on_progress=lambda p: report(p.name, p.step, p.steps),
        )
    types = {device.name: device.type for device in cluster.devices}
    results = results_in(logs)
    *of_pipelines, of_exchange = (list(results.timelines(number)) for number in range(len(plans)))
    messages = [timeline for rows in of_pipelines for timeline in rows]
    costs = CostModel(chain, cluster, session.calibration.measured(session.scenario.networks[0].name).table)

    def at_rest_s(source: str, target: str) -> float:
        return costs.send_s(source, target, MESSAGE_BYTES) - costs.post_send_s(source, MESSAGE_BYTES)

    rows = handling_rows(messages, types, at_rest_s, MESSAGE_BYTES)
    session.calibration.keep_runtime([*rows, exchange_row(exchanging, of_exchange, messages, chain, types)])


@contextmanager
def _told_as_calibration() -> Iterator[None]:
    try:
        yield
    except RankError as error:
        raise CalibrationError(error.problems) from error


def probe_plans(cluster: Cluster) -> list[Plan]:
    """Pipelines of two stages in which each device type once has the first stage and once the last, with cores of their own.

    The last has most of the layers, so that it never waits for a message. Both are of one backend, because no messages pass between
    a CPU and a GPU. Empty where the cluster has no two such devices.
    """
    texts = (
        f"{other.name}[0:1] > {mine.name}[1:{DEPTH + 1}] {SAMPLES}/{MICROBATCHES}; 1f1b"
        for other, mine in _pairs(cluster, of_one_backend=True)
    )
    return [Plan.parse(text) for text in texts]


def exchanging_plan(cluster: Cluster) -> Plan | None:
    """Data parallelism over two devices with cores of their own, of unlike types where there are such; None: there are no two."""
    pairs = _pairs(cluster)
    if not pairs:
        return None
    share = f"[0:{DEPTH + 1}] {SAMPLES // 2}/1"
    return Plan.parse(" | ".join(device.name + share for device in sorted(pairs[0], key=lambda device: device.name)))


def _pairs(cluster: Cluster, *, of_one_backend: bool = False) -> list[tuple[Device, Device]]:
    """Of each device type the first device, behind another one that shares no core with it, of another type where there is one."""
    pairs = []
    for kind in cluster.used_types:
        mine = next(device for device in cluster.devices if device.type == kind.name)
        cores = set(cluster.cores_of(mine.name))
        others = [d for d in cluster.devices if d is not mine and not cores & set(cluster.cores_of(d.name))]
        if of_one_backend:
            others = [d for d in others if cluster.type_of(d.name).backend == kind.backend]
        if others:
            pairs.append((next((d for d in others if d.type != kind.name), others[0]), mine))
    return pairs
