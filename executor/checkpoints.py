"""What a worker keeps of its training every so many steps: a run that torch elastic starts again goes on from there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from executor.execution import Execution
from executor.job import Folder
from hetsim.files import replacing

KEPT = 2
"""Of each worker: when one dies, another may have written one more already."""


class Checkpoints:
    """The checkpoints of one worker: a file for each kept step, with the state of all its executions."""

    def __init__(self, folder: Folder, executions: Sequence[Execution | None]) -> None:
        self._folder = folder
        self._executions = executions

    def save(self, step: int) -> None:
        """Keep the state in which `step` begins."""
        state = [None if execution is None else execution.state() for execution in self._executions]
        with replacing(self._folder.checkpoint(step)) as path:
            torch.save(state, path)
        for old in self._steps()[:-KEPT]:
            self._folder.checkpoint(old).unlink(missing_ok=True)

    def resume(self) -> int | None:
        """Take the newest state that all workers have; the step that begins with it, None where there is none. Collective."""
        told: list[list[int]] = [[]] * dist.get_world_size()
        dist.all_gather_object(told, self._steps())
        common = set(told[0]).intersection(*told[1:])
        if not common:
            return None
        step = max(common)
        state: list[Any] = torch.load(self._folder.checkpoint(step), weights_only=True)
        for execution, mine in zip(self._executions, state, strict=True):
            if execution is not None:
                execution.take_state(mine)
        return step

    def _steps(self) -> list[int]:
        return sorted(int(path.stem.partition("-")[2]) for path in self._files())

    def _files(self) -> list[Path]:
        return [path for path in self._folder.path.glob("checkpoint-*.pt") if path.stem.partition("-")[2].isdigit()]
