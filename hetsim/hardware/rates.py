"""What an accelerator achieves, rather than what its datasheet promises: of computing, of memory, and of whole training steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Final

from hetsim.hardware.catalogue import Accelerator, Format, accelerators

STEP_FACTORS: Final[Mapping[str, float]] = MappingProxyType(
    {
        "A100": 1.01, "A40": 1.02, "K80": 1.60, "P100": 1.06, "Quadro RTX 6000": 0.95, "RTX 2080 Ti": 0.90, "RTX 3090": 0.85,
        "T4": 0.86, "V100": 0.93,
    }
)  # fmt: skip
"""Device, with all its variants -> seconds of a training step over what its achieved rates say, relative to the other devices:
what the rates leave out, as how well kernels suit the architecture. `make accuracy-public` fits them to published steps."""


@dataclass(frozen=True, slots=True)
class AchievedRates:
    """Of one accelerator in one format."""

    name: str
    flops_per_s: float
    bytes_per_s: float
    step_factor: float = 1.0
    """By which steps take longer than the two rates say."""

    trained_on: bool = False
    """Whether the step factor is known from training steps on such a device, or is 1 for want of any."""


def achieved_rates(entry: Accelerator, kind: Format) -> AchievedRates | None:
    """What `entry` achieves in matrix products of `kind` and of its memory; None where the specification lacks either.

    Measured where somebody has published it; else the peak times the fraction that variants of the chip reach, or all devices
    together do (their median). `tf32` is float32 with TF32 allowed: the faster of the two.
    """
    flops = _flops_per_s(entry, "float32" if kind == "tf32" else kind)
    if kind == "tf32" and entry.peak_flops_per_s.get("tf32"):
        flops = max(flops or 0.0, entry.peak_flops_per_s["tf32"] * _fraction(entry, _matrix_fractions()))
    bandwidth = entry.measured_bandwidth_bytes_per_s
    if bandwidth is None and entry.memory_bandwidth_bytes_per_s is not None:
        bandwidth = entry.memory_bandwidth_bytes_per_s * _fraction(entry, _bandwidth_fractions())
    if flops is None or bandwidth is None:
        return None
    model = model_of(entry.name)
    return AchievedRates(entry.name, flops, bandwidth, STEP_FACTORS.get(model, 1.0), trained_on=model in STEP_FACTORS)


def model_of(name: str) -> str:
    """The device of which the catalogue's entry `name` is a variant, such as V100; `name` itself where no steps are known of it."""
    return next((model for model in STEP_FACTORS if name == model or name.startswith(f"{model} ")), name)


def _flops_per_s(entry: Accelerator, kind: Format) -> float | None:
    if kind in entry.measured_flops_per_s:
        return entry.measured_flops_per_s[kind]
    peak = entry.peak_flops_per_s.get(kind)
    if peak is None:
        return None
    return peak * _fraction(entry, _vector_fractions() if kind == "float32" else _matrix_fractions())


Fractions = list[tuple[str, float]]
"""Chip and achieved over peak, for each device of which somebody has published both."""


def _fraction(entry: Accelerator, known: Fractions) -> float:
    """Achieved over peak for a device that nobody measured."""
    same = [fraction for chip, fraction in known if chip == entry.chip and chip]
    return median(same or [fraction for _, fraction in known])


def _vector_fractions() -> Fractions:
    return list(_ratios(("float32",)))


def _matrix_fractions() -> Fractions:
    return list(_ratios(("float16", "bfloat16")))


def _ratios(kinds: Iterable[Format]) -> Iterable[tuple[str, float]]:
    for entry in accelerators().values():
        for kind in kinds:
            peak, got = entry.peak_flops_per_s.get(kind), entry.measured_flops_per_s.get(kind)
            if peak and got and got <= peak:  # float32 in matrix units exceeds the vector peak that datasheets give
                yield entry.chip, got / peak


def _bandwidth_fractions() -> Fractions:
    return [
        (entry.chip, entry.measured_bandwidth_bytes_per_s / entry.memory_bandwidth_bytes_per_s)
        for entry in accelerators().values()
        if entry.measured_bandwidth_bytes_per_s and entry.memory_bandwidth_bytes_per_s
    ]
