"""Plans turned into candidates, each once, and ranked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable

from hetsim.costs import CostModel
from hetsim.memory import MemoryUse, memory_use
from hetsim.objective import Objective
from hetsim.plan import Plan, Replica, ScheduleName
from hetsim.planner.families import overfull
from hetsim.planner.names import plan_name, strategy_of
from hetsim.planner.result import Candidate, Proposal
from hetsim.planner.tariff import Tariff
from hetsim.workload import Training

Evaluate = Callable[[Plan], float]
"""Seconds of a step of a plan."""

SETTLED = 8
"""Of so many of the best candidates it is known what sharing links makes of their steps."""

SETTLED_ACTIONS = 10_000
"""Unless they have more forwards and backwards than that."""


class Evaluations:
    """All plans that were looked at, whichever search proposed them."""

    def __init__(
        self,
        costs: CostModel,
        training: Training,
        evaluate: Evaluate,
        settle: Evaluate,
        objective: Objective,
        tariff: Tariff | None,
    ) -> None:
        """`evaluate`: quick, and never above `settle`. `tariff`: None where the objective is time alone."""
        self.costs = costs
        self.training = training
        self.objective = objective
        self.tariff = tariff
        self._type_of = {device.name: device.type for device in costs.cluster.devices}
        self._evaluate = evaluate
        self._settle = settle
        self._by_plan: dict[Plan, Candidate | None] = {}
        self._replicas_s: dict[Hashable, float] = {}
        """(schedule, look) -> seconds of a replica of that look alone."""

        self._settled: set[Plan] = set()
        self._best: Candidate | None = None
        """The best of all that are settled."""

        self._actions = 0
        """Forwards and backwards of those."""

    @property
    def best(self) -> Candidate | None:
        """The best candidate so far that is within the limits; None: none is."""
        return self._best if self._best is not None and self._best.excess(self.objective) <= 0 else None

    @property
    def best_known(self) -> Candidate | None:
        """The same, be it within the limits or not."""
        return self._best

    @property
    def evaluated(self) -> int:
        """Plans whose step was worked out; those that do not fit the memory are not."""
        return sum(row is not None for row in self._by_plan.values())

    def candidate(self, plan: Plan) -> Candidate | None:
        """The candidate, settled where it may be the best; None where it does not fit the memory."""
        if plan not in self._by_plan:
            memory = memory_use(plan, self.costs, self.training)
            fits = overfull(memory) is None
            self._by_plan[plan] = self._made(plan, self._evaluate(plan), memory) if fits else None
        row = self._by_plan[plan]
        if row is not None and self._may_be_best(row):
            self.settle(plan)
        return self._by_plan[plan]

    def known(self, plan: Plan) -> Candidate:
        """A candidate that was evaluated before."""
        row = self._by_plan[plan]
        assert row is not None, "only what fits is asked for again"
        return row

    def settle(self, plan: Plan) -> Candidate:
        """The candidate as it is where transfers and cores are shared."""
        row = self.known(plan)
        if plan not in self._settled:
            self._settled.add(plan)
            self._actions += sum(2 * replica.microbatches * len(replica.stages) for replica in plan.replicas)
            row = self._by_plan[plan] = self._made(plan, self._settle(plan), row.memory)
            if self._may_be_best(row):
                self._best = row
        return row

    def alone_s(self, replica: Replica, schedule: ScheduleName) -> float:
        """Seconds of a step of `replica` if it were alone."""
        key = (schedule, _look_of(replica, self.costs))
        if key not in self._replicas_s:
            self._replicas_s[key] = self._evaluate(Plan((replica,), schedule))
        return self._replicas_s[key]

    def ranked(self, settled: int = 1) -> tuple[Candidate, ...]:
        """All candidates, best first, the first `settled` of them settled; of those that take as long, and differ in the order of
        replicas or in which devices of a type they use alone, the one that was looked at first.

        Beyond `SETTLED_ACTIONS` only those are settled that may be the best.
        """
        while True:
            found = (row for row in self._by_plan.values() if row is not None)
            rows = sorted(found, key=lambda row: rank(row, self.objective))
            unsettled = [row for row in rows[:settled] if row.plan not in self._settled]
            needed = [row for row in unsettled if self._may_be_best(row) or self._actions < SETTLED_ACTIONS]
            if not needed:
                first: dict[Hashable, Candidate] = {}
                every = (row for row in self._by_plan.values() if row is not None)
                kept = {id(first.setdefault(self._look(row), row)) for row in every}
                return tuple(row for row in rows if id(row) in kept)
            self.settle(needed[0].plan)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _look(self, row: Candidate) -> Hashable:
        """What candidates have in common that are the same but for the order of their replicas and for devices of one type."""
        plan, kind = row.plan, self._type_of
        replicas = Counter(
            (
                tuple((kind[s.device], len(s.group), s.start, s.stop) for s in replica.stages),
                replica.samples,
                replica.microbatches,
            )
            for replica in plan.replicas
        )
        return frozenset(replicas.items()), plan.schedule, plan.exchange, row.step_s, row.bill

    def _may_be_best(self, row: Candidate) -> bool:
        return self._best is None or rank(row, self.objective)[:2] < rank(self._best, self.objective)[:2]

    def _made(self, plan: Plan, step_s: float, memory: tuple[MemoryUse, ...]) -> Candidate:
        bill = None if self.tariff is None else self.tariff.bill(plan, step_s)
        return Candidate(plan_name(plan), strategy_of(plan), plan, step_s, memory, bill)


class Race:
    """One search for the shortest step: what it proposes is evaluated as far as that can matter to it."""

    def __init__(self, evaluations: Evaluations, worthless_s: float = float("inf")) -> None:
        """From `worthless_s` on a step is of no use."""
        self.best_s = worthless_s
        """The shortest step so far."""

        self._evaluations = evaluations

    @property
    def has_plan(self) -> bool:
        """Whether this search or one before it has found a plan that fits."""
        return self._evaluations.best_known is not None

    def __call__(self, proposal: Proposal) -> float:
        """Seconds of the step, infinite where it does not fit."""
        row = self.see(proposal.plan)
        return row.step_s if row is not None else float("inf")

    def see(self, plan: Plan) -> Candidate | None:
        """The candidate that `plan` makes, settled where it may be the shortest; None where it does not fit."""
        row = self._evaluations.candidate(plan)
        if row is not None and row.step_s < self.best_s:
            row = self._evaluations.settle(plan)
            self.best_s = min(self.best_s, row.step_s)
        return row


def rank(row: Candidate, objective: Objective) -> tuple[float, float, int, int, str]:
    """What candidates are sorted by: within the limits, or else as near to them as can be; then by the figure that is asked for.

    On a tie the one with fewer devices, then with fewer microbatches, comes first.
    """
    microbatches = sum(replica.microbatches for replica in row.plan.replicas)
    return row.excess(objective), row.figure(objective.least), len(row.plan.devices), microbatches, str(row.plan)


def _look_of(replica: Replica, costs: CostModel) -> Hashable:
    """What the step of a replica alone depends on, single links aside."""
    cluster = costs.cluster
    nodes = [cluster.device(stage.device).node for stage in replica.stages]
    stages = tuple(
        (cluster.device(stage.device).type, len(stage.group), stage.start, stage.stop, node == nodes[max(0, place - 1)])
        for place, (stage, node) in enumerate(zip(replica.stages, nodes, strict=True))
    )
    return stages, replica.samples, replica.microbatches
