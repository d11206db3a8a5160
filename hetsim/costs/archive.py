"""Zip archives of flat files, packed to the same bytes each time and unpacked with mistrust.

An archive may come from anywhere. Its members are read one by one and written under names that were checked, into an empty
folder: none is a path, a link or encrypted, none stands twice, and together they are no larger than they say and we allow.
"""

from __future__ import annotations

import io
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hetsim.errors import CostError, Problem
from hetsim.files import replacing

SUFFIX = ".zip"
FILE_NAME = re.compile(r"\w[\w.-]{0,99}")
"""What a file in an archive may be called: a plain name, no path."""

_MOST_MEMBERS = 1000
_MOST_BYTES = 2**30
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of all members: the earliest that the format knows, so that the same content gives the same bytes."""


def write_archive(path: Path, files: Mapping[str, bytes]) -> None:
    """Write `files`, by name, to a zip archive at `path`, whole or not at all."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name, _EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(member, content)
    with replacing(path) as temporary:
        temporary.write_bytes(stream.getvalue())


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A folder with the files of the archive at `path`, which is gone when the block ends.

    Raises CostError where it is no such archive, is damaged, or holds what it should not.
    """
    with TemporaryDirectory(prefix="hetsim-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                _check_members(path, archive)
                for member in archive.infolist():
                    (Path(folder) / member.filename).write_bytes(_content(archive, member))
        except FileNotFoundError:
            raise CostError(Problem(str(path), "there is no such file")) from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as cause:
            raise CostError(Problem(str(path), f"is not a zip archive that can be read: {cause}", "Copy it again")) from None
        except OSError as cause:
            raise CostError(Problem(str(path), f"cannot be read: {cause.strerror or cause}")) from None
        yield Path(folder)


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    problems = [Problem(str(path), f'the member "{m.filename}" {fault}') for m in members for fault in _faults(m)]
    problems += [
        Problem(str(path), f'the member "{name}" stands twice') for name in sorted(set(names)) if names.count(name) > 1
    ]
    if len(members) > _MOST_MEMBERS:
        problems = [Problem(str(path), f"got {len(members)} members, expected {_MOST_MEMBERS} at most")]
    elif (size := sum(member.file_size for member in members)) > _MOST_BYTES:
        problems.append(Problem(str(path), f"unpacks to {size} bytes, expected {_MOST_BYTES} at most"))
    if problems:
        raise CostError(problems)


def _faults(member: zipfile.ZipInfo) -> Iterator[str]:
    if not FILE_NAME.fullmatch(member.filename):
        yield "is not a plain file's name"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        yield "is a link or a device, expected a file"
    if member.flag_bits & 0x1:
        yield "is encrypted"


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """What `member` holds, read no further than the size that it declares."""
    with archive.open(member) as stream:
        content = stream.read(member.file_size + 1)
    if len(content) != member.file_size:
        raise zipfile.BadZipFile(f"{member.filename} is not as long as it says")
    return content
