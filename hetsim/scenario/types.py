"""A scenario, validated: frozen dataclasses that the rest of hetsim works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from hetsim.conditions import USUAL, Conditions
from hetsim.economics import UNPRICED, Economics
from hetsim.hardware import Cluster
from hetsim.objective import SHORTEST_STEP, Objective
from hetsim.plan import PLAIN_SCHEDULES, ExchangeName, PlainScheduleName, ScheduleName
from hetsim.workload import Chain, Training

Strategy = Literal["data_parallel", "model_parallel", "pipeline", "hybrid"]
"""Families of plans to consider; model parallel is a pipeline with one microbatch, a hybrid several replicas, some of them cut."""

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What one sample of a user's own network looks like."""

    shape: tuple[int, ...]
    """Of one sample, without the batch dimension."""

    vocabulary: int | None = None
    """Set: samples are integers below it (tokens). None: samples are normally distributed floats."""

    classes: int = 10
    """Labels are integers below it; the loss is cross-entropy over the last dimension of the network's output."""


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network as the scenario names it: from the zoo, from the user's own code, or as numbers alone."""

    name: str
    training: Training
    zoo: str | None = None
    """Name of a network of hetsim's zoo."""

    module: str | None = None
    """`module:function` of the user's own code, returning an `nn.Sequential`."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the zoo network or of the user's function."""

    input: InputSpec | None = None
    """With `module` only."""

    chain: Chain | None = None
    """With neither: the network as numbers, which can be planned and predicted but not run."""

    costs: Path | None = None
    """A cost table of its own; None: measured ones are used."""

    data: str | None = None
    """`module:function` of the user's own code, returning the dataset to train on; None: random samples."""

    data_arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of that function."""

    weight: float = 1.0
    """Its part of the fleet's work, relative to the other networks' weights: samples of it in a mix."""


MOST_DOUBLINGS = 6
"""The powers of two end with 64 samples."""


@dataclass(frozen=True, slots=True)
class Search:
    """Which plans to consider."""

    strategies: tuple[Strategy, ...] = STRATEGIES
    schedules: tuple[ScheduleName, ...] = PLAIN_SCHEDULES
    """Interleaved pipelines are made from those of the others."""

    microbatches: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Numbers of microbatches to consider for a pipeline, and for a replica of one device."""

    microbatch_samples: tuple[int, ...] | None = None
    """Sizes of microbatches to consider for a hybrid's replicas of several stages; None: powers of two."""

    exchanges: tuple[ExchangeName, ...] = ("ring",)
    """Plans with others are made from those with rings; only rings can be run."""

    objective: Objective = SHORTEST_STEP
    """What the best of them is."""

    @property
    def plain_schedules(self) -> tuple[PlainScheduleName, ...]:
        """Those for one stage a device."""
        return tuple(name for name in PLAIN_SCHEDULES if name in self.schedules)

    @property
    def has_variants(self) -> bool:
        """Whether plans are varied that the searches find."""
        return "interleaved" in self.schedules or self.exchanges != ("ring",)

    @property
    def pipeline_counts(self) -> tuple[int, ...]:
        """Numbers of microbatches of one pipeline; 1 is plain model parallelism."""
        counts = [1] if "model_parallel" in self.strategies else []
        counts += [count for count in self.microbatches if count > 1 and "pipeline" in self.strategies]
        return tuple(dict.fromkeys(counts))

    def sizes(self, global_batch: int) -> tuple[int, ...]:
        """Those sizes of which the batch has two or more."""
        every = self.microbatch_samples or tuple(2**n for n in range(MOST_DOUBLINGS + 1))
        return tuple(size for size in every if 2 * size <= global_batch)


@dataclass(frozen=True, slots=True)
class Measure:
    """How the real run is measured."""

    steps: int = 30
    """Timed steps of each plan."""

    warmup_steps: int = 3
    """Steps of each plan before timing starts."""

    timeout_s: float = 60.0
    """A rank that does nothing for so long is taken for dead."""

    lead_in_steps: int = 0
    """Untimed steps of a plan before each timed one: where plans alternate, a step finds the caches as the plan before left them,
    which no training does."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What is asked about the cluster."""

    variants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of a variant -> its edits, each in its one-line form."""

    buy: tuple[str, ...] = ()
    """Device types that can be bought; empty: all that have a purchase price."""

    samples: float | None = None
    """How many samples are to be trained in all; None: that is not asked."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that a user wrote, checked."""

    name: str
    networks: tuple[NetworkSpec, ...]
    cluster: Cluster
    search: Search = Search()
    measure: Measure = Measure()
    simulation: Conditions = USUAL
    economics: Economics = UNPRICED
    what_if: WhatIf = WhatIf()
    seed: int = 0
    path: Path | None = None
    """The file it was read from."""
