"""Peak memory of each device under a plan.

peak = parameters + gradients + optimizer state + activations in flight (those of the microbatches whose forward is done and
whose backward is not, at the worst moment of the device's schedule) + the stage's input and output buffers. Gradients live in
the buckets in which they are exchanged, so these add nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from hetsim.costs import CostModel
from hetsim.errors import PlanError, Problem
from hetsim.plan import Plan
from hetsim.schedule import Action, Kind, Schedule, make_schedule
from hetsim.units import format_bytes
from hetsim.workload import Training


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes that one device needs at its worst moment, by purpose."""

    device: str
    parameters_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    buffers_bytes: int
    limit_bytes: int | None
    """What the device has; None: not known."""

    @property
    def peak_bytes(self) -> int:
        """All of it."""
        return (
            self.parameters_bytes + self.gradients_bytes + self.optimizer_bytes + self.activations_bytes + self.buffers_bytes
        )

    @property
    def fits(self) -> bool:
        """Whether it fits the device; a device of unknown size holds anything."""
        return self.limit_bytes is None or self.peak_bytes <= self.limit_bytes


def memory_use(plan: Plan, costs: CostModel, training: Training, schedule: Schedule | None = None) -> tuple[MemoryUse, ...]:
    """What each working device needs under `plan`, in the order of the plan."""
    chain = costs.chain
    actions = (schedule or make_schedule(plan, chain)).actions
    rows = []
    for replica in plan.replicas:
        for stage in replica.stages:
            size = replica.microbatch_samples
            in_flight = most_in_flight(actions[stage.device])
            held_bytes = chain.parameter_bytes(stage.layers)
            saved_bytes = sum(costs.saved_bytes(stage.device, layer, size) for layer in stage.layers)
            entry_bytes = chain.boundary_bytes_per_sample(stage.start) if stage.start else chain.input_bytes_per_sample
            buffers_bytes = replica.microbatches * size * (entry_bytes + chain.boundary_bytes_per_sample(stage.stop))
            state = training.optimizer_state_bytes_per_parameter * (held_bytes // chain.element_bytes)
            limit = costs.cluster.type_of(stage.device).memory_bytes
            rows.append(
                MemoryUse(stage.device, held_bytes, held_bytes, state, saved_bytes * in_flight, buffers_bytes, limit)
            )
    return tuple(rows)


def check_memory(plan: Plan, costs: CostModel, training: Training) -> None:
    """Raise PlanError naming each device that `plan` would overfill, with the numbers."""
    problems = [
        Problem(
            f'plan "{plan}"',
            f"{use.device} needs {format_bytes(use.peak_bytes)} and has {format_bytes(use.limit_bytes or 0)} "
            f"(activations {format_bytes(use.activations_bytes)}, parameters with gradients and optimizer state "
            f"{format_bytes(use.parameters_bytes + use.gradients_bytes + use.optimizer_bytes)})",
            "Give it fewer samples, more microbatches or fewer layers",
        )
        for use in memory_use(plan, costs, training)
        if not use.fits
    ]
    if problems:
        raise PlanError(problems)


def most_in_flight(actions: tuple[Action, ...]) -> int:
    """The largest number of microbatches whose forward is done and whose backward is not."""
    most = alive = 0
    for action in actions:
        alive += (action.kind is Kind.FORWARD) - (action.kind is Kind.BACKWARD)
        most = max(most, alive)
    return most
