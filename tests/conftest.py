"""Runs the console command as a user does: in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


class Hetsim:
    """`hetsim(…)` runs the command in `folder` and returns the finished process."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, *words, timeout=300):
        command = [sys.executable, "-m", "hetsim", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.folder, timeout=timeout, check=False)

    def json(self, *words, timeout=300):
        """The document that the command prints with `--format json`; the command has to end well."""
        done = self(*words, "--format", "json", timeout=timeout)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def runs(self):
        """All that lies in the folder of runs, hidden and partial ones too."""
        folder = self.folder / "runs"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def hetsim(tmp_path):
    return Hetsim(tmp_path)


@pytest.fixture(scope="session")
def scenarios():
    return ROOT / "scenarios"
