"""The comparison of a machine's own curves with held-out microbatches: by hand, and once for real."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.curves_live import compare, held_out_microbatches, text
from hetsim.costs import LOSS, CostTable, LayerCost


def test_held_out_sizes_lie_in_the_gaps():
    assert held_out_microbatches([4, 10, 25, 64]) == [6, 16, 40, 51]
    assert held_out_microbatches([1, 3, 6, 16]) == [2, 4, 8, 10]
    assert held_out_microbatches([1, 2, 3]) == []
    assert held_out_microbatches([8]) == []


def rows(sizes, seconds, layer="l", kind="t"):
    return [LayerCost(kind, layer, n, seconds(n), 2 * seconds(n), spread=0.02, samples=9) for n in sizes]


def test_sums_over_the_chain_by_hand():
    """Affine layers are told exactly; one held-out point of one layer is 20 % too slow, that is 10 % of the sum."""
    layers = [*rows((4, 8, 16, 32), lambda n: 1 + n), *rows((4, 8, 16, 32), lambda n: 1 + n, LOSS)]
    layers[2] = LayerCost("t", "l", 16, 1.2 * 17, 2.4 * 17)
    pipelined = LayerCost("t", "l", 16, 99.0, 99.0, in_flight=4)
    beyond = LayerCost("t", "l", 64, 99.0, 99.0)
    (found,) = compare(CostTable("net", (*layers, pipelined, beyond)), (4, 8, 32))
    assert (found.network, found.device_type, found.microbatch) == ("net", "t", 16)
    assert found.predicted_s == pytest.approx(2 * 3 * 17)
    assert found.error == pytest.approx(1 / 1.1 - 1)
    assert not found.inside
    assert "net          t                mean   9.1%  worst   9.1%  in 90 % interval 0 of 1" in text([found])


@pytest.mark.slow
def test_the_command_measures_and_compares(tmp_path):
    scenario = tmp_path / "small.yaml"
    scenario.write_text(
        "hetsim: 1\nname: small\nnetworks:\n  mlp: {zoo: mlp, features: 64, width: 64, depth: 2}\n"
        "training: {global_batch: 32}\ncluster: {local: mixed-cpu}\nsearch: {microbatches: [1, 4]}\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.curves_live", scenario, "--budget", "0.05"],
        capture_output=True, text=True, timeout=300, check=False, env=os.environ | {"PYTHONPATH": str(root)}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    kinds = {line.split()[1] for line in lines if line.startswith("mlp")}
    assert len([line for line in lines if "±" in line]) == 4 * len(kinds)
    assert lines[-1].startswith("all")
