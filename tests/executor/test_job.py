"""The job as a file: what the coordinator wrote is what a worker reads, and nothing else is taken for one."""

import json
import pickle
from dataclasses import replace
from types import MappingProxyType

import pytest
from executor_world import CLUSTER, KIND, chain, spec

from executor.job import Job, RunRequest, make_job
from hetsim.errors import InputError, PlanError
from hetsim.plan import Plan
from hetsim.scenario.types import Measure
from hetsim.schedule import make_schedule
from hetsim.workload import Training

TEXTS = ("a0[0:7] 5/1 | b0[0:7] 3/1", "b0[0:3] > a0[3:7] 6/3 | c0[0:7] 2/1; 1f1b")
NETWORK = spec("dense", Training(8, "adamw", learning_rate=1e-3), width=16)


@pytest.fixture(scope="module")
def numbers():
    return chain(NETWORK)


def job_in(folder, numbers, cluster=CLUSTER, texts=TEXTS, network=NETWORK):
    requests = [RunRequest(f"Größe {n}", Plan.parse(text)) for n, text in enumerate(texts)]
    return make_job(requests, network, numbers, cluster, measure=Measure(steps=7), seed=2**40, log_dir=folder)


def test_comes_back_the_same_with_the_same_schedules(tmp_path, numbers):
    job = job_in(tmp_path, numbers)
    job.save()
    read = Job.load(job.path)
    assert read == job
    for number, text in enumerate(TEXTS):
        assert read.schedule(number) == make_schedule(Plan.parse(text), numbers)


def test_views_of_mappings_are_written_too(tmp_path, numbers):
    cluster = replace(CLUSTER, device_types=MappingProxyType({KIND.name: KIND}))
    network = replace(NETWORK, arguments=MappingProxyType({"width": 16, "nested": {"a": [1, None, 0.1]}}))
    job = job_in(tmp_path, numbers, cluster, network=network)
    job.save()
    assert Job.load(job.path) == job


def test_saving_again_leaves_nothing_of_the_job_before(tmp_path, numbers):
    job = job_in(tmp_path, numbers)
    job.save()
    job.folder("a0").steps.write_text("{}\n")
    job.save()
    assert not job.folder("a0").steps.exists()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["job.json"]


def test_two_stages_on_one_device_are_told_with_all_other_faults(tmp_path, numbers):
    with pytest.raises(PlanError) as caught:
        job_in(tmp_path / "never", numbers, texts=("a0[0:3] > a0[3:7] 8/2", "z9[0:7] 8/1"))
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a0+b0[0:7] 8/1", "tensor-parallel groups can be predicted, but not run yet"),
        ("a0[0:7] 4/1 | b0[0:7] 4/1; tree", "the exchange tree can be predicted"),
    ],
)
def test_what_can_only_be_simulated_is_told(tmp_path, numbers, text, what):
    with pytest.raises(PlanError, match=what):
        job_in(tmp_path / "never", numbers, texts=(text,))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"job.json:1:1: the file is empty"),
        (pickle.dumps([1]), "it looks like a pickle"),
        (b"{", r"job.json:1:2: is not JSON"),
        (b"[" * 100_000, "is no JSON that can be read"),
        (b"9" * 5000, "is no JSON that can be read"),
        (b"[]", "is not a job"),
        (b'{"format": "hetsim run"}', "is not a job"),
        (b'{"format": "hetsim job", "schema_version": 3}', "got schema_version 3, expected 2"),
        (b'{"format": "hetsim job", "schema_version": 2}', "does not have the entries of a job: 'job'"),
        (b'{"format": "hetsim job", "schema_version": 2, "job": {"requests": 3}}', "does not have the entries of a job"),
    ],
)
def test_what_is_no_job_is_refused(tmp_path, content, said):
    path = tmp_path / "job.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        Job.load(path)


@pytest.mark.parametrize("key", ["network", "cluster", "measure"])
def test_a_job_that_lacks_something_is_refused(tmp_path, numbers, key):
    job = job_in(tmp_path, numbers)
    job.save()
    document = json.loads(job.path.read_text())
    document["job"][key] = []
    job.path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="does not have the entries of a job"):
        Job.load(job.path)
