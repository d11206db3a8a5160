"""A YAML file as plain data that remembers where each key and value stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from hetsim.errors import Problem, ScenarioError
from hetsim.reading import read_text, shown

MOST_VALUES = 1_000_000
"""In a document, counting all that its aliases repeat: ten lines of aliases to aliases stand for more than a memory holds."""

Key = str | int
"""A key of a mapping or an index of a list."""


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document."""

    path: Path
    root: Node
    data: Any
    """Mappings, lists, strings, numbers, booleans and None. Keys of mappings are always strings, as they were written."""

    faults: tuple[Problem, ...]
    """What can be said of it without knowing what it is about: keys that stand twice, values that cannot be read."""

    def where(self, keys: Sequence[Key], *, of_key: bool = False) -> str:
        """`file:line:column` of the value under `keys`, or of its key; of the last key found, where the value is missing."""
        node, mark, found = self.root, self.root.start_mark, 0
        for key in keys:
            step = _step(node, key)
            if step is None:
                break
            node, mark = step
            found += 1
        if found == len(keys) and not of_key and not _is_blank(node):
            mark = node.start_mark
        return _place(self.path, mark)

    def at(self, keys: Sequence[Key]) -> Any:
        """The value under `keys`; None where there is none."""
        value = self.data
        for key in keys:
            if isinstance(value, dict):
                value = value.get(key)
            elif isinstance(value, list) and isinstance(key, int) and key < len(value):
                value = value[key]
            else:
                return None
        return value


def read_document(path: Path) -> Document:
    """The YAML document in the file at `path`. Raises ScenarioError where it is none."""
    text = read_text(path, ScenarioError)
    try:
        root = YAML(typ="safe", pure=True).compose(text)
        if root is None:
            raise ScenarioError(Problem(f"{path}:1:1", "the file holds nothing but comments"))
        builder = _Builder(path)
        data = builder.build(root)
    except MarkedYAMLError as error:
        raise ScenarioError(_not_yaml(path, error)) from None
    except ReaderError as error:
        raise ScenarioError(_bad_character(path, text, error)) from None
    except YAMLError as error:
        raise ScenarioError(Problem(str(path), f"is not YAML: {error}")) from None
    except _TooLargeError as error:
        what = f"its aliases stand for more than {MOST_VALUES:_} values".replace("_", " ")
        raise ScenarioError(Problem(_place(path, error.mark), what)) from None
    except RecursionError:
        raise ScenarioError(Problem(str(path), "is nested too deeply to be a scenario")) from None
    return Document(path, root, data, tuple(builder.faults))


class _TooLargeError(Exception):
    def __init__(self, mark: StringMark) -> None:
        super().__init__()
        self.mark = mark


class _Builder:
    """Makes plain data of nodes: what JSON knows too. What an alias repeats is built once."""

    def __init__(self, path: Path) -> None:
        self.faults: list[Problem] = []
        self._path = path
        self._constructor = YAML(typ="safe", pure=True).constructor
        self._built: dict[int, Any] = {}
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def build(self, node: Node) -> Any:
        if id(node) in self._open:
            self._fault(node, "this alias stands for something that contains itself")
            return None
        if id(node) not in self._built:
            self._open.add(id(node))
            self._built[id(node)] = self._value(node)
            self._open.discard(id(node))
            self._sizes[id(node)] = 1 + sum(self._sizes.get(id(child), 0) for child in _children(node))
            if self._sizes[id(node)] > MOST_VALUES:
                raise _TooLargeError(node.start_mark)
        return self._built[id(node)]

    def _value(self, node: Node) -> Any:
        if not isinstance(node, ScalarNode) and node.tag not in _PLAIN_TAGS:
            self._fault(node, f"got the tag {shown(str(node.tag))}, expected plain lists and mappings", "Remove the tag")
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node)
        if isinstance(node, SequenceNode):
            return [self.build(item) for item in node.value]
        try:
            return self._plain(node, self._constructor.construct_object(node))
        except (YAMLError, ValueError) as error:
            what = error.problem if isinstance(error, MarkedYAMLError) and error.problem else str(error)
            self._fault(node, f"cannot read {shown(node.value)}: {what}")
            return None

    def _plain(self, node: Node, value: Any) -> Any:
        if value is not None and not isinstance(value, str | int | float):
            what = f"got {shown(node.value)}, which YAML takes for a {type(value).__name__}, expected text or a number"
            self._fault(node, what, "Put it in quotes")
            return None
        if isinstance(value, str) and not _is_text(value):
            self._fault(node, f"got {shown(value)}, which holds half a character")
            return None
        return value

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        values: dict[str, Any] = {}
        first: dict[str, Node] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._fault(key, "got a mapping or a list for a key, expected a word")
            elif not _is_text(key.value):
                self._fault(key, f"got {shown(key.value)}, which holds half a character")
            elif key.tag == _MERGE_TAG:
                self._fault(key, "merge keys are not read", "Write the keys out; an alias may stand for a whole value")
            elif key.value in first:
                line = first[key.value].start_mark.line + 1
                self._fault(key, f'the key "{key.value}" stands twice, first in line {line}', "Remove or rename one of them")
            else:
                first[key.value] = key
                values[key.value] = self.build(value)
        return values

    def _fault(self, node: Node, what: str, mend: str = "") -> None:
        self.faults.append(Problem(_place(self._path, node.start_mark), what, mend))


_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_MERGE_TAG = "tag:yaml.org,2002:merge"


def _is_text(value: str) -> bool:
    """Whether UTF-8 can write it: an escape may stand for half of a surrogate pair, which is no character."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _children(node: Node) -> Iterator[Node]:
    for item in node.value if isinstance(node, MappingNode | SequenceNode) else ():
        yield item[1] if isinstance(node, MappingNode) else item


def _step(node: Node, key: Key) -> tuple[Node, StringMark] | None:
    """The value under `key`, and where the key (or the item of a list) begins."""
    if isinstance(node, MappingNode):
        for name, value in node.value:
            if name.value == key:
                return value, name.start_mark
    if isinstance(node, SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key].start_mark
    return None


def _is_blank(node: Node) -> bool:
    """Whether nothing is written after a key; such a node stands where the next thing begins."""
    return isinstance(node, ScalarNode) and not node.value and node.style is None


def _place(path: Path, mark: StringMark) -> str:
    return f"{path}:{mark.line + 1}:{mark.column + 1}"


def _not_yaml(path: Path, error: MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    context = f" {error.context}" if error.context else ""
    return Problem(_place(path, mark) if mark else str(path), f"is not YAML:{context} {error.problem}".rstrip())


def _bad_character(path: Path, text: str, error: ReaderError) -> Problem:
    before = text[: error.position]
    line, column = before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
    character = text[error.position : error.position + 1]
    return Problem(f"{path}:{line}:{column}", f"got the character {character!r}, which YAML does not allow")
