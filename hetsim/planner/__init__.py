"""The planner: exact batch and layer splits, baselines, lower bounds, and the choice between them."""

from hetsim.planner.batch_split import BatchSplit
from hetsim.planner.layer_split import LayerSplit
from hetsim.planner.result import Candidate, PlanningResult, Proposal, Rejection
from hetsim.planner.search import Evaluate, search

__all__ = ["BatchSplit", "Candidate", "Evaluate", "LayerSplit", "PlanningResult", "Proposal", "Rejection", "search"]
