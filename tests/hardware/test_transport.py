"""Gloo's threads, and how the kernel schedules them."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os
from pathlib import Path
import torch.distributed as dist
from hetsim.hardware.transport import let_operations_preempt

def policies():
    threads = Path("/proc/self/task").glob("*")
    return {(t / "comm").read_text().strip(): os.sched_getscheduler(int(t.name)) for t in threads}

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
before = policies()
let_operations_preempt()
after = policies()
print(before.pop("gloo_tcp_loop"), after.pop("gloo_tcp_loop"), set(after.values()))
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="this system schedules no thread as batch work")
def test_the_thread_that_moves_bytes_is_batch_work_and_no_other():
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert told.stdout.strip() == f"{os.SCHED_OTHER} {os.SCHED_BATCH} {{{os.SCHED_OTHER}}}"
