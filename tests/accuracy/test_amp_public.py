"""AMP's measured strategies, where that data is; what is asserted is that the comparison is fair and sane, not how good it is."""

from dataclasses import replace

import pytest

from benchmarks import amp_public as benchmark
from benchmarks.public_data import DATA_VARIABLE, data_folder
from hetsim.hardware import Topology

FOLDER = data_folder() / "amp"
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the published strategies are not here; {DATA_VARIABLE} names the folder of published data"
)


@pytest.fixture(scope="module")
def known():
    return benchmark.strategies(FOLDER), benchmark.forwards_s(FOLDER)


def test_every_strategy_that_ran_is_a_plan_on_the_cluster(known):
    rows, forward_s = known
    cluster = benchmark._cluster(3e9, 5e9)
    assert len(rows) == 47
    for row in rows:
        plan = benchmark._plan(row)
        plan.check(benchmark._chain(len(forward_s[1])), cluster, benchmark.GLOBAL_BATCH)
        assert len(plan.devices) == 16
        groups = [stage.group for replica in plan.replicas for stage in replica.stages]
        assert all(len({Topology(cluster).node_of(device) for device in group}) == 1 for group in groups)


def predictions(rows, forward_s):
    cases = benchmark.held_out(rows, forward_s)
    assert len(cases) == len(rows)
    return {replace(case.strategy, measured_s=0.0): case.predicted_s for case in cases}


def test_a_strategy_has_no_part_in_the_figures_that_it_is_scored_with(known):
    """Another measured step of one strategy changes the predictions of the other half, and not its own."""
    rows, forward_s = known
    some = sorted(rows, key=lambda row: row.measured_s)[::6]
    before = predictions(some, forward_s)
    after = predictions([replace(r, measured_s=r.measured_s * 1.0001) if r is some[2] else r for r in some], forward_s)
    own = replace(some[2], measured_s=0.0)
    assert after[own] == before[own]
    assert any(after[key] != before[key] for key in before)
