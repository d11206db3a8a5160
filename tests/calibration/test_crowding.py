"""Whether another program had the core: with real ones."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calibration.crowding import CoreWatch

pytestmark = pytest.mark.skipif(not Path("/proc/thread-self/schedstat").exists(), reason="this system does not tell")

WORK = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
from calibration.crowding import CoreWatch
print("ready", flush=True)
sys.stdin.readline()
watch = CoreWatch()
end = time.perf_counter() + 0.5
while time.perf_counter() < end:
    pass
print(watch.crowded, flush=True)
"""


def seen(*, rivals):
    """What a process that works on one core says of it, beside so many others on the same core."""
    core = str(max(os.sched_getaffinity(0)))

    def start():
        return subprocess.Popen([sys.executable, "-c", WORK, core], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    processes = [start() for _ in range(1 + rivals)]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate()[0].strip() for process in processes]
    return answers[0]


def test_a_core_that_is_shared_is_seen():
    assert seen(rivals=2) == "True"


def test_sleep_is_no_waiting_for_the_core():
    watch = CoreWatch()
    time.sleep(0.2)
    assert not watch.crowded
