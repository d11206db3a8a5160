"""What a device is: its type (the specification) and the piece that sits in a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hetsim.economics import Power, Price

Backend = Literal["cpu", "cuda", "paper"]
"""How a device is driven: on this machine's CPU, on a CUDA (or ROCm) accelerator, or only on paper."""

Isa = Literal["full", "avx2", "sse4.2"]
"""The instruction set that a CPU device may use; `full` is all that the processor has."""


@dataclass(frozen=True, slots=True)
class DeviceType:
    """A kind of accelerator. A blank specification (None) is unknown, never zero."""

    name: str
    backend: Backend = "paper"
    memory_bytes: int | None = None
    """What one device can hold; None: not limited, or not known."""

    peak_flops_per_s: float | None = None
    """Peak rate in the training dtype; used by the FLOPs-proportional baseline alone, never for a prediction."""

    catalogue: str | None = None
    """Its entry in the catalogue of accelerators, by which costs can be transferred to it and from it."""

    isa: Isa = "full"
    """CPU only: the cap on the instruction set."""

    threads: int = 1
    """CPU only: threads a device computes with."""

    price: Price | None = None
    power: Power | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """One piece of a device type in a node."""

    name: str
    """Unique in the cluster; what plans and timelines call it."""

    type: str
    """Name of its device type."""

    node: str
    """Name of its node."""

    index: int = 0
    """CUDA: the ordinal of the device in its node."""

    cores: tuple[int, ...] = ()
    """CPU only: the cores that it is pinned to; empty: not pinned."""
