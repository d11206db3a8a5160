"""What work costs: the table of measurements, the curves through it, and the model that prices any action."""

from hetsim.costs.curve import Curve, Estimate
from hetsim.costs.model import CostModel
from hetsim.costs.table import (
    ALONE,
    CANARY,
    CONTEXT,
    CROWD,
    LOSS,
    PSEUDO_LAYERS,
    STEP,
    WORKSPACE,
    CostTable,
    LayerCost,
    Operation,
    Provenance,
    TransferCost,
)

__all__ = [
    "ALONE", "CANARY", "CONTEXT", "CROWD", "LOSS", "PSEUDO_LAYERS", "STEP", "WORKSPACE", "CostModel", "CostTable", "Curve",
    "Estimate", "LayerCost", "Operation", "Provenance", "TransferCost",
]  # fmt: skip
