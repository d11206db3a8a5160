"""Transfer between the machine's own device types: once for real."""

import subprocess
import sys

import pytest

from benchmarks.transfer_live import Case, text


def test_errors_are_summed_up_by_pair():
    cases = [Case("mlp", "a", "b", 2, 1.2, 1.0), Case("mlp", "a", "b", 8, 0.9, 1.0), Case("mlp", "b", "a", 2, 1.0, 1.0)]
    lines = text(cases).splitlines()
    assert f"{'a to b':24} mean  15.0%  worst  20.0%  of 2" in lines
    assert lines[-1] == f"{'all':24} mean  10.0%  worst  20.0%  of 3"


@pytest.mark.slow
def test_the_command_foretells_each_type_from_each_other(tmp_path):
    words = ["--network", "mlp", "--batch", "2", "--batch", "4", "--budget", "0.05", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.transfer_live", *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("mlp  ") and " ms " in line]
    assert len({(row[1], row[2]) for row in rows}) == 6
    assert all(float(row[4]) > 0 for row in rows)
