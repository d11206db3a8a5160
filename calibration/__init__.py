"""Calibration: times real layers on the real devices, in place, and the links between them. Only its workers import torch."""
