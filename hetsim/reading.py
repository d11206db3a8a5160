"""Reading files that people bring: what is not there or not text is told apart, and a misspelt word gets a suggestion."""

from __future__ import annotations

import difflib
import stat
from collections.abc import Iterable
from pathlib import Path

from hetsim.errors import InputError, Problem

_SIGNATURES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive (a spreadsheet or a torch checkpoint, say)",
    b"\x1f\x8b": "a gzip archive",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
"""First bytes of files that are brought by mistake."""


def read_text(path: Path, error: type[InputError]) -> str:
    """The text of the UTF-8 file at `path`, without a byte order mark.

    Raises `error`, with the place, where there is no such file, it cannot be read, is empty or is not text.
    """
    try:
        if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
            raise error(Problem(str(path), "is a pipe or a device, expected a file, which can be read again"))
        data = path.read_bytes()
    except FileNotFoundError:
        raise error(Problem(str(path), "there is no such file", _neighbour(path))) from None
    except (OSError, ValueError) as cause:
        raise error(Problem(str(path), f"cannot be read: {getattr(cause, 'strerror', None) or cause}")) from None
    if not data.strip():
        raise error(Problem(f"{path}:1:1", "the file is empty"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(_not_text(path, data, cause.start)) from None
    if "\0" in text:
        raise error(_not_text(path, data, data.index(0)))
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that offers the nearest of the `known` words, or all where none is near; "" where there are none."""
    names = list(known)
    if near := nearest(word, names):
        return f'Did you mean "{near}"?'
    return f"Known: {', '.join(names)}" if names else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of the `known` words that `word` was most likely meant to be; None where none is near."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def shown(value: object) -> str:
    """A value that somebody wrote, as an error message quotes it: short, and named by its kind where it is not one word."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    short = text if len(text) <= 60 else text[:57] + "..."
    return f'"{short}"' if isinstance(value, str) else short


def _neighbour(path: Path) -> str:
    """A suggestion where the same folder has a file of nearly that name."""
    names = [entry.name for entry in path.parent.iterdir() if entry.name != path.name] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f'Did you mean "{path.with_name(near[0])}"?' if near else ""


def _not_text(path: Path, data: bytes, offset: int) -> Problem:
    before = data[:offset]
    line = before.count(b"\n") + 1
    column = len(before.rpartition(b"\n")[2].decode("utf-8", errors="replace")) + 1
    kind = next((name for signature, name in _SIGNATURES.items() if data.startswith(signature)), "")
    guess = f"; it looks like {kind}" if kind else ""
    return Problem(f"{path}:{line}:{column}", f"got the byte 0x{data[offset]:02x}, expected text in UTF-8{guess}")
