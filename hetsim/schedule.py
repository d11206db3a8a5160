"""The schedule: for every device, the ordered list of what it does in one step.

One schedule, two interpreters: the simulator gives each action a duration, the executor does it. An action has a text form
that parses back, `stage kind item`: `2F0` is the forward of microbatch 0 on stage 2, `1SEND_B3` sends the input gradient of
microbatch 3 from stage 1 to stage 0, `0REDUCE4` exchanges gradient bucket 4, `0UPDATE` is the optimizer's step.
Stages are counted within the device's replica.

The list is made by passes, each of which can be tested alone: `compute_order` → `add_transfers` → `add_exchange`.

What the actions mean, to both interpreters:

* F and B occupy the device. They first wait for what they need.
* RECV posts a receive and goes on; the F or B that needs the message waits for it. SEND hands the message over and goes on.
* REDUCE starts as soon as its bucket's gradients are ready (during the last B), beside the computation, in bucket order.
* UPDATE waits for all REDUCEs and SENDs of the device, then occupies it.

A tensor-parallel group has one list, under the name of its first device: its devices do the same at the same time. A backward that
is split into its halves for inputs and for weights would be two more kinds here, ordered by `compute_order` alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from hetsim.errors import PlanError
from hetsim.exchange import Bucket, buckets
from hetsim.plan import Plan, Replica, ScheduleName
from hetsim.workload import Chain


class Kind(StrEnum):
    """What an action does; the value is its text."""

    FORWARD = "F"
    BACKWARD = "B"
    SEND_F = "SEND_F"
    RECV_F = "RECV_F"
    SEND_B = "SEND_B"
    RECV_B = "RECV_B"
    REDUCE = "REDUCE"
    UPDATE = "UPDATE"


_WORDS = {kind: kind.value for kind in Kind}
"""As plain texts, which are faster to write than members of an enumeration."""

_TEXT = re.compile(r"([0-9]{1,12})(SEND_F|RECV_F|SEND_B|RECV_B|REDUCE|UPDATE|F|B)([0-9]{0,12})")


class Action(NamedTuple):
    """One entry of a device's list."""

    stage: int
    kind: Kind
    item: int = 0
    """The microbatch; for REDUCE the bucket; 0 for UPDATE."""

    def __str__(self) -> str:
        stage, kind, item = self
        return f"{stage}{_WORDS[kind]}" if kind is Kind.UPDATE else f"{stage}{_WORDS[kind]}{item}"

    @classmethod
    def parse(cls, text: str) -> Action:
        """The action that `text` writes. Raises PlanError where it is none."""
        match = _TEXT.fullmatch(text.strip())
        if match is None or (match[3] == "") != (match[2] == Kind.UPDATE):
            raise PlanError(f'cannot read action "{text}"; write stage, kind, microbatch, as in 2F0')
        return cls(int(match[1]), Kind(match[2]), int(match[3] or 0))


@dataclass(frozen=True, slots=True)
class Schedule:
    """What every device does in one step of `plan`."""

    plan: Plan
    actions: Mapping[str, tuple[Action, ...]]
    """Device name -> its actions in order."""

    buckets: tuple[Bucket, ...]
    """Gradient buckets, by number."""

    def __str__(self) -> str:
        """The grid: one line a device."""
        return grid(self.actions)

    def replaced(self, text: str) -> Schedule:
        """The same plan with the actions of a grid written by hand. Raises PlanError with the piece that cannot be read."""
        rows: dict[str, tuple[Action, ...]] = {}
        for line in filter(None, map(str.strip, text.splitlines())):
            device, *words = line.split()
            if device not in self.actions or device in rows:
                known = ", ".join(self.actions)
                raise PlanError(f'got a line of the grid for "{device}", expected one for each of {known}')
            rows[device] = tuple(map(Action.parse, words))
        if missing := [device for device in self.actions if device not in rows]:
            raise PlanError(f"the grid has no line for {', '.join(missing)}")
        return Schedule(self.plan, rows, self.buckets)


def grid(actions: Mapping[str, Sequence[Action]], marked: Mapping[str, int] | None = None) -> str:
    """One line a device; the action at each place of `marked` (device -> place in its list) stands between >> and <<."""
    width = max(map(len, actions))
    lines = []
    for name, row in actions.items():
        words = [str(action) for action in row]
        if marked and name in marked:
            at = marked[name]
            words[at : at + 1] = [f">>{words[at] if at < len(words) else 'end'}<<"]
        lines.append(f"{name:<{width}}  {' '.join(words)}")
    return "\n".join(lines)


def make_schedule(plan: Plan, chain: Chain, *, part: bool = False) -> Schedule:
    """The schedule of one step of `plan` on `chain`: all passes, in order. Raises PlanError as `compute_order` does.

    `part`: whether the plan is a part of another one, with which it exchanges gradients.
    """
    plan_buckets = buckets(plan, chain, part=part)
    actions: dict[str, tuple[Action, ...]] = {}
    for replica in plan.replicas:
        for device, order in compute_order(replica, plan.schedule).items():
            actions[device] = add_exchange(add_transfers(order, replica), plan_buckets, replica)
    return Schedule(plan, actions, plan_buckets)


def compute_order(replica: Replica, schedule: ScheduleName) -> dict[str, list[Action]]:
    """The forwards and backwards of each device of `replica`.

    GPipe (Huang et al. 2019, section 2.3): all forwards, then all backwards. 1F1B (Narayanan et al., PipeDream-flush,
    2021, section 2.2.1): stage s of P first runs min(M, P - 1 - s) forwards, then one forward, one backward in turn, then the rest.
    Interleaved: see `_interleaved`. A replica of one stage is no pipeline: it runs each microbatch forward and backward, which
    holds one at a time in memory. Raises PlanError where devices hold several stages and the schedule cannot order them.
    """
    depth, count = len(replica.stages), replica.microbatches
    if schedule == "interleaved" and depth > 1:
        return _interleaved(replica)
    if len(replica.leaders) < depth:
        raise PlanError(
            f'{schedule} gives each device one stage, but in "{replica}" a device holds several; write interleaved'
        )
    order: dict[str, list[Action]] = {}
    for number, stage in enumerate(replica.stages):
        forwards = [Action(number, Kind.FORWARD, m) for m in range(count)]
        backwards = [Action(number, Kind.BACKWARD, m) for m in range(count)]
        warm_up = count if schedule == "gpipe" and depth > 1 else min(count, depth - 1 - number)
        order[stage.device] = _alternating(forwards, backwards, warm_up)
    return order


def _interleaved(replica: Replica) -> dict[str, list[Action]]:
    """Interleaved 1F1B (Narayanan et al., Megatron-LM, 2021, section 2.2.2): the v·P stages go round the P devices v times.

    Microbatches pass in groups: a group goes through all stages of a device before the next one starts. The paper's groups have P
    microbatches, which must divide M; here they have the smallest number from P on that does. Device d of P first runs
    (v - 1) · group + 2(P - 1 - d) forwards, then one forward, one backward in turn, then the rest.
    """
    devices, count = replica.leaders, replica.microbatches
    depth, width = len(replica.stages), len(devices)
    rounds = depth // width
    if depth % width or any(stage.device != devices[number % width] for number, stage in enumerate(replica.stages)):
        raise PlanError(f'interleaved needs stages that go round the devices in the same order each time; got "{replica}"')
    group = next((size for size in range(min(width, count), count + 1) if count % size == 0), count)
    order: dict[str, list[Action]] = {}
    for place, device in enumerate(devices):
        chunks = [place + width * turn for turn in range(rounds)]
        forwards = [Action(s, Kind.FORWARD, m) for s, m in _in_groups(chunks, count, group)]
        backwards = [Action(s, Kind.BACKWARD, m) for s, m in _in_groups(chunks[::-1], count, group)]
        order[device] = _alternating(forwards, backwards, (rounds - 1) * group + 2 * (width - 1 - place))
    return order


def _in_groups(stages: Sequence[int], count: int, group: int) -> list[tuple[int, int]]:
    """(stage, microbatch): `group` microbatches through all stages, then the next group."""
    return [(s, m) for first in range(0, count, group) for s in stages for m in range(first, first + group)]


def _alternating(forwards: list[Action], backwards: list[Action], warm_up: int) -> list[Action]:
    """The first `warm_up` forwards, then one forward and one backward in turn, then the backwards that are left."""
    warm_up = min(warm_up, len(forwards))
    steady = [action for pair in zip(forwards[warm_up:], backwards, strict=False) for action in pair]
    return forwards[:warm_up] + steady + backwards[len(forwards) - warm_up :]


def add_transfers(order: Sequence[Action], replica: Replica) -> list[Action]:
    """`order` with the sends and receives between stages put in.

    A send follows its producer at once. A receive is posted one computation early, so that the message can travel
    while the device still works.
    """
    last_stage = len(replica.stages) - 1
    # What a computation needs and what it sends, and the stage that has nobody to do that with.
    receives = {Kind.FORWARD: (Kind.RECV_F, 0), Kind.BACKWARD: (Kind.RECV_B, last_stage)}
    sends = {Kind.FORWARD: (Kind.SEND_F, last_stage), Kind.BACKWARD: (Kind.SEND_B, 0)}
    needs = [_message(action, *receives[action.kind]) for action in order]
    rows = [needs[0]]
    for action, next_need in zip(order, [*needs[1:], None], strict=True):
        rows += next_need, action, _message(action, *sends[action.kind])
    return [action for action in rows if action]


def add_exchange(order: Sequence[Action], plan_buckets: Sequence[Bucket], replica: Replica) -> tuple[Action, ...]:
    """`order` with one REDUCE for each of the device's buckets, and an UPDATE for each of its stages."""
    mine = sorted({action.stage for action in order})
    owner = {layer: number for number in mine for layer in replica.stages[number].layers}
    reduces = [Action(owner[b.first_layer], Kind.REDUCE, b.index) for b in plan_buckets if b.first_layer in owner]
    return (*order, *reduces, *(Action(stage, Kind.UPDATE) for stage in mine))


def _message(action: Action, kind: Kind, outermost: int) -> Action | None:
    """The message of `kind` that belongs to `action`; none where its stage is the `outermost` one."""
    return Action(action.stage, kind, action.item) if action.stage != outermost else None
