"""Sailor's measured plans, where that data is; what is asserted is that the comparison is sane, not how good it is."""

import math

import pytest

from benchmarks import sailor_public as benchmark
from benchmarks.public_data import DATA_VARIABLE, data_folder

FOLDER = data_folder() / "sailor"
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the published plans are not here; {DATA_VARIABLE} names the folder of published data"
)


@pytest.fixture(scope="module")
def cases():
    return benchmark.cases(FOLDER)


def test_every_plan_is_predicted_but_those_with_mixed_up_records(cases):
    assert len(cases) == 25
    assert all(math.isfinite(case.predicted_s) and case.predicted_s > 0 for case in cases)


def test_plans_are_ranked_as_they_were_measured(cases):
    """Over all pairs of one network whose measured steps differ by more than a tenth, the order is right for nearly all."""
    for model in benchmark.MODELS:
        mine = [case for case in cases if case.model == model]
        pairs = [(a, b) for a in mine for b in mine if a.measured_s > 1.1 * b.measured_s]
        right = sum(a.predicted_s > b.predicted_s for a, b in pairs)
        assert right / len(pairs) > 0.95


def test_the_table_has_a_row_for_each(cases):
    text = benchmark.table(cases)
    assert text.count("\n| ") == len(cases)
    assert "OPT-350: 14 plans" in text
