"""Calibration: times real layers on the real devices, in place, and the links between them. Its workers import torch."""
