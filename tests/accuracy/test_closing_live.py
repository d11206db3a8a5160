"""The closing test over device types: summed up by hand, and once for real."""

import subprocess
import sys

import pytest

from benchmarks.closing_live import Case, text


def test_errors_are_summed_up_by_network_and_by_device_type():
    cases = [Case("mlp", "full", 2, 1.01, 1.0), Case("mlp", "avx2", 2, 0.97, 1.0), Case("gpt", "full", 2, 1.0, 1.0)]
    lines = text(cases).splitlines()
    assert "mlp          median  2.0%  worst  3.0%  of 2" in lines
    assert "full         median  0.5%  worst  1.0%  of 2" in lines
    assert lines[-1] == "all          median  1.0%  worst  3.0%  of 3"


@pytest.mark.slow
def test_the_command_measures_every_device_type_that_this_machine_can_be():
    words = ["--network", "mlp", "--batch", "2", "--budget", "0.05"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.closing_live", *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    kinds = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("mlp  ") and " ms " in line}
    assert {"full-x1", "avx2-x1", "sse42-x1"} <= kinds
