"""Gloo's threads, and how the kernel schedules them."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os
from pathlib import Path
import torch.distributed as dist
from hetsim.hardware.transport import for_exchanges

def movers():
    threads = [t for t in Path("/proc/self/task").glob("*") if (t / "comm").read_text().strip() == "gloo_tcp_loop"]
    return {int(t.name): os.sched_getscheduler(int(t.name)) for t in threads}

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
messages = movers()
with for_exchanges():
    dist.new_group([0])
later = movers()
print([later.pop(thread) for thread in messages], list(later.values()), os.sched_getscheduler(0))
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="this system schedules no thread as batch work")
def test_what_moves_the_bytes_of_an_exchange_is_batch_work_and_nothing_else():
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert told.stdout.strip() == f"[{os.SCHED_OTHER}] [{os.SCHED_BATCH}] {os.SCHED_OTHER}"
