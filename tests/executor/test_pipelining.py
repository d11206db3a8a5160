"""The adapter says so when torch has changed under it."""

import pytest
from torch.distributed.pipelining import schedules

from executor import pipelining
from hetsim.errors import RunError


def test_a_torch_without_the_runtime_is_refused_with_what_is_missing(monkeypatch):
    monkeypatch.delattr(schedules, "_PipelineScheduleRuntime")
    with pytest.raises(RunError, match=r"lacks _comp_type_to_function_map, .*install torch 2\.13"):
        pipelining._runtime([], 1, lambda outputs, targets: outputs, scale_grads=False)


def test_a_torch_whose_runtime_works_otherwise_is_refused_with_what_is_missing(monkeypatch):
    class Other:
        def __init__(self, stages, **options):
            self._comp_type_to_function_map = {}
            self.fwd_recv_ops = {}
            self.bwd_recv_ops = {}

        def step(self):
            """As it was."""

    monkeypatch.setattr(schedules, "_PipelineScheduleRuntime", Other)
    with pytest.raises(RunError, match="lacks _prepare_schedule_with_comms;"):
        pipelining._runtime([], 1, lambda outputs, targets: outputs, scale_grads=False)
