"""A worker goes when the process that started it goes, whatever it is doing."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from hetsim.lifeline import PARENT as PARENT_VARIABLE

CHILD = (
    "import time; from hetsim.lifeline import die_with_parent; die_with_parent(); print('tied', flush=True); time.sleep(60)"
)
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent is gone")
def test_a_child_goes_with_a_parent_that_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    with parent.stdout as output:
        child = psutil.Process(int(output.readline()))
        assert child.is_running()
        parent.kill()
        parent.wait()
    end = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
        time.sleep(0.02)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent is gone")
def test_a_child_that_was_orphaned_before_it_could_tie_itself_goes_too():
    """It knows its parent from the environment: process 1, or whoever takes orphans in, is not it."""
    code = "from hetsim.lifeline import die_with_parent; die_with_parent(); print('lives on')"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, PARENT_VARIABLE: str(gone.pid)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "is gone" in done.stderr
    assert not done.stdout
