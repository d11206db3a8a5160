"""The chain file: a network as numbers, in JSON, so that it can be planned and predicted where torch is not loaded.

What is read back equals what was written. Sizes are in bytes per sample, FLOPs per sample; see `hetsim.workload`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from hetsim.errors import NetworkError, Problem
from hetsim.reading import shown
from hetsim.workload import Chain, Layer

SCHEMA_VERSION: Final = 1


def chain_to_json(chain: Chain) -> str:
    """The JSON text of `chain`, which `chain_from_json` reads back."""
    return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(chain)}, indent=1, allow_nan=False) + "\n"


def chain_from_json(text: str, where: str) -> Chain:
    """The chain that `text` writes; `where` is the file it is from, for messages.

    Raises NetworkError with every key that is missing, unknown or wrong.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as cause:
        place = f"{where}:{cause.lineno}:{cause.colno}"
        raise NetworkError(Problem(place, f"is not JSON: {cause.msg}")) from None
    except (ValueError, RecursionError) as cause:
        raise NetworkError(Problem(where, f"is no JSON that can be read: {cause}")) from None
    if problems := [Problem(where, what) for what in _chain_faults(document)]:
        raise NetworkError(problems)
    layers = tuple(_layer(entry) for entry in document["layers"])
    return Chain(document["name"], layers, document["input_bytes_per_sample"], document["element_bytes"])


def _layer(entry: Mapping[str, Any]) -> Layer:
    return Layer(
        name=entry["name"],
        parameters=tuple(entry["parameters"]),
        output_bytes_per_sample=entry["output_bytes_per_sample"],
        saved_bytes_per_sample=entry["saved_bytes_per_sample"],
        forward_flops_per_sample=float(entry["forward_flops_per_sample"]),
    )


class _Kind(NamedTuple):
    """What a value must be."""

    expected: str
    holds: Callable[[Any], bool]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max


_TEXT = _Kind("a text that is not empty", lambda value: isinstance(value, str) and value != "")
_COUNT = _Kind("a whole number of 0 or more", _is_count)
_COUNTS = _Kind("a list of whole numbers", lambda value: isinstance(value, list) and all(map(_is_count, value)))
_NUMBER = _Kind("a number of 0 or more", _is_number)

_CHAIN_KEYS: Final[Mapping[str, _Kind]] = {
    "schema_version": _Kind(f"{SCHEMA_VERSION}", lambda value: value == SCHEMA_VERSION and _is_count(value)),
    "name": _TEXT,
    "layers": _Kind("a list of one layer or more", lambda value: isinstance(value, list) and value != []),
    "input_bytes_per_sample": _COUNT,
    "element_bytes": _Kind("a whole number of 1 or more", lambda value: _is_count(value) and value > 0),
}
_LAYER_KEYS: Final[Mapping[str, _Kind]] = {
    "name": _TEXT,
    "parameters": _COUNTS,
    "output_bytes_per_sample": _COUNT,
    "saved_bytes_per_sample": _COUNT,
    "forward_flops_per_sample": _NUMBER,
}


def _chain_faults(document: Any) -> Iterator[str]:
    yield from _faults(document, _CHAIN_KEYS, "")
    layers = document.get("layers") if isinstance(document, dict) else None
    if not isinstance(layers, list):
        return
    for place, entry in enumerate(layers):
        yield from _faults(entry, _LAYER_KEYS, f"layers.{place}")
    names = Counter(entry["name"] for entry in layers if isinstance(entry, dict) and isinstance(entry.get("name"), str))
    for name, count in names.items():
        if count > 1:
            yield f'layers: the name "{name}" stands {count} times, expected once'


def _faults(entry: Any, kinds: Mapping[str, _Kind], place: str) -> Iterator[str]:
    """What is wrong with the keys and values of the mapping `entry`, which stands at `place`."""
    prefix = f"{place}." if place else ""
    if not isinstance(entry, dict):
        yield f"{place or 'the whole'}: got {shown(entry)}, expected a mapping of keys to values"
        return
    yield from (f"{prefix}{key}: is an unknown key, expected {', '.join(kinds)}" for key in entry if key not in kinds)
    for key, kind in kinds.items():
        if key not in entry:
            yield f"{prefix}{key}: is missing"
        elif not kind.holds(entry[key]):
            yield f"{prefix}{key}: got {shown(entry[key])}, expected {kind.expected}"
