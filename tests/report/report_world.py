"""A network, a mixed cluster, plans and their timelines, as the reports get them."""

from dataclasses import dataclass

import numpy as np

from hetsim.costs import CostModel, CostTable
from hetsim.hardware import Cluster
from hetsim.plan import Plan
from hetsim.schedule import make_schedule
from hetsim.simulator import price, simulate
from hetsim.timeline import Span, Timeline
from hetsim.workload import Chain

DATA_PARALLEL = "fast0[0:9] 44/1 | fast1[0:9] 12/1 | slow0[0:9] 8/1"
PIPELINE = "fast0[0:5] > fast1[5:8] > slow0[8:9] 64/8; 1f1b"
HYBRID = "fast0[0:6] > slow0[6:9] 40/4 | fast1[0:9] 24/2; gpipe"


@dataclass(frozen=True, slots=True)
class World:
    """One network on one mixed cluster."""

    chain: Chain
    cluster: Cluster
    table: CostTable

    def predicted(self, plan: Plan) -> Timeline:
        """The simulated timeline of `plan`."""
        schedule = make_schedule(plan, self.chain)
        return simulate(schedule, price(plan, CostModel(self.chain, self.cluster, self.table)))


def slowed(timeline: Timeline, factor: float, seed: int = 0) -> Timeline:
    """`timeline` as a run might have measured it: all later by `factor`, computations shorter by up to 2 %."""
    random = np.random.default_rng(seed)

    def measured(span: Span) -> Span:
        start_ns, end_ns = round(span.start_ns * factor), round(span.end_ns * factor)
        early = random.uniform(0, 0.02) if span.lane == "compute" else 0.0
        return span._replace(start_ns=start_ns, end_ns=end_ns - round(early * (end_ns - start_ns)))

    return Timeline.of(map(measured, timeline.spans))
