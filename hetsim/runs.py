"""Run directories: everything that one planning or measuring run produced, in one folder that says where it comes from.

::

    runs/20261123T051422Z-office-3fa9c1/
        manifest.json        what made it: versions, command, seed, host, inputs, digests of the files below
        scenario.yaml        the scenario as it was understood
        result.json          cases and how the devices spend the step
        plans.json           planning candidates
        timelines/*.csv      predicted and measured timelines
        traces/*.json       the same for Perfetto
        report.html, figures, log.txt

A run is written into `NAME.partial`, which loses its suffix when all is there, so a path told while it ran stays true if it
fails. A run that fails leaves `NAME.partial` if it had results to keep, and nothing otherwise.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hetsim import __version__
from hetsim.errors import NoRoomError, Problem, RunDirectoryError, described
from hetsim.files import slug as slug
from hetsim.files import write_text
from hetsim.reading import read_text
from hetsim.timeline import Timeline
from hetsim.timeline_file import read_timeline, write_timeline

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
SCENARIO = "scenario.yaml"
LOG = "log.txt"

_FORMAT = "hetsim run"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNWRITABLE = (*_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG)
"""What the system says when it is the folder's fault that a file cannot be written."""

_PACKAGES = ("torch", "simpy", "numpy")
_DATA_SUFFIXES = (".json", ".yaml", ".csv")
"""Files that are read back, and so must be as they were written; the others are renderings, which may be made anew."""


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that a run was made on."""

    cpu_model: str
    cores: int
    memory_bytes: int
    kernel: str

    @classmethod
    def here(cls) -> Host:
        """This machine."""
        import psutil

        return cls(
            _cpu_model(), os.cpu_count() or 1, psutil.virtual_memory().total, f"{platform.system()} {platform.release()}"
        )


@dataclass(frozen=True, slots=True)
class FileDigest:
    """A file's content in short."""

    path: str
    """As the user wrote it for an input; relative to the run directory for an output."""

    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path, name: str | None = None) -> FileDigest:
        """The digest of the file at `path`. Raises RunDirectoryError where it cannot be read."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RunDirectoryError(Problem(str(path), f"cannot be read: {error.strerror}")) from None
        return cls(name or str(path), len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, slots=True)
class Manifest:
    """What made a run."""

    scenario: str
    created_utc: str
    argv: tuple[str, ...]
    seed: int
    versions: Mapping[str, str | None]
    """hetsim, python and packages; None: not installed."""

    host: Host
    inputs: tuple[FileDigest, ...]
    outputs: tuple[FileDigest, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """What `manifest.json` holds."""
        return {"format": _FORMAT, "schema_version": SCHEMA_VERSION, **asdict(self)}


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A finished run."""

    path: Path
    manifest: Manifest

    @staticmethod
    def create(
        base: Path,
        scenario_name: str,
        scenario_text: str,
        *,
        seed: int,
        argv: Sequence[str],
        inputs: Sequence[Path] = (),
        now: datetime | None = None,
    ) -> RunWriter:
        """Begin a run below `base`; use the result in a `with` block, at whose end the run appears under its name.

        The name ends in a hash of the scenario, the seed and the inputs, so runs of the same question are recognised.
        Raises RunDirectoryError where an input cannot be read or `base` cannot be written to; then nothing is left there.
        """
        moment = (now or datetime.now(UTC)).astimezone(UTC)
        digests = tuple(FileDigest.of(path) for path in inputs)
        content = json.dumps([scenario_text, seed, sorted(digest.sha256 for digest in digests)])
        name = (
            f"{moment:%Y%m%dT%H%M%SZ}-{slug(scenario_name)[:40] or 'run'}-{hashlib.sha256(content.encode()).hexdigest()[:6]}"
        )
        manifest = Manifest(
            scenario=scenario_name,
            created_utc=f"{moment:%Y-%m-%dT%H:%M:%SZ}",
            argv=tuple(argv),
            seed=seed,
            versions=_versions(),
            host=Host.here(),
            inputs=digests,
        )
        writer = RunWriter(base, name, manifest)
        try:
            writer.write_text(SCENARIO, scenario_text)
        except OSError as error:
            writer.discard()
            raise _not_written(base, error) from None
        return writer

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """The finished run in `path`. Raises RunDirectoryError where it is none, or with every file that is damaged."""
        if path.resolve().name.endswith(".partial"):
            help_ = "Its files can be looked at, but nothing says that they are whole. Run it again"
            raise RunDirectoryError(Problem(str(path), "is a run that did not finish, expected a finished one", help_))
        manifest = _read_manifest(path / MANIFEST)
        problems = [problem for digest in manifest.outputs if (problem := _damage(path, digest)) is not None]
        if problems:
            raise RunDirectoryError(problems)
        return cls(path, manifest)

    @property
    def name(self) -> str:
        """The directory's own name."""
        return self.path.name

    @property
    def timelines(self) -> tuple[str, ...]:
        """Names of its timelines, sorted."""
        folder = self.path / "timelines"
        return tuple(sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.csv")))

    def timeline(self, name: str) -> Timeline:
        """The timeline called `name`. Raises RunDirectoryError where there is none."""
        if name not in self.timelines:
            known = ", ".join(self.timelines) or "none"
            raise RunDirectoryError(Problem(str(self.path), f'there is no timeline "{name}"; it has {known}'))
        return read_timeline(self.path / "timelines" / f"{name}.csv")

    def read_json(self, name: str) -> Any:
        """The content of the JSON file `name`, e.g. `result.json`. Raises RunDirectoryError where there is none."""
        return _read_json(self.path / name)


class RunWriter:
    """A run that is being written. `directory` is where its files go for now; `path` is where they will be."""

    def __init__(self, base: Path, name: str, manifest: Manifest) -> None:
        self.manifest = manifest
        self._names: dict[str, str] = {}
        try:
            self.path, self.directory = _claim(base, name)
        except OSError as error:
            what = f"cannot make a run directory here: {error.strerror}"
            raise _kind_of(error)(Problem(str(base), what, "Name another folder for runs")) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Finish the run, or keep what there is of it. Raises RunDirectoryError where a file could not be written."""
        if error is None:
            try:
                self._finish()
            except OSError as fault:
                raise _not_written(self.directory, fault) from None
            return
        if self._has_results():
            with contextlib.suppress(OSError):  # the disk may be full, and `error` says more
                self.log(f"ended by {described(error)}")
        else:
            self.discard()
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            raise _not_written(self.directory, error) from None

    def discard(self) -> None:
        """Remove all that was written."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def file(self, name: str) -> Path:
        """Where to write the file `name`, e.g. `figures/comparison.svg`; its folder is made."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def name_for(self, text: str) -> str:
        """`text` as a part of file names, different from that of any other text in this run."""
        if text not in self._names:
            name = wanted = slug(text)
            number = 1
            while name in self._names.values():
                number += 1
                name = f"{wanted}-{number}"
            self._names[text] = name
        return self._names[text]

    def write_text(self, name: str, text: str) -> None:
        """Write a text file."""
        write_text(self.file(name), text)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file; keys keep their order. Raises ValueError on a number that JSON lacks (NaN, infinity)."""
        self.write_text(name, _json_text(content))

    def write_timeline(self, name: str, timeline: Timeline) -> None:
        """Write `timelines/NAME.csv`."""
        write_timeline(self.file(f"timelines/{name}.csv"), timeline)

    def log(self, message: str) -> None:
        """Add a line to `log.txt`, with the time."""
        with self.file(LOG).open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {message}\n")

    def _files(self) -> list[Path]:
        return sorted(path for path in self.directory.rglob("*") if path.is_file())

    def _has_results(self) -> bool:
        return any(path.name not in (SCENARIO, LOG) for path in self._files())

    def _finish(self) -> None:
        outputs = tuple(FileDigest.of(path, path.relative_to(self.directory).as_posix()) for path in self._files())
        content = {**self.manifest.as_json(), "outputs": [asdict(digest) for digest in outputs]}
        write_text(self.directory / MANIFEST, _json_text(content))
        self.directory.rename(self.path)


def _not_written(place: Path, error: OSError) -> RunDirectoryError:
    what = f"cannot be written: {error.strerror or described(error)}"
    return _kind_of(error)(Problem(str(error.filename or place), what, "Make room there, or name another folder for runs"))


def _kind_of(error: OSError) -> type[RunDirectoryError]:
    return NoRoomError if error.errno in _FULL else RunDirectoryError


def _claim(base: Path, name: str) -> tuple[Path, Path]:
    """(final, temporary) folder of a new run; a number is added where the same question is asked twice in a second."""
    base.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        final = base / (name if number == 1 else f"{name}-{number}")
        temporary = final.with_name(f"{final.name}.partial")
        if not final.exists() and not temporary.exists():
            try:
                temporary.mkdir()
            except FileExistsError:
                pass  # another process was faster
            else:
                return final, temporary
        number += 1


def _damage(directory: Path, digest: FileDigest) -> Problem | None:
    path = directory / digest.path
    if not _is_file(path):
        return Problem(str(path), f"is missing, expected {digest.size_bytes} bytes")
    if path.suffix not in _DATA_SUFFIXES:
        return None
    found = FileDigest.of(path, digest.path)
    if found.sha256 == digest.sha256:
        return None
    return Problem(
        str(path),
        f"was changed after the run: got {found.size_bytes} bytes with SHA-256 {found.sha256[:12]}…, "
        f"expected {digest.size_bytes} with {digest.sha256[:12]}…",
        "Run again, or restore the file",
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def _read_manifest(path: Path) -> Manifest:
    if not path.parent.is_dir():
        raise RunDirectoryError(Problem(str(path.parent), "there is no such folder, expected a run directory"))
    content = _read_json(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise RunDirectoryError(Problem(str(path), f'is not of a run: expected an object with "format": "{_FORMAT}"'))
    if content.get("schema_version") != SCHEMA_VERSION:
        got = content.get("schema_version")
        what = f"got schema_version {got}, expected {SCHEMA_VERSION}"
        raise RunDirectoryError(Problem(str(path), what, "Read it with the version of hetsim that wrote it"))
    try:
        return Manifest(
            scenario=content["scenario"],
            created_utc=content["created_utc"],
            argv=tuple(content["argv"]),
            seed=content["seed"],
            versions=content["versions"],
            host=Host(**content["host"]),
            inputs=tuple(map(_digest, content["inputs"])),
            outputs=tuple(map(_digest, content["outputs"])),
        )
    except (KeyError, TypeError) as error:
        raise RunDirectoryError(Problem(str(path), f"does not have the entries of a manifest: {error}")) from None


def _digest(row: Mapping[str, Any]) -> FileDigest:
    digest = FileDigest(**row)
    if not (isinstance(digest.path, str) and isinstance(digest.size_bytes, int) and isinstance(digest.sha256, str)):
        raise TypeError(f"got {dict(row)}, expected the path, the size in bytes and the SHA-256 of a file")
    return digest


def _read_json(path: Path) -> Any:
    text = read_text(path, RunDirectoryError)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}:{error.colno}"
        raise RunDirectoryError(Problem(where, f"is not JSON: {error.msg}")) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets without end
        raise RunDirectoryError(Problem(str(path), f"is no JSON that can be read: {error}")) from None


def _json_text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"hetsim": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _cpu_model() -> str:
    """The processor's name as the system gives it; its architecture where the system gives none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
