"""Naming files, and writing them whole: a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to in place of `path`, in the same folder, which is made where it is missing.

    What was written becomes `path` when the block ends well, and vanishes when it fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # where it cannot be removed, it could not be written, which is told
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8 with line feeds, whole or not at all."""
    with replacing(path) as temporary:
        # A name of a file need not be text: what of it is none is escaped, in JSON as JSON escapes it.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def slug(text: str) -> str:
    """`text` as a part of a file's name: letters in lower case and digits, all else as single dashes."""
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")
