"""What a scenario file may hold: its sections for pydantic.

Sections are read one by one, so that a fault in one hides none in another. Field names are the keys of the file; numbers
with units come out in SI base units.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from hetsim.hardware import Backend, Isa
from hetsim.objective import Figure
from hetsim.plan import PLAIN_SCHEDULES, ExchangeName, ScheduleName
from hetsim.reading import shown
from hetsim.scenario.local import LocalKind
from hetsim.scenario.types import Strategy
from hetsim.units import parse_bytes, parse_bytes_per_s, parse_flops_per_s, parse_seconds, parse_watts
from hetsim.workload import OptimizerName

VERSION = 1
"""Of the schema; stands under the key `hetsim` of every scenario file."""


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def _count_or_mapping(value: Any) -> Any:
    return {"count": value} if isinstance(value, int) and not isinstance(value, bool) else value


def _all_different(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError(f"got {', '.join(map(str, values))}, expected each once")
    return values


def _one_is_plain(values: list[ScheduleName]) -> list[ScheduleName]:
    if not set(values) & set(PLAIN_SCHEDULES):
        raise ValueError(
            f"got interleaved alone, expected {' or '.join(PLAIN_SCHEDULES)} beside it, of whose plans it is made"
        )
    return values


def _one_is_ring(values: list[ExchangeName]) -> list[ExchangeName]:
    if "ring" not in values:
        raise ValueError(f"got {', '.join(values)}, expected ring beside them, of whose plans theirs are made")
    return values


def _spelt(pattern: str, expected: str) -> AfterValidator:
    """Text that has to match `pattern` whole."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"got {shown(text)}, expected {expected}")
        return text

    return AfterValidator(check)


_LONGEST_QUANTITY = 60
"""Characters; longer text is no number, and not worth repeating."""


def _quantity(parse: Callable[[Any], float]) -> BeforeValidator:
    """A number with a unit, parsed by one of `hetsim.units`."""

    def check(value: Any) -> float:
        if isinstance(value, list | dict) or (isinstance(value, str) and len(value) > _LONGEST_QUANTITY):
            raise ValueError(f"got {shown(value)}, expected a number, perhaps with a unit")
        try:
            return parse(value)
        except OverflowError:
            raise ValueError(f"got {shown(value)}, expected a number that a computer can hold") from None

    return BeforeValidator(check)


_MOST = 10**15
"""Larger than any count that makes sense, and small enough to reckon with in floats."""

Word = Annotated[str, _spelt(r"\w[\w.-]{0,59}", "a name of letters, digits, dots, dashes and underscores, 60 at most")]
"""A name that also serves in file names: no `..`, and none that is too long with what is added to it."""

TypeName = Annotated[str, _spelt(r"\w[\w .()+-]{0,59}", "a name of letters, digits, spaces and . ( ) + - _, 60 at most")]
LayerName = Annotated[
    str,
    _spelt(r"[^@#\s,;\"][^\s,;\"]*", "a name without spaces, commas, semicolons and quotes that does not begin with @ or #"),
]
Reference = Annotated[str, _spelt(r"[\w.]+:\w+", '"module:function", such as "my_nets:build"')]
Address = Annotated[str, _spelt(r"[\w:][\w.:-]{0,252}", "an IP address or a host's name")]
Login = Annotated[str, _spelt(r"\w[\w.-]*(@[\w:][\w.:-]*)?", "what ssh is given, such as old1 or user@old1")]
Positive = Annotated[int, Field(ge=1, le=_MOST)]
Index = Annotated[int, Field(ge=0, le=_MOST)]
Batch = Annotated[int, Field(ge=1, le=1_000_000)]
Count = Annotated[int, Field(ge=1, le=10_000)]
Size = Annotated[int, _quantity(parse_bytes), Field(le=_MOST)]
SampleSize = Annotated[int, _quantity(parse_bytes), Field(le=10**12)]
Duration = Annotated[float, _quantity(parse_seconds), Field(le=1_000_000)]
Bandwidth = Annotated[float, _quantity(parse_bytes_per_s), Field(ge=1)]
Life = Annotated[float, _quantity(parse_seconds), Field(le=1e10)]
Watts = Annotated[float, _quantity(parse_watts), Field(le=1e7)]
Money = Annotated[float, Field(ge=0, le=1e15)]
Rate = Annotated[float, _quantity(parse_flops_per_s), Field(gt=0, le=1e30)]
T = TypeVar("T")
Choices = Annotated[list[T], Field(min_length=1), AfterValidator(_all_different)]


class Section(BaseModel):
    """A mapping of the file. Unknown keys are faults, and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class FileSection(Section):
    """The whole file. Its larger sections are read by themselves."""

    hetsim: int
    name: Word | None = None
    networks: Annotated[dict[Word, Any], Field(min_length=1)]
    training: Any
    cluster: Any
    search: Any = None
    measure: Any = None
    simulation: Any = None
    economics: Any = None
    what_if: Any = None
    seed: Index = 0


class TrainingSection(Section):
    """What every network is trained with, unless it says otherwise. Blank: the default of `Training`."""

    global_batch: Batch
    optimizer: OptimizerName | None = None
    learning_rate: Annotated[float, Field(gt=0, le=1e30)] | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    dtype: Literal["float32", "bfloat16"] | None = None


class NetworkSection(Section):
    """What any network may say besides what it is."""

    global_batch: Batch | None = None
    costs: str | None = None
    data: Reference | None = None
    data_arguments: dict[str, Any] = {}
    weight: Annotated[float, Field(gt=0, le=1e9)] = 1.0


class ZooSection(NetworkSection):
    """A network of the zoo; all other keys are its sizes."""

    model_config = ConfigDict(extra="allow")

    zoo: str


class InputSection(Section):
    """What one sample of a user's own network looks like."""

    shape: Annotated[list[Positive], Field(min_length=1)]
    vocabulary: Annotated[int, Field(ge=2, le=_MOST)] | None = None
    classes: Positive = 10


class ModuleSection(NetworkSection):
    """A network of the user's own code."""

    module: Reference
    arguments: dict[str, Any] = {}
    input: InputSection


class LayerSection(Section):
    """One layer as numbers, or with `repeat` as many like ones."""

    name: LayerName
    parameters: Annotated[list[Index], BeforeValidator(_one_or_many)] = []
    output: SampleSize = 0
    saved: SampleSize = 0
    flops: Annotated[float, Field(ge=0, le=1e30)] = 0.0
    repeat: Count | None = None


class NumbersSection(NetworkSection):
    """A network as numbers alone."""

    layers: Annotated[list[LayerSection], Field(min_length=1)]
    input: SampleSize = 0


class LocalSection(Section):
    """The cluster that this machine makes."""

    local: LocalKind


class LinkSection(Section):
    """What devices or nodes talk over."""

    latency: Duration
    bandwidth: Bandwidth
    duplex: Literal["full", "half"] | None = None


class WireSection(LinkSection):
    """A link between two points of a topology."""

    between: Annotated[list[Word], Field(min_length=2, max_length=2), AfterValidator(_all_different)]


Wires = Annotated[list[WireSection], Field(min_length=1)]


class ClusterSection(Section):
    """A cluster written out. Its device types and nodes are read by themselves."""

    device_types: Annotated[dict[TypeName, Any], Field(min_length=1)]
    nodes: Annotated[list[Any], Field(min_length=1)]
    network: LinkSection | None = None
    wires: Wires | None = None


class PriceSection(Section):
    """What a device or a node costs: rent, or a purchase over its life."""

    purchase: Money | None = None
    life: Annotated[Life, Field(gt=0)] | None = None
    per_hour: Money | None = None


class PowerSection(Section):
    """What a device takes."""

    busy: Watts | None = None
    idle: Watts | None = None


class EconomicsSection(Section):
    """What holds for the whole cluster. Blank: the default of `Economics`."""

    currency: Annotated[str, _spelt(r"[A-Z]{3}", "a currency's three letters, such as USD")] | None = None
    electricity: Money | None = None
    pue: Annotated[float, Field(ge=1, le=10)] | None = None


class WhatIfSection(Section):
    """Variants of the cluster to be held against it, and what can be bought."""

    variants: dict[TypeName, Choices[str]] = {}
    buy: Choices[TypeName] | None = None
    samples: Annotated[float, Field(gt=0, le=1e18)] | None = None


class DeviceTypeSection(Section):
    """A device type. Blank: the default of `DeviceType`, which is unknown for a specification."""

    backend: Backend | None = None
    memory: Annotated[Size, Field(gt=0)] | None = None
    peak_flops: Rate | None = None
    catalogue: str | None = None
    isa: Isa | None = None
    threads: Count | None = None
    price: PriceSection | None = None
    power: PowerSection | None = None


class DevicesSection(Section):
    """How many devices of one type a node has: a count, or one entry for each."""

    count: Count | None = None
    cores: Annotated[list[Choices[Index]], Field(min_length=1)] | None = None
    index: Choices[Index] | None = None


class NodeSection(Section):
    """A host. What its devices are is read by itself."""

    name: Word
    address: Address | None = None
    ssh: Login | None = None
    netns: Word | None = None
    devices: Annotated[dict[str, Annotated[DevicesSection, BeforeValidator(_count_or_mapping)]], Field(min_length=1)]
    link: LinkSection | None = None
    wires: Wires | None = None
    price: PriceSection | None = None
    power: Watts | None = None
    slots: Index | None = None


class LimitsSection(Section):
    """What a plan may come to at most. Blank: no limit."""

    step: Annotated[Duration, Field(gt=0)] | None = None
    money_per_million: Annotated[Money, Field(gt=0)] | None = None
    kwh_per_million: Annotated[float, Field(gt=0, le=1e15)] | None = None


class SearchSection(Section):
    """Which plans to consider, and what the best is. Blank: the default of `Search`."""

    strategies: Choices[Strategy] | None = None
    schedules: Annotated[Choices[ScheduleName], AfterValidator(_one_is_plain)] | None = None
    exchanges: Annotated[Choices[ExchangeName], AfterValidator(_one_is_ring)] | None = None
    microbatches: Choices[Positive] | None = None
    microbatch_samples: Choices[Positive] | None = None
    objective: Figure | None = None
    limits: LimitsSection | None = None


class MeasureSection(Section):
    """How the real run is measured. Blank: the default of `Measure`."""

    steps: Positive | None = None
    warmup_steps: Index | None = None
    timeout: Annotated[Duration, Field(gt=0)] | None = None


class DisturbanceSection(Section):
    """Something that slows a device down."""

    device: Word
    slowdown: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    after: Annotated[Duration, Field(ge=0)] | None = None
    until: Annotated[Duration, Field(gt=0)] | None = None
    chance: Annotated[float, Field(gt=0, le=1)] | None = None


class SimulationSection(Section):
    """What varies from step to step, and what disturbs it. Blank: nothing."""

    jitter: Annotated[float, Field(ge=0, le=1)] | None = None
    disturbances: list[DisturbanceSection] | None = None
