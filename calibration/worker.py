"""One device's worker: `python -m calibration.worker`, started by the coordinator with the device's environment."""

from __future__ import annotations

import gc
import json
import os
import select
import sys
import time
from typing import Any, TextIO

from calibration.links import time_links
from calibration.protocol import Setup
from calibration.statistics import summarise
from calibration.timing import InPlaceTimer, MarkedStep, PlainStep
from hetsim.costs import LOSS
from hetsim.hardware.binding import pin, torch_device
from hetsim.lifeline import die_with_parent
from hetsim.models.intake import layer_names
from hetsim.models.zoo import build
from hetsim.plain import from_plain

FEWEST_STEPS, MOST_STEPS = 3, 60
WARM_UP_STEPS = 2


def main() -> None:
    """Serve commands until `stop`, the end of the input, or the end of the coordinator."""
    die_with_parent()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the user's own code prints goes to the log, not between the replies
    setup = from_plain(Setup, json.loads(sys.stdin.readline()))
    pin(setup.device, setup.device_type)
    worker = _Worker(setup, replies)
    gc.disable()
    while (line := sys.stdin.readline()) and (command := json.loads(line))["do"] != "stop":
        worker.serve(command)


class _Worker:
    """The state of one device between commands."""

    def __init__(self, setup: Setup, replies: TextIO) -> None:
        self._device = torch_device(setup.device, setup.device_type)
        self._networks = {spec.name: spec for spec in setup.networks}
        self._type = setup.device_type.name
        self._seed = setup.seed
        self._replies = replies
        self._timer: tuple[str, InPlaceTimer, list[str]] | None = None

    def serve(self, command: dict[str, Any]) -> None:
        if command.pop("do") == "links":
            self._reply("result", time_links(**command, device=self._device, device_type=self._type))
        else:
            self._measure(**command)
        gc.collect()

    def _measure(self, network: str, microbatch: int, in_flight: int, budget_s: float, precision: float) -> None:
        timer, names = self._timer_of(network)
        inputs, targets = timer.batch(microbatch)
        for _ in range(WARM_UP_STEPS):
            timer.marked_step(inputs, targets, in_flight)
        steps: list[MarkedStep] = []
        plain: list[PlainStep] = []
        end = time.monotonic() + budget_s
        while not _enough(steps, precision, late=time.monotonic() > end):
            steps.append(timer.marked_step(inputs, targets, in_flight))
            if in_flight == 1:
                plain.append(timer.plain_step(inputs, targets))
            self._reply("progress", {"count": len(steps), "median_s": summarise([s.total_s for s in steps]).median_s})
        self._reply("result", _samples(names, steps, plain))
        while not select.select([sys.stdin], [], [], 0)[0]:
            timer.plain_step(inputs, targets)

    def _timer_of(self, network: str) -> tuple[InPlaceTimer, list[str]]:
        if self._timer is None or self._timer[0] != network:
            spec = self._networks[network]
            built = build(spec, self._seed)
            names = list(layer_names(built.model))
            self._timer = (network, InPlaceTimer(built, spec.training, self._device, self._seed), names)
        return self._timer[1], self._timer[2]

    def _reply(self, kind: str, value: Any) -> None:
        self._replies.write(json.dumps({kind: value}) + "\n")
        self._replies.flush()


def _enough(steps: list[MarkedStep], precision: float, *, late: bool) -> bool:
    """Whether the median is precise, or time is up; never below the fewest or above the most steps."""
    if len(steps) < FEWEST_STEPS:
        return False
    if late or len(steps) >= MOST_STEPS:
        return True
    return len(steps) >= 2 * FEWEST_STEPS and summarise([step.total_s for step in steps]).spread <= precision


def _samples(names: list[str], steps: list[MarkedStep], plain: list[PlainStep]) -> dict[str, Any]:
    """Raw samples by layer, the loss among them."""
    layers = {
        name: {
            "forward_s": [step.forward_s[i] for step in steps],
            "backward_s": [step.backward_s[i] for step in steps],
            "update_s": [step.update_s[i] for step in steps],
        }
        for i, name in enumerate(names)
    }
    layers[LOSS] = {
        "forward_s": [step.loss_forward_s for step in steps],
        "backward_s": [step.loss_backward_s for step in steps],
        "update_s": [0.0],
    }
    return {
        "layers": layers,
        "marked_s": [step.total_s for step in steps],
        "marked_update_s": [sum(step.update_s) for step in steps],
        "whole_s": [step.total_s for step in plain],
        "whole_update_s": [step.update_s for step in plain],
    }


if __name__ == "__main__":
    main()
