"""The simulator: a SimPy event model of a plan's schedule, and the closed recurrence beside it."""

from hetsim.simulator.engine import simulate
from hetsim.simulator.milestones import step_ns
from hetsim.simulator.prediction import Prediction, Share, busy_s, least_step_s, predict, shared_step_s, step_s
from hetsim.simulator.prices import Prices, price
from hetsim.simulator.recurrence import solve

__all__ = [
    "Prediction",
    "Prices",
    "Share",
    "busy_s",
    "least_step_s",
    "predict",
    "price",
    "shared_step_s",
    "simulate",
    "solve",
    "step_ns",
    "step_s",
]
