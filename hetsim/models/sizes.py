"""What the zoo offers: its networks, their sizes with defaults, and what is wrong with sizes that a user chose. No torch.

The defaults are modest: one training step of 64 images or 16 sequences takes tenths of a second on one processor core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hetsim.reading import shown

Size = int | float | str

NORMS: Final = ("group", "batch", "none")
HEADS: Final = ("classify", "mlm")

ZOO: Final[dict[str, dict[str, Size]]] = {
    "mlp": {
        "features": 1024,  # floats of one sample
        "width": 1024,  # of every hidden layer
        "depth": 8,  # hidden layers
        "classes": 10,
    },
    "vgg": {
        "image": 32,  # pixels along a side
        "channels": 3,  # of the image
        "width": 32,  # channels after the first convolution; every level doubles them
        "levels": 3,  # resolutions; every level ends by halving the image
        "depth": 3,  # convolutions of a level
        "hidden": 256,  # width of the dense layer before the head
        "classes": 10,
        "norm": "group",  # group, batch or none
    },
    "resnet": {
        "image": 32,  # pixels along a side
        "channels": 3,  # of the image
        "width": 32,  # channels of the first level; every level doubles them
        "levels": 3,  # resolutions; every level but the first begins by halving the image
        "depth": 2,  # residual blocks of a level, of two convolutions each
        "classes": 10,
        "norm": "group",  # group, batch or none
    },
    "gpt": {
        "vocabulary": 1024,
        "sequence": 64,  # tokens of one sample
        "width": 192,  # of the residual stream
        "depth": 6,  # transformer blocks
        "heads": 6,  # of attention
    },
    "bert": {
        "vocabulary": 1024,
        "sequence": 64,  # tokens of one sample
        "width": 192,  # of the residual stream
        "depth": 6,  # transformer blocks
        "heads": 6,  # of attention
        "head": "classify",  # classify: one label a sample; mlm: one token a position
        "classes": 10,  # with head classify
    },
}
"""Zoo name -> the sizes it takes, with their defaults."""

_MOST: Final = {"depth": 10_000, "levels": 20}
"""Sizes that are numbers of layers -> how many there may be; with more levels, no image could be halved so often."""

CHOICES: Final[dict[str, tuple[str, ...]]] = {"norm": NORMS, "head": HEADS}
"""Sizes that are words -> the words they may be."""


def size_faults(zoo: str, chosen: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the sizes a user chose for the zoo's network `zoo`: size -> what was got and what was expected.

    Empty where nothing is. `zoo` must be a name of the zoo; sizes not chosen have their defaults.
    """
    defaults = ZOO[zoo]
    faults = {
        name: f'{zoo} has no size "{name}", expected one of {", ".join(defaults)}' for name in chosen if name not in defaults
    }
    for name, value in chosen.items():
        if name not in faults and (fault := _fault_of(name, value)):
            faults[name] = fault
    if not faults:
        faults |= _misfits(zoo, {**defaults, **chosen})
    return faults


def _fault_of(name: str, value: Any) -> str | None:
    if name in CHOICES:
        return None if value in CHOICES[name] else f"got {shown(value)}, expected one of {', '.join(CHOICES[name])}"
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        return f"got {shown(value)}, expected a whole number of 1 or more"
    most = _MOST.get(name, 1_000_000)
    return None if value <= most else f"got {shown(value)}, expected {most} at most"


def _misfits(zoo: str, sizes: Mapping[str, Any]) -> dict[str, str]:
    """Sizes that are well by themselves and do not fit one another."""
    faults: dict[str, str] = {}
    if "heads" in sizes and sizes["width"] % sizes["heads"]:
        faults["heads"] = f"got {sizes['heads']}, expected a divisor of width, {sizes['width']}"
    if "levels" in sizes:
        halvings = sizes["levels"] if zoo == "vgg" else sizes["levels"] - 1
        if sizes["image"] % 2**halvings:
            faults["image"] = (
                f"got {sizes['image']}, expected a multiple of {2**halvings}, "
                f"because {sizes['levels']} levels halve it {halvings} times"
            )
    return faults
