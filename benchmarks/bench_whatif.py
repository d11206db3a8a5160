"""How long the search for the best purchase takes: thousands of sets of devices for a cluster of 16.

`python -m benchmarks.bench_whatif [--budget MONEY] [--workers N]`. The room of scenarios/buy_under_budget.yaml with two more V100s
in each of its new nodes, eight slots in every node, V100s and A100s to be had; once for ResNet-50 and once for the mix of the
three networks of scenarios/retire_k80.yaml. Nothing is taken from a journal. Beside it, how long planning every set would have
taken, from a sample.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from hetsim.cli.session import Session
from hetsim.cli.whatif import estimator_of
from hetsim.study.edits import edited
from hetsim.study.estimate import Estimator
from hetsim.study.purchases import purchases
from hetsim.study.sets import Limits, all_variants

BUY, MIX = Path("scenarios/buy_under_budget.yaml"), Path("scenarios/retire_k80.yaml")
KINDS = ("V100", "A100")
SLOTS = 8
SAMPLED = 40
"""Sets that are planned to see how long one takes."""


def world(scenario: Path) -> Estimator:
    """The networks of `scenario` on the cluster of 16."""
    room = estimator_of(Session(BUY, None, Path("runs/costs")))
    roomy = tuple(replace(node, slots=SLOTS) for node in room.scenario.cluster.nodes)
    cluster = replace(room.scenario.cluster, nodes=roomy)
    cluster = edited(cluster, ["buy 2 V100 into new1", "buy 2 V100 into new2"]).cluster
    asked = estimator_of(Session(scenario, None, Path("runs/costs")))
    scene = replace(room.scenario, cluster=cluster, networks=asked.scenario.networks)
    return Estimator(scene, asked.chains, asked.tables)


def measure(name: str, estimator: Estimator, budget: float, workers: int) -> str:
    """One row of the table."""
    limits = Limits(budget)
    every = list(all_variants(estimator.scenario.cluster, KINDS, limits))
    sample = [every[int(place)] for place in np.random.default_rng(0).choice(len(every), SAMPLED, replace=False)]
    began_s = time.perf_counter()
    for variant in sample:
        estimator.estimate(variant, interval=False)
    each_s = (time.perf_counter() - began_s) / SAMPLED
    began_s = time.perf_counter()
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        found = purchases(estimator, KINDS, limits, pool, at_once=2 * workers)
    took_s = time.perf_counter() - began_s
    every_s = each_s * found.considered / workers
    return (
        f"| {name} | {found.considered:,} | {len(found.purchases):,} | {took_s:.0f} s | {every_s:.0f} s "
        f"| {len(found.front)} | {len(found.energy_front)} |"
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=82_000.0)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    heads = ("networks", "sets", "planned", "search", "planning every set", "front", "energy front")
    sys.stdout.write(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|\n")
    for name, scenario in (("resnet50", BUY), ("resnet50, transformer, bert", MIX)):
        sys.stdout.write(measure(name, world(scenario), given.budget, given.workers) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
