"""Real runs of several processes: however a batch and a network are split, the training is the same."""

import os
import platform
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from executor_world import CLUSTER, GLOBAL_BATCH, LAYERS, LOOPBACK, chain, from_the_start, spec, state_on_disk, trained_alone

from executor.batches import global_batch
from executor.job import Job, RunRequest
from executor.launch import run
from executor.results import collect
from executor.training import check_network
from hetsim.errors import NetworkError
from hetsim.hardware import Cluster, Device, DeviceType, Node
from hetsim.hardware.binding import KEEP_MEMORY
from hetsim.models.zoo import build
from hetsim.plan import Plan
from hetsim.scenario.types import Measure, NetworkSpec
from hetsim.schedule import Kind, make_schedule
from hetsim.workload import Training

pytestmark = pytest.mark.slow

MEASURE = Measure(steps=3, warmup_steps=2)
PLANS = {
    "even data parallel": "a0[0:7] 4/1 | b0[0:7] 4/1",
    "uneven data parallel": "a0[0:7] 7/1 | b0[0:7] 1/1",
    "three replicas, accumulating": "b0[0:7] 4/2 | c0[0:7] 1/1 | a0[0:7] 3/3",
    "one device": "c0[0:7] 8/2",
    "model parallel": "b0[0:3] > a0[3:7] 8/1",
    "gpipe": "a0[0:5] > b0[5:7] 8/4; gpipe",
    "1f1b": "a0[0:5] > b0[5:7] 8/4; 1f1b",
    "1f1b, three stages, against the order of the ranks": "c0[0:1] > a0[1:4] > b0[4:7] 8/8; 1f1b",
    "interleaved": "b0[0:2] > a0[2:4] > b0[4:5] > a0[5:7] 8/4; interleaved",
    "interleaved beside a replica of one stage": "a0[0:1] > b0[1:3] > a0[3:5] > b0[5:7] 6/3 | c0[0:7] 2/2; interleaved",
    "hybrid": "a0[0:5] > b0[5:7] 6/3 | c0[0:7] 2/1; 1f1b",
}


def run_all(network, log_dir, plans, **options):
    requests = [RunRequest(name, Plan.parse(text)) for name, text in plans.items()]
    progress = []
    measurements = run(
        requests,
        network,
        chain(network),
        CLUSTER,
        measure=MEASURE,
        log_dir=log_dir,
        keep_parameters=True,
        on_progress=progress.append,
        **options,
    )
    return dict(zip(plans, measurements, strict=True)), progress


@pytest.fixture(
    scope="module",
    params=[
        spec("dense", Training(GLOBAL_BATCH, "sgd", learning_rate=0.1, momentum=0.9)),
        spec("awkward", Training(GLOBAL_BATCH, "adamw", learning_rate=0.01)),
        NetworkSpec(
            "gpt",
            Training(GLOBAL_BATCH, "sgd", learning_rate=0.1),
            zoo="gpt",
            arguments={"vocabulary": 13, "sequence": 6, "width": 8, "depth": LAYERS - 2, "heads": 2},
        ),
    ],
    ids=["dense, sgd", "awkward, adamw", "gpt, sgd"],
)
def live(request, tmp_path_factory):
    """One launch of all plans: network, measurements, progress, job."""
    network = request.param
    folder = tmp_path_factory.mktemp(network.name)
    measurements, progress = run_all(network, folder, PLANS, seed=3)
    return network, measurements, progress, Job.load(folder / "job.json")


@pytest.fixture(scope="module")
def alone(live):
    """The same steps in one process: the losses of all, warm-up included, and the last parameters."""
    network = live[0]
    built = build(network, 3)
    steps = MEASURE.warmup_steps + MEASURE.steps
    return trained_alone(network, [global_batch(built, GLOBAL_BATCH, 3, step) for step in range(steps)], seed=3)


@pytest.mark.parametrize("name", PLANS)
def test_parameters_and_losses_equal_those_of_one_process(live, alone, name):
    _, measurements, _, job = live
    losses, expected = alone
    number = list(PLANS).index(name)
    states = state_on_disk([job.folder(device).parameters(number) for device in job.devices])
    assert sorted(states) == list(range(LAYERS))
    for layer, copies in states.items():
        holders = sum(layer in stage.layers for replica in Plan.parse(PLANS[name]).replicas for stage in replica.stages)
        assert len(copies) == holders
        for state in copies:
            torch.testing.assert_close(state, expected[layer], rtol=2e-5, atol=2e-6)
    assert measurements[name].losses == pytest.approx(losses[MEASURE.warmup_steps :], rel=1e-5)


def carried_out(network, plan):
    """The actions of each device, without gradients for what does not learn, which torch does not send."""
    numbers = chain(network)
    first_learner = next(i for i, layer in enumerate(numbers.layers) if layer.parameters)
    actions, made = {}, make_schedule(plan, numbers).actions
    for replica in plan.replicas:
        for number, stage in enumerate(replica.stages):
            useless = {(number, Kind.RECV_B)} if stage.stop <= first_learner else set()
            useless |= {(number, Kind.SEND_B)} if stage.start <= first_learner else set()
            rows = actions.get(stage.device, made[stage.device])
            actions[stage.device] = [action for action in rows if (action.stage, action.kind) not in useless]
    return actions


@pytest.mark.parametrize("name", PLANS)
def test_the_timeline_is_the_schedule_carried_out(live, name):
    network, measurements, _, _ = live
    measured = measurements[name]
    for device, actions in carried_out(network, measured.plan).items():
        spans = [span for span in measured.timeline.spans if span.device == device]
        assert sorted(span.action for span in spans) == sorted(map(str, actions))
        computed = [span for span in sorted(spans, key=lambda s: s.start_ns) if span.lane == "compute"]
        assert [s.action for s in computed] == [
            str(a) for a in actions if a.kind in (Kind.FORWARD, Kind.BACKWARD, Kind.UPDATE)
        ]
        assert all(a.end_ns <= b.start_ns for a, b in pairwise(computed))
        assert all(0 <= span.start_ns <= span.end_ns for span in spans)
        update = computed[-1]
        assert all(span.end_ns <= update.start_ns for span in spans if span.kind is Kind.REDUCE)
    assert measured.timeline.step_s in measured.step_s
    assert measured.median_s == pytest.approx(measured.timeline.step_s)


@pytest.mark.parametrize("name", ["gpipe", "1f1b", "hybrid"])
def test_nothing_is_computed_before_its_message_has_come(live, name):
    timeline = live[1][name].timeline
    at = {(s.device, s.action): s for s in timeline.spans}
    for (device, action), received in at.items():
        if received.kind in (Kind.RECV_F, Kind.RECV_B):
            user = at[device, action.replace("RECV_", "")]
            assert user.start_ns >= received.end_ns
            stage, kind, item = action.partition("RECV_")[0], received.kind, action[len(action.rstrip("0123456789")) :]
            source = int(stage) - 1 if kind is Kind.RECV_F else int(stage) + 1
            sent = next(s for (_, a), s in at.items() if a == f"{source}{kind.replace('RECV', 'SEND')}{item}")
            assert sent.end_ns == max(sent.start_ns, received.end_ns)


def test_plans_alternate_and_progress_is_told(live):
    _, _, progress, job = live
    assert {p.name for p in progress} == set(PLANS)
    assert all(p.steps == MEASURE.steps and p.median_s > 0 for p in progress)
    order = [line.split(",", 2)[:2] for line in job.folder("c0").steps.read_text().splitlines()]
    steps = [step for _, step in order]
    assert steps == sorted(steps)
    assert len(order) == MEASURE.steps * sum("c0" in text for text in PLANS.values())


def test_what_was_measured_can_be_collected_from_disk(live):
    _, measurements, _, job = live
    assert collect(job.log_dir) == list(measurements.values())


def test_a_dtype_is_trained_in(tmp_path):
    network = spec("dense", replace(Training(GLOBAL_BATCH), dtype="bfloat16"))
    run_all(network, tmp_path, {"hybrid": PLANS["hybrid"]})
    states = state_on_disk([Job.load(tmp_path / "job.json").folder(device).parameters(0) for device in ("a0", "b0", "c0")])
    assert {t.dtype for copies in states.values() for state in copies for t in state.values()} == {torch.bfloat16}


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="this system does not tell")
def test_workers_have_the_environment_of_their_device_from_the_start(tmp_path):
    run_all(spec("witnessed", folder=str(tmp_path)), tmp_path / "run", {"both": PLANS["even data parallel"]})
    for rank in "01":
        assert KEEP_MEMORY.items() <= from_the_start(tmp_path / rank).items(), "the C library reads it as a process starts"


@pytest.mark.skipif(platform.machine() != "x86_64" or len(os.sched_getaffinity(0)) < 2, reason="needs two x86 cores")
def run_on_unlike_devices(network, tmp_path):
    """Both devices with half the batch, one of them capped to SSE4.2."""
    kinds = {"fast": DeviceType("fast", "cpu"), "slow": DeviceType("slow", "cpu", isa="sse4.2")}
    cores = sorted(os.sched_getaffinity(0))[:2]
    devices = tuple(Device(f"{kind}0", kind, "here", cores=(core,)) for kind, core in zip(kinds, cores, strict=True))
    cluster = Cluster((Node("here", devices, LOOPBACK),), kinds, LOOPBACK)
    numbers = chain(network)
    whole = f"[0:{len(numbers)}]"
    requests = [RunRequest("both", Plan.parse(f"fast0{whole} 16/1 | slow0{whole} 16/1"))]
    measure = Measure(steps=5, warmup_steps=2)
    (measured,) = run(requests, network, numbers, cluster, measure=measure, log_dir=tmp_path, seed=1, keep_parameters=True)
    return measured


def test_unlike_devices_train_alike(tmp_path):
    # Nothing in it takes a maximum, which may tip to another element between instruction sets, and go another way from there.
    network = NetworkSpec(
        "gpt", Training(32, learning_rate=0.001), zoo="gpt", arguments={"depth": 2, "width": 128, "heads": 4}
    )
    measured, built = run_on_unlike_devices(network, tmp_path), build(network, 1)
    initial = {
        i: {name: tensor.clone() for name, tensor in layer.state_dict().items()} for i, layer in enumerate(built.model)
    }
    losses, expected = trained_alone(network, [global_batch(built, 32, 1, step) for step in range(7)], seed=1)
    job = Job.load(tmp_path / "job.json")
    for layer, copies in state_on_disk([job.folder(device).parameters(0) for device in job.devices]).items():
        for state in copies:
            for name, tensor in state.items():
                learned = expected[layer][name] - initial[layer][name]
                assert (tensor - expected[layer][name]).norm() <= 0.01 * learned.norm()
    assert measured.losses == pytest.approx(losses[2:], rel=1e-4)


def test_a_capped_device_is_slower(tmp_path):
    network = NetworkSpec("vgg", Training(32, learning_rate=0.001), zoo="vgg", arguments={"image": 16})
    measured = run_on_unlike_devices(network, tmp_path)
    busy_s = {device: measured.timeline.busy_s(device, Kind.FORWARD, Kind.BACKWARD) for device in ("fast0", "slow0")}
    assert busy_s["slow0"] > 1.5 * busy_s["fast0"]


def test_a_network_that_is_not_the_one_planned_for_is_refused():
    built = build(spec("dense", width=17), 0)
    with pytest.raises(NetworkError, match=f"has 7 layers with {17 * 25 + 5 * 17 * 18 + 5 * 18} parameters .* plan again"):
        check_network(built, chain(spec("dense")))
