"""What coordinator and workers say to each other: JSON lines over the worker's pipes.

The first line is the worker's `Setup`. Then commands (coordinator to worker)::

    {"do": "measure", "network": NAME, "microbatch": N, "in_flight": K, "budget_s": S, "precision": P}
    {"do": "rest"}
    {"do": "check", "network": NAME, "microbatch": N}
    {"do": "links", "rank": R, "names": [DEVICE, ...], "meeting": ADDRESS, "send_bytes": [...], "reduce_bytes": [...]}
    {"do": "stop"}

Replies: `{"progress": {"count": N, "median_s": S}}` while measuring, `{"progress": {"what": TEXT}}` while timing links, then one
`{"result": ...}`. After the result of a `measure` a worker goes on stepping until its next command, so that its neighbours are
measured beside a busy device; `rest`, whose result is empty, ends that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hetsim.hardware import Device, DeviceType, Node
from hetsim.scenario.types import NetworkSpec

Report = Callable[[str], None]
"""Is told what is timed next."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker has to know about itself and the networks."""

    device: Device
    device_type: DeviceType
    node: Node | None
    """Whose address the links are timed over; None: the nodes need none."""

    networks: tuple[NetworkSpec, ...]
    seed: int
