"""Where the world around hetsim is not as it should be: folders, names, streams, threads, other calibrations."""

import os
import subprocess
import sys

import pytest

from calibration.store import SampleStore

NETWORK = """\
import threading, time
from torch import nn
from helper import WIDTH


def build():
    return nn.Sequential(nn.Linear(4, WIDTH), nn.Linear(WIDTH, 3))


def haunted():
    threading.Thread(target=lambda: time.sleep(1000)).start()
    return build()


def lost():
    layer = nn.Linear(4, 3)
    nn.init.constant_(layer.bias, float("nan"))
    return nn.Sequential(layer)
"""

SCENARIO = """\
hetsim: 1
networks: {own: {module: "nets:build", input: {shape: [4], classes: 3}}}
training: {global_batch: 8}
cluster:
  device_types: {cpu: {backend: cpu}}
  nodes: [{name: here, devices: {cpu: 1}}]
"""


@pytest.fixture
def own(tmp_path):
    """A scenario whose network is the user's own code, with a module beside it."""
    (tmp_path / "nets.py").write_text(NETWORK)
    (tmp_path / "helper.py").write_text("WIDTH = 5\n")
    path = tmp_path / "own.yaml"
    path.write_text(SCENARIO)
    return path


def points(hetsim, own):
    return len(hetsim.json("calibrate", own, "--dry-run")["points"])


def test_an_edit_of_what_the_network_imports_is_measured_anew(hetsim, own, tmp_path):
    before = points(hetsim, own)
    assert hetsim("calibrate", own, "--budget", "0.1").returncode == 0
    assert (before > 0, points(hetsim, own)) == (True, 0)
    (tmp_path / "helper.py").write_text("WIDTH = 6\n")
    assert points(hetsim, own) == before


def test_a_damaged_copy_of_a_chain_is_made_anew(hetsim, own, tmp_path):
    assert hetsim("calibrate", own, "--dry-run").returncode == 0
    (copy,) = (tmp_path / "runs" / "costs" / "own" / "chains").iterdir()
    copy.write_text("")
    assert hetsim("calibrate", own, "--dry-run").returncode == 0
    assert copy.read_text()


def test_threads_of_the_users_code_do_not_keep_the_command(hetsim, own):
    own.write_text(SCENARIO.replace("nets:build", "nets:haunted"))
    done = hetsim("calibrate", own, "--dry-run", timeout=60)
    assert done.returncode == 0
    assert "points" in done.stdout


def test_a_loss_that_is_no_number_is_told(hetsim, own):
    own.write_text(SCENARIO.replace("nets:build", "nets:lost"))
    done = hetsim("run", own, "--plan", "cpu0[0:1] 8/1", "--steps", "2")
    assert done.returncode == 0
    assert "the loss is no finite number from step 0 on" in done.stderr


def test_two_calibrations_of_one_folder_are_kept_apart(hetsim, own):
    folder = hetsim.folder / "runs" / "costs" / "own"
    with SampleStore(folder).locked():
        second = hetsim("calibrate", own)
    assert second.returncode == 5
    assert "another calibration is at work here" in second.stderr
    assert hetsim("calibrate", own, "--budget", "0.1").returncode == 0


def test_a_folder_that_is_a_file_is_named(hetsim, own, tmp_path):
    (tmp_path / "file").write_text("")
    done = hetsim("calibrate", own, "--costs", "file")
    assert done.returncode == 2
    assert "file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_is_no_text_is_escaped(hetsim, scenarios, tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    done = hetsim("plan", scenarios / "textbook.yaml", "--runs", folder)
    assert done.returncode == 0
    (run,) = folder.iterdir()
    assert run.suffix != ".partial"


@pytest.mark.parametrize("columns", ["0", "", "wide"])
def test_a_terminal_of_no_width_still_gets_a_table(hetsim, scenarios, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert "k80-0[0:12] 32/1 | v100-0[0:12] 64/1" in hetsim("plan", scenarios / "textbook.yaml").stdout


@pytest.mark.parametrize("closed", ["1", "2"])
def test_closed_streams_do_no_harm(scenarios, tmp_path, closed):
    line = f'exec "{sys.executable}" -m hetsim plan "{scenarios / "textbook.yaml"}" {closed}>&-'
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
