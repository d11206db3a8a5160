"""Runs a device's list of actions with torch.distributed.pipelining. The one file that touches its private parts.

`_PipelineScheduleRuntime` goes through the list as it stands. Its own treatment of F and B is kept. Sends and receives are
given to it as functions of ours, which record them, and let the two directions travel in groups of their own: NCCL
works through one group's messages to a neighbour in order, so a receive that is posted early would hold up the send behind
it, on both sides at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, schedules

from executor.gradients import GradientExchange
from executor.recording import Message, Recorder
from hetsim.errors import RunError
from hetsim.schedule import Action, Kind

TRIED_VERSION = "2.13"

Loss = Callable[[Tensor, Tensor], Tensor]


def _no_range(_name: str) -> nullcontext[None]:
    return nullcontext()


# The runtime puts every action in a range of the profiler, even where none is running. Between two computations, with cold
# caches, that takes as long as sending a small message (0.15 ms); our own record makes it superfluous.
schedules.record_function = _no_range  # type: ignore[attr-defined,assignment]

_RUN_BY_TORCH = (Kind.FORWARD, Kind.BACKWARD, Kind.SEND_F, Kind.RECV_F, Kind.SEND_B, Kind.RECV_B)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The process groups of one replica, which all its devices belong to."""

    forward: dist.ProcessGroup
    """What activations travel in."""

    backward: dist.ProcessGroup
    """What their gradients travel in."""


class Pipeline:
    """One device's stages of one replica, ready to run their part of the schedule."""

    def __init__(
        self,
        modules: Mapping[int, nn.Module],
        exchanges: Mapping[int, GradientExchange],
        *,
        depth: int,
        actions: Mapping[int, Sequence[Action]],
        microbatches: int,
        loss: Loss,
        neighbours: Neighbours,
        device: torch.device,
        recorder: Recorder[Any],
    ) -> None:
        """`actions` are the lists of all devices of the replica, by rank in its groups.

        `modules` compute the stages, of `depth` in all, by number; `exchanges` are theirs. `loss` (outputs, targets) is what is
        minimised: its sum over all microbatches and replicas. Raises RunError where this torch lacks the runtime.
        """
        self._recorder = recorder
        self._groups = neighbours
        self._sent: list[_Sent] = []
        self._stages = {
            number: _Stage(module, number, depth, device, neighbours.forward, exchanges[number], recorder)
            for number, module in modules.items()
        }
        self._runtime = _runtime(list(self._stages.values()), microbatches, self._timed(loss), scale_grads=False)
        self._runtime._comp_type_to_function_map.update(  # noqa: SLF001
            {
                _torch_kind(Kind.SEND_F): self._send,
                _torch_kind(Kind.SEND_B): self._send,
                _torch_kind(Kind.RECV_F): self._receive,
                _torch_kind(Kind.RECV_B): self._receive,
            }
        )
        lists = {rank: [_torch_action(a) for a in row if a.kind in _RUN_BY_TORCH] for rank, row in actions.items()}
        self._runtime._prepare_schedule_with_comms(lists, format="compute_comms")  # noqa: SLF001

    def step(self, inputs: Tensor | None, targets: Tensor | None) -> Tensor | None:
        """Do all forwards, backwards, sends and receives of one step; returns the loss where this is the last stage.

        `inputs` are for the first stage, `targets` for the last. Messages may still be on their way: `wait_sent`.
        """
        losses: list[Tensor] = []
        arguments = () if inputs is None else (inputs,)
        self._runtime.step(*arguments, target=targets, losses=losses, return_outputs=False)
        return torch.stack([loss.detach() for loss in losses]).sum() if losses else None

    def wait_sent(self) -> None:
        """Go on when all messages of the step have been sent."""
        if self._sent:
            self._recorder.heartbeat.wait("its messages to be taken")
        for sent in self._sent:
            sent.work.wait()
            self._recorder.add(sent.action, sent.start, self._recorder.clock.now())
        self._sent.clear()

    def _timed(self, loss: Loss) -> Loss:
        """The loss belongs to the forward of the last stage, and ends it."""

        def timed(outputs: Tensor, targets: Tensor) -> Tensor:
            value = loss(outputs, targets)
            self._recorder.end()
            return value

        return timed

    def _send(self, action: Any, _context: Any) -> None:
        stage, forward = self._stages[action.stage_index], action.computation_type == _torch_kind(Kind.SEND_F)
        ops = (stage.get_fwd_send_ops if forward else stage.get_bwd_send_ops)(action.microbatch_index)
        for op in ops:
            start = self._recorder.clock.now()
            work = dist.isend(op.tensor, op.peer, self._group(forward=forward))
            assert work is not None
            self._sent.append(_Sent(str(action), start, work, op.tensor))

    def _receive(self, action: Any, _context: Any) -> None:
        stage, forward = self._stages[action.stage_index], action.computation_type == _torch_kind(Kind.RECV_F)
        ops = (stage.get_fwd_recv_ops if forward else stage.get_bwd_recv_ops)(action.microbatch_index)
        posted = self._runtime.fwd_recv_ops if forward else self._runtime.bwd_recv_ops
        posted[stage.stage_index, action.microbatch_index] = [self._post(op, str(action), forward=forward) for op in ops]

    def _post(self, op: Any, action: str, *, forward: bool) -> _Awaited:
        recorder = self._recorder
        start = recorder.clock.now()
        work = dist.irecv(op.tensor, op.peer, self._group(forward=forward))
        assert work is not None
        if recorder.is_sparse:
            return _Awaited(work, action, recorder)
        return _Awaited(recorder.clock.watch(work, lambda end: recorder.add(action, start, end)), action, recorder)

    def _group(self, *, forward: bool) -> dist.ProcessGroup:
        return self._groups.forward if forward else self._groups.backward


class _Stage(PipelineStage):
    """A stage that records its computation, and sets the exchange of gradients off in its last backward."""

    def __init__(
        self,
        module: nn.Module,
        stage: int,
        count: int,
        device: torch.device,
        group: dist.ProcessGroup,
        exchange: GradientExchange,
        recorder: Recorder[Any],
    ) -> None:
        super().__init__(module, stage, count, device, group=group)
        self._exchange = exchange
        self._recorder = recorder
        self._microbatch = 0

    def forward_one_chunk(self, fwd_chunk_id: int, *arguments: Any, **keywords: Any) -> Any:
        self._microbatch = fwd_chunk_id
        return super().forward_one_chunk(fwd_chunk_id, *arguments, **keywords)

    def forward_maybe_with_nosync(self, *arguments: Any, **keywords: Any) -> Any:
        """The module's forward alone: what the runtime does around it stands between two computations, as it does for messages."""
        self._recorder.begin(Action(self.stage_index, Kind.FORWARD, self._microbatch))
        outputs = super().forward_maybe_with_nosync(*arguments, **keywords)  # type: ignore[no-untyped-call]
        if not self.is_last:
            self._recorder.end()
        return outputs

    def backward_one_chunk(
        self, bwd_chunk_id: int, loss: Tensor | None = None, full_backward: bool = True, last_backward: bool = False
    ) -> None:
        if last_backward:
            self._exchange.before_last_backward()
        self._recorder.begin(Action(self.stage_index, Kind.BACKWARD, bwd_chunk_id))
        super().backward_one_chunk(bwd_chunk_id, loss, full_backward, last_backward)
        self._recorder.end()


@dataclass(frozen=True, slots=True)
class _Sent:
    """A message that was handed over."""

    action: str
    start: Any
    work: dist.Work
    tensor: Tensor
    """Held until it has been sent."""


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A receive, as the runtime waits for it before the F or B that needs it."""

    message: Message
    action: str
    recorder: Recorder[Any]

    def wait(self) -> None:
        self.recorder.heartbeat.wait(self.action)
        self.message.wait()


def _runtime(stages: Sequence[PipelineStage], microbatches: int, loss: Loss, *, scale_grads: bool) -> Any:
    """Torch's runtime of schedules. Raises RunError where this torch has none that works as the one we know."""
    kind = getattr(schedules, "_PipelineScheduleRuntime", None)
    runtime = kind(list(stages), n_microbatches=microbatches, loss_fn=loss, scale_grads=scale_grads) if kind else None
    needed = ("_comp_type_to_function_map", "_prepare_schedule_with_comms", "fwd_recv_ops", "bwd_recv_ops", "step")
    missing = [name for name in needed if not hasattr(runtime, name)]
    if not hasattr(PipelineStage, "forward_maybe_with_nosync"):
        missing.append("forward_maybe_with_nosync")
    if missing:
        raise RunError(
            f"torch {torch.__version__} cannot run schedules as torch {TRIED_VERSION} does: "
            f"its pipelining runtime lacks {', '.join(missing)}; install torch {TRIED_VERSION}"
        )
    return runtime


def _torch_kind(kind: Kind) -> Any:
    return schedules._ComputationType(kind.value)  # noqa: SLF001


def _torch_action(action: Action) -> Any:
    return schedules._Action.from_str(str(action))  # noqa: SLF001 - the same text
