"""VirtualFlow's logged runs, where that data is; what is asserted is that the comparison is sane, not how good it is."""

import math

import pytest

from benchmarks import virtualflow_public as benchmark
from benchmarks.public_data import DATA_VARIABLE, data_folder

FOLDER = data_folder() / "virtualflow"
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the published runs are not here; {DATA_VARIABLE} names the folder of published data"
)


@pytest.fixture(scope="module")
def cases():
    return benchmark.cases(FOLDER)


def test_every_run_on_several_machines_is_predicted(cases):
    assert len(cases) == 26
    assert sum(case.run.mixed for case in cases) == 3
    assert all(math.isfinite(s) and s > 0 for case in cases for s in case.predicted_s.values())


def test_runs_that_mostly_compute_are_predicted_from_single_gpus(cases):
    """Sixteen microbatches of ResNet on each P100: a run in which an exchange of unknown length weighs little."""
    case = next(case for case in cases if case.run.name == "virtual-a3")
    assert abs(case.error("own work")) < 0.05


def test_the_slower_kind_holds_up_a_mixed_run(cases):
    """Equal shares on both kinds: computation ends with the P100, whatever the V100 could do."""
    case = next(case for case in cases if case.run.name == "virtual-h1")
    assert set(case.run.shares) == {16384}
    assert min(case.predicted_s.values()) > 4 * 0.916


def test_the_table_has_a_row_for_each(cases):
    assert benchmark.table(cases).count("\n| virtual-") == len(cases)
