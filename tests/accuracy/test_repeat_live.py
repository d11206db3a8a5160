"""Two calibrations held against each other: by hand."""

import subprocess
import sys

import pytest

from benchmarks.repeat_live import compare, text
from hetsim.costs import CANARY, LOSS, CostTable, LayerCost
from hetsim.costs.files import write_layer_costs


def table(factor, canary_s):
    layers = [LayerCost("t", name, 4, 0.1 * factor, 0.2 * factor) for name in ("a", "b")]
    return CostTable("net", (*layers, LayerCost("t", LOSS, 4, 9.0, 9.0), LayerCost("t", CANARY, 1, canary_s, 0.0)))


def test_a_slower_machine_differs_and_at_one_speed_does_not():
    (case,) = compare(table(1.0, 0.01), table(1.2, 0.012))
    assert (case.first_s, case.second_s) == pytest.approx((0.6, 0.72))
    assert case.difference == pytest.approx(0.2)
    assert case.corrected == pytest.approx(0.0)
    assert "as they are  median 20.0%" in text([case])


def test_the_command_reads_folders_of_cost_tables(tmp_path):
    for name, factor in (("first", 1.0), ("second", 1.1)):
        (tmp_path / name).mkdir()
        write_layer_costs(tmp_path / name / "net.csv", table(factor, 0.01).layers)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.repeat_live", tmp_path / "first", tmp_path / "second"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "at one speed median 10.0%  worst 10.0%  of 1"
