"""Estimates of variants: what a cluster can do, a larger one can do as well."""

from pathlib import Path

import pytest

from hetsim.cli.session import Session
from hetsim.cli.whatif import estimator_of
from hetsim.study.edits import edited

SCENARIOS = Path(__file__).parents[2] / "scenarios"


@pytest.mark.parametrize(
    ("edits", "more"),
    [
        (["buy 2 A100 into new1"], ["buy 1 A100 into old1"]),
        (["buy 2 A100 into new1"], ["buy 1 V100 into old2"]),
        (["buy 2 V100 into new1"], ["buy 1 V100 into old1", "buy 1 A100 into old2"]),
        (["retire node old1"], []),
    ],
)
def test_one_device_more_never_makes_a_cluster_slower(tmp_path, edits, more):
    """It could stand idle. The devices that come first in the cluster are not those that should train."""
    estimator = estimator_of(Session(SCENARIOS / "buy_under_budget.yaml", None, tmp_path))
    cluster = estimator.scenario.cluster
    some, all_of_them = (estimator.estimate(edited(cluster, texts), interval=False) for texts in (edits, [*more, *edits]))
    if not more:
        all_of_them = estimator.estimate(edited(cluster, []), interval=False)
    assert all_of_them.samples_per_s >= some.samples_per_s * (1 - 1e-9)
