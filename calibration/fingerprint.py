"""What a timing depends on besides the network: the machine, the device, the software, its settings.

`python -m calibration.fingerprint` prints that of the device that it reads as one JSON line, for a coordinator on another host.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from hetsim.errors import CalibrationError, Problem
from hetsim.hardware import Device, DeviceType, Node
from hetsim.hardware.binding import environment
from hetsim.hardware.identity import identity
from hetsim.hardware.reach import command_on, is_remote
from hetsim.plain import from_plain, to_plain

METHOD = 10
"""Raised when the way of timing changes, so that old and new timings are not mixed."""

PATIENCE_S = 120.0
"""For another host's answer, which may have to load torch."""


def fingerprint(device: Device, device_type: DeviceType, node: Node | None = None) -> dict[str, Any]:
    """Of `device`, in `node` (None: on this host): a JSON-able mapping. Timings under another fingerprint are not comparable.

    Raises CalibrationError where `node` is another host that does not answer.
    """
    if node is not None and is_remote(node):
        return _asked(device, device_type, node)
    return {"method": METHOD, "environment": environment(device, device_type), **identity(device, device_type)}


def _asked(device: Device, device_type: DeviceType, node: Node) -> dict[str, Any]:
    question = json.dumps([to_plain(device), to_plain(device_type)])
    command, variables = command_on(node, [sys.executable, "-m", "calibration.fingerprint"], {})
    try:
        answer = subprocess.run(
            command, input=question, env=variables, capture_output=True, text=True, timeout=PATIENCE_S, check=True
        )
        return dict(json.loads(answer.stdout))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        what = f"does not answer: {said[-1] if said else error}"
        mend = f"Try: ssh {node.ssh} {sys.executable} -m hetsim doctor"
        raise CalibrationError(Problem(f'node "{node.name}"', what, mend)) from None


def main() -> None:
    """Answer the question on stdin."""
    device, device_type = json.loads(sys.stdin.readline())
    answer = fingerprint(from_plain(Device, device), from_plain(DeviceType, device_type))
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
