"""How fast plans are found, and how near to the best possible they are: `make bench-planner`; one process, one core.

For each generated problem (`planner_cases`): the processor's seconds that the whole search takes, its step beside the best plan of
data parallelism alone and of one pipeline alone, and the gap that it proves; before that, the same of splitting the batch alone.
And the seconds of one large layer split, the median of nine.
"""

from __future__ import annotations

import math
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.planner_cases import A100, T4, V100, PlanningCase, case, cases, gpt
from hetsim.planner import PlanningResult, Watch, search
from hetsim.planner.batch_split import BatchSplit
from hetsim.planner.exchange_floor import ExchangeFloor
from hetsim.planner.kinds import kinds_of
from hetsim.planner.pools import pools_of
from hetsim.planner.replica_split import ReplicaSplit
from hetsim.planner.stage_grid import StageGrid
from hetsim.scenario.types import Search
from hetsim.simulator import least_step_s, shared_step_s, step_s

SIZES = (16, 128, 512, 768)
MOST_S = 60.0
"""A search is told to end by then; what it is at is finished first."""

SPACE = Search(microbatches=(1, 2, 4, 8, 16, 32, 64))


@dataclass(frozen=True, slots=True)
class Row:
    """One problem and its answer."""

    name: str
    seconds: float
    result: PlanningResult

    def best_of(self, strategy: str) -> float:
        """The shortest step among candidates of one strategy; infinite where there is none."""
        return min((c.step_s for c in self.result.candidates if c.strategy == strategy), default=float("inf"))


def solve(problem: PlanningCase) -> Row:
    """The answer to one problem, and how long it took."""
    costs = problem.costs
    start = time.process_time()
    result = search(
        costs,
        problem.training,
        SPACE,
        lambda plan: least_step_s(plan, costs),
        settle=lambda plan: shared_step_s(plan, costs),
        watch=Watch(MOST_S),
    )
    return Row(problem.name, time.process_time() - start, result)


HEAD = "| problem | search | step | chosen | best data parallel | best pipeline | gap |\n|---|---|---|---|---|---|---|"


def line(row: Row) -> str:
    """The answer, as a row of a Markdown table."""
    others = [row.best_of(name) for name in ("data_parallel", "pipeline")]
    beside = " | ".join(f"{step:.3f} s" if step < float("inf") else "does not fit" for step in others)
    gap = "none" if row.result.gap is None else f"{row.result.gap:.1%}"
    chosen = row.result.chosen
    return f"| {row.name} | {row.seconds:.1f} s | {chosen.step_s:.3f} s | {chosen.strategy} | {beside} | {gap} |"


def growth(rows: Sequence[tuple[str, float]]) -> float:
    """The power of the number of devices with which seconds grow, over rows of (name, seconds) whose name begins with that number.

    By least squares on logarithms, each network and cluster with a factor of its own.
    """
    parts: dict[str, list[tuple[float, float]]] = {}
    for name, seconds in rows:
        devices, _, which = name.partition(" devices, ")
        parts.setdefault(which, []).append((math.log(int(devices)), math.log(seconds)))
    x, y = np.concatenate([np.array(part) - np.mean(part, axis=0) for part in parts.values()]).T
    return float((x * y).sum() / (x * x).sum())


def batch_split(problem: PlanningCase) -> str:
    """The exact split of the batch alone, as a row of a Markdown table."""
    costs, cluster = problem.costs, problem.costs.cluster
    start = time.process_time()
    pools = pools_of(cluster, (kind.name for kind in cluster.used_types))
    split = BatchSplit(costs, problem.training, pools, SPACE.microbatches)
    found = split.best()
    bound_s = split.bound_s(found[0].objective_s if found else float("inf"))
    seconds = time.process_time() - start
    if not found:
        return f"| {problem.name} | {seconds:.1f} s | does not fit | | |"
    plan = found[0].plan
    step = step_s(plan, costs)
    gap = round(step / bound_s - 1, 6) + 0.0  # steps are whole nanoseconds, and nothing is less than nothing
    return f"| {problem.name} | {seconds:.1f} s | {step:.3f} s | {len(plan.devices)} | {gap:.2%} |"


def layer_split() -> str:
    """The exact cut of 96 layers over 16 devices of three types, all of them used: seconds."""
    problem = case("96 layers", gpt(94, 1024), [(A100, 5, 5), (V100, 5, 5), (T4, 6, 6)], 512, 100.0)
    kinds = kinds_of(problem.costs)
    grid = StageGrid(problem.costs, problem.training, kinds, 8, ExchangeFloor(problem.costs))
    seconds = []
    for _ in range(9):
        start = time.process_time()
        found = ReplicaSplit(grid, 64).best(tuple(kind.count for kind in kinds))
        seconds.append(time.process_time() - start)
    near = found.high_s / found.low_s - 1
    return f"96 layers over 16 devices of three types: {statistics.median(seconds) * 1e3:.0f} ms, {near:.2%} from its bound"


def main() -> int:
    """Print the tables; sizes may be given."""
    sizes = [int(word) for word in sys.argv[1:]] or SIZES
    sys.stdout.write(layer_split() + "\n\n")
    sys.stdout.write("| data parallelism alone | search | step | devices | gap |\n|---|---|---|---|---|\n")
    sys.stdout.write("\n".join(batch_split(problem) for size in sizes for problem in cases(size)) + "\n\n")
    sys.stdout.write(HEAD + "\n")
    rows = []
    for problem in (problem for size in sizes for problem in cases(size)):
        rows.append(solve(problem))
        sys.stdout.write(line(rows[-1]) + "\n")
        sys.stdout.flush()
    if len(sizes) > 1:
        power = growth([(row.name, row.seconds) for row in rows])
        sys.stdout.write(f"\nsearches take as long as (number of devices) ^ {power:.2f}\n")
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"\npeak memory of the process: {peak_mib:.0f} MiB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
