"""Frozen dataclasses as plain JSON values and back, for what hetsim's own processes tell each other.

It serves dataclasses of numbers, texts, tuples, mappings, paths, optional values and other such dataclasses. Reading back
never runs code. Files that people write go through readers of their own, which explain what is wrong.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """`value` as dictionaries, lists, texts, numbers, true, false and None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_plain(kind: type[T], data: Any) -> T:
    """The value of type `kind` that `to_plain` made `data` from. Raises TypeError or KeyError where it did not."""
    return _read(kind, data)  # type: ignore[no-any-return]


def _read(hint: Any, data: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if data is None:
            return None
        (inner,) = (a for a in arguments if a is not types.NoneType)
        return _read(inner, data)
    if origin is tuple:
        return tuple(_read(arguments[0], item) for item in data)
    if origin in (Mapping, dict):
        return {key: _read(arguments[1], item) for key, item in data.items()}
    if isinstance(hint, type) and is_dataclass(hint):
        hints = get_type_hints(hint)
        return hint(**{field.name: _read(hints[field.name], data[field.name]) for field in fields(hint)})
    return Path(data) if hint is Path else data
