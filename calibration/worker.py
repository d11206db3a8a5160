"""One device's worker, as `calibration.start` starts it in a process that has the device's environment."""

from __future__ import annotations

import gc
import json
import math
import os
import select
import sys
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, TextIO

from torch import Tensor

from calibration.crowding import CoreWatch
from calibration.links import time_links
from calibration.protocol import Setup
from calibration.statistics import summarise
from calibration.timing import InPlaceTimer, MarkedStep, PlainStep
from hetsim.costs import LOSS
from hetsim.hardware.binding import pin, torch_device
from hetsim.hardware.canary import Canary
from hetsim.hardware.power import drawn_w
from hetsim.hardware.reach import use_interface_of
from hetsim.models.intake import layer_names
from hetsim.models.zoo import build
from hetsim.plain import from_plain

FEWEST_STEPS, MOST_STEPS = 3, 60
PATIENCE = 3.0
"""Budgets that a point may take while other programs keep its core."""

LEAST_S = 2.0
"""A point takes at least so long: the machine's speed wavers from second to second, so that a few steps in a row agree with each
other more than with the next ones."""

CANARY_EVERY_S = 0.1
"""The canary takes the caches from the step behind it, which short steps feel: so it is not timed ahead of each of them, and a
step is taken untimed behind it."""

CHECK_S = 10.0
"""How long the speed is looked at."""

SHARE_S = 1.0
"""Processor time for which steps on a shared core are timed at a go."""

WARM_UP_STEPS = 2


def main() -> None:
    """Serve commands until `stop`, the end of the input, or the end of the coordinator."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the user's own code prints goes to the log, not between the replies
    setup = from_plain(Setup, json.loads(sys.stdin.readline()))
    pin(setup.device, setup.device_type)
    if setup.node is not None:
        use_interface_of(setup.node)
    worker = _Worker(setup, replies)
    gc.disable()
    while (line := sys.stdin.readline()) and (command := json.loads(line))["do"] != "stop":
        worker.serve(command)


class _Worker:
    """The state of one device between commands."""

    def __init__(self, setup: Setup, replies: TextIO) -> None:
        self._device = torch_device(setup.device, setup.device_type)
        self._canary = Canary(self._device)
        self._idle_w = drawn_w(self._device)
        self._networks = {spec.name: spec for spec in setup.networks}
        self._type = setup.device_type.name
        self._seed = setup.seed
        self._replies = replies
        self._timer: tuple[str, InPlaceTimer, list[str]] | None = None

    def serve(self, command: dict[str, Any]) -> None:
        match command.pop("do"):
            case "links":
                found = time_links(**command, device=self._device, device_type=self._type, report=self._tell)
                self._reply("result", found)
            case "rest":
                self._reply("result", {})
            case "check":
                self._check(**command)
            case "share":
                self._share(**command)
            case _:
                self._measure(**command)
        gc.collect()

    def _tell(self, what: str) -> None:
        self._reply("progress", {"what": what})

    def _measure(
        self, network: str, microbatch: int, in_flight: int, accumulate: bool, budget_s: float, precision: float
    ) -> None:
        timer, names = self._timer_of(network)
        inputs, targets = timer.batch(microbatch)
        for _ in range(WARM_UP_STEPS):
            timer.marked_step(inputs, targets, in_flight)
        rounds: list[_Round] = []
        start = time.monotonic()
        canary_s, looked = 0.0, -math.inf
        while not _enough(rounds, precision, elapsed_s=time.monotonic() - start, budget_s=budget_s):
            watch = CoreWatch()
            if time.monotonic() - looked > CANARY_EVERY_S:
                canary_s, looked = self._canary.time_s(), time.monotonic()
                if not rounds or rounds[-1].marked.total_s < CANARY_EVERY_S:
                    timer.marked_step(inputs, targets, in_flight)
            marked = timer.marked_step(inputs, targets, in_flight)
            plain = timer.plain_step(inputs, targets) if in_flight == 1 else None
            accumulation_s = timer.accumulation_s(inputs, targets) if accumulate else None
            rounds.append(_Round(canary_s, marked, plain, accumulation_s, watch.crowded, drawn_w(self._device)))
            median_s = summarise([r.marked.total_s for r in _kept(rounds)]).median_s
            self._reply("progress", {"count": len(rounds), "median_s": median_s})
        held = self._held(timer, names, inputs, targets) if in_flight == 1 else {}
        told = {"idle_w": self._idle_w} if self._idle_w is not None else {}
        self._reply("result", _samples(names, rounds) | held | told)
        while not select.select([sys.stdin], [], [], 0)[0]:
            timer.plain_step(inputs, targets)

    def _held(self, timer: InPlaceTimer, names: list[str], inputs: Tensor, targets: Tensor) -> dict[str, Any]:
        """What a point holds (the bytes that autograd keeps by layer, those of a step beside them, those of the process), and
        how long its batch takes to the device."""
        footprint = asdict(timer.footprint(inputs, targets))
        saved = dict(zip(names, footprint["saved_bytes"], strict=True))
        return footprint | {"saved_bytes": saved, "copy_s": timer.copy_s(len(inputs))}

    def _check(self, network: str, microbatch: int) -> None:
        """Time the canary between steps, which keep the device as busy as it is in training."""
        timer, _ = self._timer_of(network)
        inputs, targets = timer.batch(microbatch)
        canary_s: list[float] = []
        end = time.monotonic() + CHECK_S
        while len(canary_s) < FEWEST_STEPS or time.monotonic() < end:
            timer.plain_step(inputs, targets)
            canary_s.append(self._canary.time_s())
        self._reply("result", {"canary_s": canary_s})

    def _share(self, network: str, microbatch: int) -> None:
        """Tell what processor time each step takes, whoever else has the core in between; then go on working as a neighbour."""
        timer, _ = self._timer_of(network)
        inputs, targets = timer.batch(microbatch)
        timer.plain_step(inputs, targets)
        marks_s = [time.process_time()]
        while len(marks_s) <= FEWEST_STEPS or marks_s[-1] - marks_s[0] < SHARE_S:
            timer.plain_step(inputs, targets)
            marks_s.append(time.process_time())
        self._reply("result", [b - a for a, b in pairwise(marks_s)])
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


@dataclass(frozen=True, slots=True)
class _Round:
    """What is timed in one go."""

    canary_s: float
    marked: MarkedStep
    plain: PlainStep | None
    accumulation_s: float | None
    crowded: bool
    """Whether another program took the core meanwhile."""

    power_w: float | None = None
    """What the device drew at the end; None where it does not tell."""


def _kept(rounds: list[_Round]) -> list[_Round]:
    """The rounds that had the core to themselves; all, where too few had."""
    alone = [r for r in rounds if not r.crowded]
    return alone if len(alone) >= FEWEST_STEPS else rounds


def _enough(rounds: list[_Round], precision: float, *, elapsed_s: float, budget_s: float) -> bool:
    """Whether the median is precise, or time is up; never below the fewest or above the most steps.

    On a crowded machine it is worth waiting for a quiet moment, but not for ever.
    """
    alone = [r.marked.total_s for r in rounds if not r.crowded]
    if len(alone) < FEWEST_STEPS:
        return len(rounds) >= FEWEST_STEPS and elapsed_s > PATIENCE * budget_s
    if elapsed_s > budget_s:
        return True
    return elapsed_s > LEAST_S and (len(alone) >= MOST_STEPS or summarise(alone).spread <= precision)


def _samples(names: list[str], rounds: list[_Round]) -> dict[str, Any]:
    """Raw samples by layer, the loss among them, and how many rounds were put aside."""
    kept = _kept(rounds)
    steps = [r.marked for r in kept]
    plain = [r.plain for r in kept if r.plain is not None]
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
        "zero_s": [step.zero_s for step in plain],
        "accumulation_s": [r.accumulation_s for r in kept if r.accumulation_s is not None],
        "canary_s": [r.canary_s for r in kept],
        "rounds": len(rounds),
        "crowded_rounds": sum(r.crowded for r in rounds),
        **({"power_w": told} if (told := [r.power_w for r in kept if r.power_w is not None]) else {}),
    }
