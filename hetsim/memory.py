"""Memory of each device under a plan: its peak, and how it comes and goes over a step.

peak = parameters + gradients + optimizer state + activations in flight (those of the microbatches whose forward is done and
whose backward is not, at the worst moment of the device's schedule) + the stage's input and output buffers + workspace + context.
Gradients live in the buckets in which they are exchanged, so these add nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from hetsim.collector import collector_at_rest
from hetsim.costs import CostModel
from hetsim.errors import PlanError, Problem
from hetsim.plan import Plan, Replica, ScheduleName, Stage
from hetsim.schedule import Action, Kind, compute_order
from hetsim.timeline import Span, Timeline
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
    workspace_bytes: int
    """What a step takes at its worst moment beside the others; 0 where not measured."""

    context_bytes: int
    """What the process takes by itself; 0 where not measured."""

    limit_bytes: int | None
    """What the device has; None: not known."""

    @property
    def held_bytes(self) -> int:
        """All but the context: what the plan itself takes."""
        tensors = self.parameters_bytes + self.gradients_bytes + self.optimizer_bytes + self.activations_bytes
        return tensors + self.buffers_bytes + self.workspace_bytes

    @property
    def peak_bytes(self) -> int:
        """All of it."""
        return self.held_bytes + self.context_bytes

    @property
    def activations_known(self) -> bool:
        """Whether it is known what layers keep for their backwards; else the peak is the least."""
        return self.activations_bytes > 0

    @property
    def fits(self) -> bool:
        """Whether it fits the device; a device of unknown size holds anything."""
        return self.limit_bytes is None or self.peak_bytes <= self.limit_bytes


MemoryCurve = tuple[tuple[int, int], ...]
"""(nanoseconds since the start of the step, bytes held from then on), in order of time."""


def memory_use(plan: Plan, costs: CostModel, training: Training) -> tuple[MemoryUse, ...]:
    """What each working device needs under `plan`, in the order of the plan."""
    figures: dict[Hashable, list[_Figures]] = {}
    rows = []
    for replica in plan.replicas:
        like = _likeness(replica, costs)
        if like not in figures:
            figures[like] = _group_figures(replica, plan.schedule, costs, training)
        for group, held in zip(_groups(replica), figures[like], strict=True):
            limit_bytes = costs.cluster.type_of(group[0]).memory_bytes
            rows += [MemoryUse(device, *held, limit_bytes) for device in group]
    return tuple(rows)


_Figures = tuple[int, int, int, int, int, int, int]


def _groups(replica: Replica) -> list[tuple[str, ...]]:
    """The tensor-parallel groups of `replica`, each once, in the order of the stages."""
    return list(dict.fromkeys(stage.group for stage in replica.stages))


def _likeness(replica: Replica, costs: CostModel) -> Hashable:
    """What the memory of a replica depends on beside the schedule: many replicas of a large plan are alike."""
    place = {group: number for number, group in enumerate(_groups(replica))}
    stages = tuple(
        (place[s.group], costs.cluster.device(s.device).type, len(s.group), s.start, s.stop) for s in replica.stages
    )
    return stages, replica.samples, replica.microbatches


def _group_figures(replica: Replica, schedule: ScheduleName, costs: CostModel, training: Training) -> list[_Figures]:
    """For each group of `replica` the bytes that each of its devices holds, from parameters to context, as `MemoryUse` has them."""
    stages = [_stage_memory(replica, number, costs, training) for number in range(len(replica.stages))]
    activations_bytes = _activations_bytes(replica, schedule, [stage.saved_bytes for stage in stages])
    rows: list[_Figures] = []
    for group in _groups(replica):
        held = [mine for mine, stage in zip(stages, replica.stages, strict=True) if stage.group == group]
        parameters_bytes = gradients_bytes = sum(mine.parameters_bytes for mine in held)
        rows.append(
            (
                parameters_bytes,
                gradients_bytes,
                sum(mine.optimizer_bytes for mine in held),
                activations_bytes[group[0]],
                sum(mine.buffers_bytes for mine in held),
                costs.workspace_bytes(group[0], replica.microbatch_samples),
                costs.context_bytes(group[0]),
            )
        )
    return rows


def _activations_bytes(replica: Replica, schedule: ScheduleName, saved_bytes: Sequence[int]) -> dict[str, int]:
    """First device of each group -> the bytes that activations take on each of its devices at the worst moment, if autograd keeps
    `saved_bytes` of a microbatch, by stage."""
    if len(replica.leaders) == len(replica.stages):
        in_flight = _in_flight(schedule, len(replica.stages), replica.microbatches)
        return {s.device: most * size for s, most, size in zip(replica.stages, in_flight, saved_bytes, strict=True)}
    # What is held depends on the order of the computation alone, which is quickly had without its messages.
    with collector_at_rest():
        actions = compute_order(replica, schedule)
    return {device: most_held(order, dict(enumerate(saved_bytes))) for device, order in actions.items()}


@lru_cache(maxsize=4096)
def _in_flight(schedule: ScheduleName, depth: int, microbatches: int) -> tuple[int, ...]:
    """By stage, of a replica with one stage a device: the most microbatches that it holds at a time."""
    stages = tuple(Stage(f"d{number}", number, number + 1) for number in range(depth))
    with collector_at_rest():
        actions = compute_order(Replica(stages, microbatches, microbatches), schedule)
    return tuple(most_in_flight(order) for order in actions.values())


def memory_over_time(timeline: Timeline, plan: Plan, costs: CostModel, training: Training) -> dict[str, MemoryCurve]:
    """What each device holds over the step that `timeline` tells of.

    Activations are there from the start of a forward to the end of its backward, gradients from the start of a stage's first
    backward to the end of its update. What a device holds at the end is what it held at the start.
    """
    spans: dict[str, list[Span]] = defaultdict(list)
    for span in timeline.spans:
        spans[span.device].append(span)
    curves: dict[str, MemoryCurve] = {}
    for replica in plan.replicas:
        stages = [_stage_memory(replica, number, costs, training) for number in range(len(replica.stages))]
        for device in replica.devices:
            mine = [stages[n] for n, stage in enumerate(replica.stages) if device in stage.group]
            base_bytes = sum(m.parameters_bytes + m.optimizer_bytes + m.buffers_bytes for m in mine)
            changes: Counter[int] = Counter({0: base_bytes})
            for stage in mine:
                changes.update(_changes(stage, spans[device]))
            curves[device] = tuple(zip(sorted(changes), accumulate(changes[t] for t in sorted(changes)), strict=True))
    return curves


@dataclass(frozen=True, slots=True)
class _StageMemory:
    """Bytes of one stage on each device of its group."""

    number: int
    parameters_bytes: int
    optimizer_bytes: int
    saved_bytes: int
    """Of one microbatch."""

    buffers_bytes: int


def _stage_memory(replica: Replica, number: int, costs: CostModel, training: Training) -> _StageMemory:
    stage, size, chain = replica.stages[number], replica.microbatch_samples, costs.chain
    width = len(stage.group)
    elements = -(-chain.parameter_bytes(stage.layers) // chain.element_bytes // width)
    entry_bytes = chain.boundary_bytes_per_sample(stage.start) if stage.start else chain.input_bytes_per_sample
    return _StageMemory(
        number,
        elements * chain.element_bytes,
        elements * training.optimizer_state_bytes_per_parameter,
        sum(costs.saved_bytes(stage.device, layer, size, tensor_parallel=width) for layer in stage.layers),
        replica.microbatches * size * (entry_bytes + chain.boundary_bytes_per_sample(stage.stop)),
    )


def _changes(stage: _StageMemory, spans: Iterable[Span]) -> Counter[int]:
    """Nanoseconds -> by how much the bytes of `stage` change then."""
    changes: Counter[int] = Counter()
    first_backward_ns: int | None = None
    for span in spans:
        action = Action.parse(span.action)
        if action.stage != stage.number:
            continue
        if action.kind is Kind.FORWARD:
            changes[span.start_ns] += stage.saved_bytes
        elif action.kind is Kind.BACKWARD:
            changes[span.end_ns] -= stage.saved_bytes
            first_backward_ns = span.start_ns if first_backward_ns is None else min(first_backward_ns, span.start_ns)
        elif action.kind is Kind.UPDATE and first_backward_ns is not None:
            changes[first_backward_ns] += stage.parameters_bytes
            changes[span.end_ns] -= stage.parameters_bytes
    return changes


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


def most_in_flight(actions: Iterable[Action]) -> int:
    """The largest number of microbatches whose forward is done and whose backward is not."""
    actions = tuple(actions)
    return most_held(actions, dict.fromkeys((action.stage for action in actions), 1))


def most_held(actions: Iterable[Action], saved_bytes: Mapping[int, int]) -> int:
    """The most bytes that activations take, when each microbatch takes `saved_bytes` of its stage from forward to backward."""
    most = held = 0
    for action in actions:
        if action.kind is Kind.FORWARD:
            held += saved_bytes[action.stage]
            most = max(most, held)
        elif action.kind is Kind.BACKWARD:
            held -= saved_bytes[action.stage]
    return most
