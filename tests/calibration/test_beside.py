"""What communication takes from the computation beside it: a real group of processes."""

import json
import os
import subprocess
import sys
from statistics import median

import pytest

PROGRAM = """
import json, os, sys
if len(sys.argv) > 4:
    os.sched_setaffinity(0, {int(sys.argv[4])})
import torch, torch.distributed as dist
from calibration.beside import rows, time_beside
rank, world, meeting = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
found = time_beside(range(world), None, [1024, 1 << 16], [1024, 1 << 18, 1 << 24], torch.device("cpu"))
print(json.dumps(rows(found, "core")))
dist.destroy_process_group()
"""


def found_by(world, meeting, *pinned):
    """What each of `world` processes tells: its rows."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), str(world), meeting, *pinned], stdout=subprocess.PIPE, text=True
        )
        for rank in range(world)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0] * world
    return [json.loads(output) for output in outputs]


@pytest.mark.slow
def test_every_rank_tells_what_it_took_part_in(tmp_path):
    outputs = found_by(3, (tmp_path / "meeting").as_uri())
    told = [{(row["operation"], row["size_bytes"]) for row in output} for output in outputs]
    reduces = {("beside_reduce", 1 << 18), ("beside_reduce", 1 << 24)}
    both = reduces | {("beside_send", 1 << 16), ("beside_receive", 1 << 16)}
    assert told == [both, both, reduces], "the third has no neighbour; small ones are not timed"
    for row in outputs[0]:
        assert all(end >= start == 0 for start, end in row["stamps_ns"])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to a core")
def test_on_a_core_that_computes_an_exchange_takes_what_its_threads_do(tmp_path):
    """Never nothing; and of 16 MiB more than of a quarter of one."""
    core = str(min(os.sched_getaffinity(0)))
    for output in found_by(2, (tmp_path / "meeting").as_uri(), core):
        taken_ns = {
            row["size_bytes"]: [end for _, end in row["stamps_ns"]] for row in output if row["operation"] == "beside_reduce"
        }
        assert all(end > 0 for ends in taken_ns.values() for end in ends)
        assert median(taken_ns[1 << 24]) > median(taken_ns[1 << 18])
