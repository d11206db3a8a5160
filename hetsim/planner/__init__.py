"""The planner: which devices hold what, and what of the batch they take; searches, bounds, baselines, and the choice."""

from hetsim.planner.evaluation import Evaluate
from hetsim.planner.families import Effort
from hetsim.planner.result import Candidate, PlanningResult, Proposal, Rejection
from hetsim.planner.search import search
from hetsim.planner.tariff import Tariff
from hetsim.planner.watch import Watch

__all__ = ["Candidate", "Effort", "Evaluate", "PlanningResult", "Proposal", "Rejection", "Tariff", "Watch", "search"]
