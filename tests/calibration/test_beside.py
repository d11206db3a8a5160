"""What communication takes from the computation beside it: a real group of processes."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
import torch, torch.distributed as dist
from calibration.beside import rows, time_beside
rank, world, meeting = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
found = time_beside(range(world), None, [1024, 1 << 16], [1024, 1 << 18], torch.device("cpu"))
print(json.dumps(rows(found, "core")))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_every_rank_tells_what_it_took_part_in(tmp_path):
    world = 3
    meeting = (tmp_path / "meeting").as_uri()
    started = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(rank), str(world), meeting], stdout=subprocess.PIPE, text=True)
        for rank in range(world)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0] * world
    told = [{(row["operation"], row["size_bytes"]) for row in json.loads(output)} for output in outputs]
    both = {("beside_reduce", 1 << 18), ("beside_send", 1 << 16), ("beside_receive", 1 << 16)}
    assert told == [both, both, {("beside_reduce", 1 << 18)}], "the third has no neighbour; small ones are not timed"
    for row in json.loads(outputs[0]):
        assert all(end >= start == 0 for start, end in row["stamps_ns"])
