"""Predicted beside measured: total, per phase, and whether the plan that was chosen was the right one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hetsim.actions import ActionError, action_errors
from hetsim.attribution import Cause
from hetsim.communication import busy_and_exposed_ns
from hetsim.measurement import Measurement
from hetsim.plan import Plan
from hetsim.schedule import Kind
from hetsim.simulator import Prediction
from hetsim.timeline import Timeline

SCHEMA_VERSION = 1

PHASES: dict[str, tuple[Kind, ...]] = {
    "forward": (Kind.FORWARD,),
    "backward": (Kind.BACKWARD,),
    "update": (Kind.UPDATE,),
}
"""What a device's processor spends a step on; the rest is `exposed communication`, its own that no computation hides, and `waiting`
for others."""


@dataclass(frozen=True, slots=True)
class Case:
    """One plan that was both predicted and run."""

    network: str
    label: str
    """What the plan is: `even split`, `fast alone`, …"""

    prediction: Prediction
    measurement: Measurement
    chosen: bool = False
    causes: tuple[Cause, ...] = ()
    """What measured - predicted is made of; they add up to it for the step whose timeline was kept, which is the median one."""

    fitted: bool = False
    """Whether the costs were corrected by a run of this very plan: then its error proves nothing."""

    at_run_speed_s: float | None = None
    """What the step is predicted to take at the speed that the devices had during the run, by their canaries; None: unknown."""

    @property
    def name(self) -> str:
        """Unique in a validation."""
        return f"{self.network}/{self.label}"

    @property
    def error(self) -> float:
        """predicted / measured - 1: positive where the prediction was too slow."""
        return self.prediction.step_s / self.measurement.median_s - 1

    @property
    def error_at_run_speed(self) -> float | None:
        """The error that is left when the machine's drift since the prediction is taken out; None where it is unknown."""
        return None if self.at_run_speed_s is None else self.at_run_speed_s / self.measurement.median_s - 1

    @property
    def actions(self) -> tuple[ActionError, ...]:
        """Predicted beside measured, action by action; measured in the step whose timeline was kept."""
        return action_errors(self.prediction.plan, self.prediction.timeline, self.measurement.timeline)

    @property
    def inside(self) -> bool:
        """Whether the measured median lies in the predicted 90 % interval."""
        return self.prediction.low_s <= self.measurement.median_s <= self.prediction.high_s


@dataclass(frozen=True, slots=True)
class Phase:
    """Seconds that one device spends on one thing during a step, predicted and measured."""

    device: str
    phase: str
    predicted_s: float
    measured_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one network: what was chosen, what turned out best."""

    network: str
    chosen: Case
    best_measured: Case
    even: Case | None

    @property
    def regret(self) -> float:
        """How much slower the chosen plan's measured step is than the best measured one; 0 where they are the same."""
        return self.chosen.measurement.median_s / self.best_measured.measurement.median_s - 1

    @property
    def speedup_over_even(self) -> float | None:
        """How many times faster the chosen plan was measured to be than the even split; None where that was not run."""
        return self.even.measurement.median_s / self.chosen.measurement.median_s if self.even else None


@dataclass(frozen=True, slots=True)
class Validation:
    """All cases of a scenario, with the verdict for each network."""

    scenario: str
    cases: tuple[Case, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def regret(self) -> float:
        """Of all networks together: the chosen plans' steps over the best measured ones, minus 1."""
        chosen_s = sum(verdict.chosen.measurement.median_s for verdict in self.verdicts)
        return chosen_s / sum(verdict.best_measured.measurement.median_s for verdict in self.verdicts) - 1

    def to_json(self) -> dict[str, Any]:
        """The documented JSON form; durations in seconds, shares and errors as fractions."""
        return {
            "schema_version": SCHEMA_VERSION,
            "scenario": self.scenario,
            "cases": [_case_to_json(case) for case in self.cases],
            "chosen": [verdict.chosen.name for verdict in self.verdicts],
            "best_measured": [verdict.best_measured.name for verdict in self.verdicts],
            "regret": self.regret,
            "networks": [
                {
                    "network": verdict.network,
                    "chosen": verdict.chosen.name,
                    "best_measured": verdict.best_measured.name,
                    "regret": verdict.regret,
                    "speedup_over_even": verdict.speedup_over_even,
                }
                for verdict in self.verdicts
            ],
        }


def compare(scenario: str, cases: Iterable[Case], even_label: str) -> Validation:
    """The validation of `cases`. Every network needs exactly one chosen case (ValueError where it has not)."""
    rows = tuple(cases)
    networks = dict.fromkeys(case.network for case in rows)
    return Validation(scenario, rows, tuple(_verdict(n, [c for c in rows if c.network == n], even_label) for n in networks))


def phases(plan: Plan, predicted: Timeline, measured: Timeline) -> tuple[Phase, ...]:
    """What each device spends its step on, predicted beside measured; the phases of a device add up to the step."""
    rows = []
    spent_ns = [busy_and_exposed_ns(line, plan) for line in (predicted, measured)]
    for device in predicted.devices:
        for phase, kinds in PHASES.items():
            rows.append(Phase(device, phase, predicted.busy_s(device, *kinds), measured.busy_s(device, *kinds)))
        talking = [found.get(device, (0, 0))[1] / 1e9 for found in spent_ns]
        idle = [line.step_s - line.busy_s(device) for line in (predicted, measured)]
        rows.append(Phase(device, "exposed communication", *talking))
        rows.append(Phase(device, "waiting", *(rest - part for rest, part in zip(idle, talking, strict=True))))
    return tuple(rows)


def _verdict(network: str, cases: Sequence[Case], even_label: str) -> Verdict:
    (chosen,) = (case for case in cases if case.chosen)
    best = min(cases, key=lambda case: case.measurement.median_s)
    return Verdict(network, chosen, best, next((case for case in cases if case.label == even_label), None))


def _case_to_json(case: Case) -> dict[str, Any]:
    prediction, measurement = case.prediction, case.measurement
    return {
        "name": case.name,
        "network": case.network,
        "plan": str(prediction.plan),
        "chosen": case.chosen,
        "predicted_step_s": prediction.step_s,
        "predicted_low_s": prediction.low_s,
        "predicted_high_s": prediction.high_s,
        "measured_step_s": measurement.median_s,
        "measured_low_s": measurement.interval_s[0],
        "measured_high_s": measurement.interval_s[1],
        "measured_steps": len(measurement.step_s),
        "error": case.error,
        "predicted_at_run_speed_s": case.at_run_speed_s,
        "error_at_run_speed": case.error_at_run_speed,
        "inside_interval": case.inside,
        "fitted": case.fitted,
        "limited_by": prediction.limited_by,
        "causes": [{"what": cause.what, "seconds": cause.seconds} for cause in case.causes],
        "phases": [
            {"device": p.device, "phase": p.phase, "predicted_s": p.predicted_s, "measured_s": p.measured_s}
            for p in phases(prediction.plan, prediction.timeline, measurement.timeline)
        ],
        "actions": [{**asdict(row), "error": row.error} for row in case.actions],
    }
