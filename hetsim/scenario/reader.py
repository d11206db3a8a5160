"""Reads a scenario's sections one by one, and says pydantic's findings as faults with a place in the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hetsim.errors import Problem, ScenarioError
from hetsim.reading import did_you_mean, shown
from hetsim.scenario.document import Document, Key
from hetsim.scenario.schema import Section

M = TypeVar("M", bound=Section)


class Reader:
    """Reads the sections of a document and gathers all faults."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._problems = list(document.faults)
        self._unreadable = {problem.where for problem in document.faults}

    def section(self, model: type[M], *keys: Key) -> M | None:
        """The mapping under `keys` as a `model`; None where it is wrong, which is then among the faults."""
        value = self.document.at(keys)
        try:
            return model.model_validate(value)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self._finding(model, keys, detail)
            return None

    def fault(self, keys: Sequence[Key], what: str, mend: str = "", *, of_key: bool = False) -> None:
        """Note that the value (or the key) at `keys` is wrong; once is enough for one that could not even be read."""
        where, place = self.document.where(keys, of_key=of_key), ".".join(map(str, keys))
        if where not in self._unreadable:
            self._problems.append(Problem(where, f"{place}: {what}" if place else what, mend))

    def finish(self) -> None:
        """Raise ScenarioError with all faults, in the order of the file, if there are any."""
        if self._problems:
            raise ScenarioError(sorted(self._problems, key=lambda problem: _line_and_column(problem.where)))

    def _finding(self, model: type[Section], above: Sequence[Key], detail: ErrorDetails) -> None:
        inner = tuple(key for key in detail["loc"] if key != "[key]")
        keys = (*above, *inner)
        kind = detail["type"]
        if kind == "missing":
            self.fault(keys[:-1], f'the key "{keys[-1]}" is missing', of_key=True)
        elif kind == "extra_forbidden":
            known = _keys_of(model, inner[:-1])
            self.fault(keys, "is an unknown key", did_you_mean(str(keys[-1]), known), of_key=True)
        else:
            what = str(detail["ctx"]["error"]) if kind == "value_error" else _got_and_expected(detail)
            self.fault(keys, what, of_key="[key]" in detail["loc"])


def _got_and_expected(detail: ErrorDetails) -> str:
    """What pydantic found, in the words of hetsim."""
    expected = _KINDS.get(detail["type"]) or detail["msg"].removeprefix("Input should be ")
    return f"got {shown(detail['input'])}, expected {expected}"


_KINDS = {
    "model_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "list_type": "a list",
    "too_short": "at least one entry",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text (in quotes, where it looks like a number)",
}


def _keys_of(model: type[Section], keys: Sequence[Key]) -> list[str]:
    """The keys that the mapping under `keys` of a `model` may have."""
    current: Any = model
    for key in keys:
        section = _section_in(current)
        if section is not None and key in section.model_fields:
            current = section.model_fields[str(key)].annotation
    section = _section_in(current)
    return list(section.model_fields) if section else []


def _section_in(annotation: Any) -> type[Section] | None:
    """The section that an annotation such as `list[LayerSection]` or `LinkSection | None` is about."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _section_in(argument))), None)


def _line_and_column(where: str) -> tuple[int, int]:
    line, column = where.rsplit(":", 2)[1:]
    return int(line), int(column)
