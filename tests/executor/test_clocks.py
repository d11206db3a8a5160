"""Clocks of several hosts: processes whose monotonic clocks differ by hours agree on the time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

AHEAD_S = (0, 7200, -3000)
"""How far the clock of each rank's host is ahead of the machine's."""

WORKER = """
import sys, time
import torch.distributed as dist
from hetsim.hardware.clocks import Clocks
from hetsim.hardware.identity import host_identity
rank, world, meeting = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
clocks = Clocks(host_identity())
for _ in range(10):
    clocks.compare()
    dist.barrier()
print(clocks.are_one, clocks.now_ns(), time.time_ns(), clocks.unsure_ns)
dist.barrier()
"""


def can_shift_clocks():
    if shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    tried = subprocess.run(["unshare", "--time", "--monotonic", "60", "--fork", "true"], capture_output=True, check=False)
    return tried.returncode == 0


def answers(tmp_path, prefixes):
    """What the ranks print that are started behind these prefixes of a command."""
    meeting = (tmp_path / "meeting").as_uri()
    command = [sys.executable, "-c", WORKER]
    variables = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(Path.cwd())}
    processes = [
        subprocess.Popen(
            [*prefix, *command, str(rank), str(len(prefixes)), meeting], env=variables, stdout=subprocess.PIPE, text=True
        )
        for rank, prefix in enumerate(prefixes)
    ]
    return [process.communicate(timeout=120)[0].split() for process in processes]


@pytest.mark.slow
@pytest.mark.skipif(not can_shift_clocks(), reason="needs root and time namespaces")
def test_ranks_whose_clocks_differ_by_hours_agree_on_the_time(tmp_path):
    prefixes = [["unshare", "--time", "--monotonic", str(ahead_s), "--fork"] if ahead_s else [] for ahead_s in AHEAD_S]
    rows = answers(tmp_path, prefixes)
    assert {row[0] for row in rows} == {"False"}
    # The wall clock is common to them all, so what is left of now - wall differs by as much as the ranks disagree.
    left_ns = [int(now) - int(wall) for _, now, wall, _ in rows]
    unsure_ns = [int(row[3]) for row in rows]
    assert unsure_ns[0] == 0
    for left, unsure in zip(left_ns, unsure_ns, strict=True):
        assert abs(left - left_ns[0]) <= unsure + 5_000_000, "the two clocks are read one after the other, on busy cores"


@pytest.mark.slow
def test_ranks_of_one_host_have_one_clock(tmp_path):
    rows = answers(tmp_path, [[], []])
    assert [row[0] for row in rows] == ["True", "True"]
    assert [row[3] for row in rows] == ["0", "0"]
