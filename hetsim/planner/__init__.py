"""The planner: which devices hold what, and what of the batch they take; searches, bounds, baselines, and the choice."""

from hetsim.planner.gather import Effort
from hetsim.planner.result import Candidate, PlanningResult, Proposal, Rejection
from hetsim.planner.search import Evaluate, search
from hetsim.planner.watch import Watch

__all__ = ["Candidate", "Effort", "Evaluate", "PlanningResult", "Proposal", "Rejection", "Watch", "search"]
