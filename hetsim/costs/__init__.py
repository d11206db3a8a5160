"""What work costs: the table of measurements, the curves through it, and the model that prices any action."""

from hetsim.costs.curve import Curve, Estimate
from hetsim.costs.model import CostModel
from hetsim.costs.table import CANARY, LOSS, PSEUDO_LAYERS, STEP, CostTable, LayerCost, Operation, Provenance, TransferCost

__all__ = [
    "CANARY", "LOSS", "PSEUDO_LAYERS", "STEP", "CostModel", "CostTable", "Curve", "Estimate", "LayerCost", "Operation",
    "Provenance", "TransferCost",
]  # fmt: skip
