"""JSON whose values remember where they stand, so that a fault far inside a large file can be pointed at.

Strict (RFC 8259): NaN and infinities, trailing commas and a key that stands twice are faults.
"""

from __future__ import annotations

import bisect
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from hetsim.errors import CostError, Problem
from hetsim.reading import shown

_BLANK = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_NO_NUMBER = re.compile(r"-?(?:NaN|Infinity)")
_DEEPEST = 50
_LONGEST_WHOLE = 18
"""Digits; a longer whole number is read as a float."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a JSON text."""

    value: Plain
    """A mapping of texts to nodes, a list of nodes, or a text, number, true, false or null."""

    where: str
    """`file:line:column`."""

    @property
    def shown(self) -> str:
        """The value as an error message quotes it."""
        return shown(self.value)

    def members(self) -> Iterator[tuple[str, Node]]:
        """The entries of a mapping; none where it is no mapping."""
        if isinstance(self.value, dict):
            yield from self.value.items()

    def number(self) -> float | None:
        """The value as a float; None where it is no number."""
        is_number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        return float(self.value) if is_number else None  # type: ignore[arg-type]


Plain = dict[str, Node] | list[Node] | str | float | bool | None


def parse_json(text: str, where: str) -> Node:
    """The value that `text` writes; `where` is the file it is from. Raises CostError with the place of what is no JSON."""
    reader = _Reader(text, where)
    node = reader.value(0)
    reader.skip()
    if reader.at < len(text):
        reader.fail(f"got {shown(text[reader.at : reader.at + 20])} after the end, expected nothing more")
    return node


class _Reader:
    """Walks through a JSON text."""

    def __init__(self, text: str, where: str) -> None:
        self.text = text
        self.at = 0
        self._file = where
        self._ends = [match.end() for match in re.finditer("\n", text)]

    def where(self, offset: int) -> str:
        """The place of a character."""
        line = bisect.bisect_right(self._ends, offset)
        start = self._ends[line - 1] if line else 0
        return f"{self._file}:{line + 1}:{offset - start + 1}"

    def fail(self, what: str, mend: str = "") -> NoReturn:
        """Raise CostError at the present place."""
        raise CostError(Problem(self.where(self.at), what, mend))

    def skip(self) -> None:
        """Go on to what is no blank."""
        match = _BLANK.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def value(self, depth: int) -> Node:
        """The value that begins here."""
        self.skip()
        if depth > _DEEPEST:
            self.fail(f"is nested more than {_DEEPEST} deep")
        start, where = self.at, self.where(self.at)
        first = self.text[start : start + 1]
        if first == "{":
            return Node(self._mapping(depth), where)
        if first == "[":
            return Node(self._list(depth), where)
        if first == '"':
            return Node(self._string(), where)
        for word, value in _WORDS.items():
            if self.text.startswith(word, start):
                self.at += len(word)
                return Node(value, where)
        return Node(self._number(), where)

    def _mapping(self, depth: int) -> dict[str, Node]:
        members: dict[str, Node] = {}
        for _ in self._items("}", "a mapping"):
            self.skip()
            start = self.at
            if self.text[start : start + 1] != '"':
                self.fail("expected a key in quotes")
            key = self._string()
            if key in members:
                self.at = start
                self.fail(f'the key "{key}" stands twice', f"The first is at {members[key].where}")
            self.skip()
            self._expect(":", "expected a colon after the key")
            members[key] = self.value(depth + 1)
        return members

    def _list(self, depth: int) -> list[Node]:
        return [self.value(depth + 1) for _ in self._items("]", "a list")]

    def _items(self, end: str, what: str) -> Iterator[None]:
        """Once before each item up to the bracket `end`."""
        self.at += 1
        self.skip()
        if self.text[self.at : self.at + 1] == end:
            self.at += 1
            return
        while True:
            yield
            self.skip()
            if self.text[self.at : self.at + 1] == end:
                self.at += 1
                return
            self._expect(",", f"expected a comma or {end} in {what}")

    def _expect(self, sign: str, what: str) -> None:
        if self.text[self.at : self.at + 1] != sign:
            self.fail(what if self.at < len(self.text) else f"the file ends here, {what}: it was cut off")
        self.at += 1

    def _string(self) -> str:
        match = _STRING.match(self.text, self.at)
        if match is None:
            self.fail("a text in quotes does not end on its line, or holds a sign that JSON forbids")
        try:
            text: str = json.loads(match[0])
        except ValueError:
            self.fail("a text in quotes has an escape that JSON does not know")
        self.at = match.end()
        return text

    def _number(self) -> float:
        match = _NUMBER.match(self.text, self.at)
        if match is None:
            if self.at >= len(self.text):
                self.fail("the file ends here, expected a value: it was cut off")
            if no_number := _NO_NUMBER.match(self.text, self.at):
                self.fail(f"got {no_number[0]}, expected a finite number")
            self.fail(f"got {shown(self.text[self.at : self.at + 20])}, expected a value")
        if not math.isfinite(number := float(match[0])):
            self.fail(f"got {shown(match[0])}, expected a finite number")
        self.at = match.end()
        return int(match[0]) if match[0].lstrip("-").isdecimal() and len(match[0]) <= _LONGEST_WHOLE else number
