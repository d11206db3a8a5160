"""What coordinator and workers say to each other: JSON lines over the worker's pipes.

Commands (coordinator to worker)::

    {"do": "measure", "network": NAME, "microbatch": N, "budget_s": S, "precision": P}
    {"do": "links", "rank": R, "names": [DEVICE, ...], "port": PORT, "send_bytes": [...], "reduce_bytes": [...]}
    {"do": "stop"}

Replies: `{"progress": {"count": N, "median_s": S}}` while measuring, then one `{"result": ...}`. After the result of a
`measure` a worker goes on stepping until its next command, so that its neighbours are measured beside a busy device.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from hetsim.hardware import Device, DeviceType
from hetsim.scenario.types import InputSpec, NetworkSpec
from hetsim.workload import Training


def setup_to_json(device: Device, device_type: DeviceType, networks: tuple[NetworkSpec, ...], seed: int) -> str:
    """What a worker has to know about itself and the networks, as one line."""
    specs = [
        {
            "name": spec.name,
            "training": asdict(spec.training),
            "zoo": spec.zoo,
            "module": spec.module,
            "arguments": dict(spec.arguments),
            "input": asdict(spec.input) if spec.input else None,
        }
        for spec in networks
    ]
    return json.dumps({"device": asdict(device), "device_type": asdict(device_type), "networks": specs, "seed": seed})


def setup_from_json(line: str) -> tuple[Device, DeviceType, tuple[NetworkSpec, ...], int]:
    """The reverse of `setup_to_json`."""
    data = json.loads(line)
    device = Device(**(data["device"] | {"cores": tuple(data["device"]["cores"])}))
    return device, DeviceType(**data["device_type"]), tuple(map(_spec, data["networks"])), data["seed"]


def _spec(data: Mapping[str, Any]) -> NetworkSpec:
    sample = data["input"]
    return NetworkSpec(
        data["name"],
        Training(**data["training"]),
        data["zoo"],
        data["module"],
        data["arguments"],
        InputSpec(**(sample | {"shape": tuple(sample["shape"])})) if sample else None,
    )
