"""How devices are called: after their type, numbered through the cluster."""

from __future__ import annotations

import re
from collections import Counter


class DeviceNames:
    """Gives out names such as `fast0`, `fast1` or `k80-0`: lower case, without spaces, as they stand in plans."""

    def __init__(self) -> None:
        self._used: Counter[str] = Counter()

    def next(self, device_type: str) -> str:
        """A name that was not given out before, for a device of `device_type`."""
        stem = re.sub(r"[^\w.]+", "-", device_type.lower()).strip("-")
        if not stem[-1:].isalpha():
            stem += "-"  # so that the tenth of "a1" and the first of "a11" differ
        name = f"{stem}{self._used[stem]}"
        self._used[stem] += 1
        return name
