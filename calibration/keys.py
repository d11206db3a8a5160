"""What a measurement of a network depends on besides the device: the key under which it is kept."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from calibration.store import digest
from hetsim.scenario.types import NetworkSpec


def network_key(spec: NetworkSpec, seed: int) -> str:
    """A digest of the network's definition, the user's own source included, and of how it is trained."""
    training = spec.training
    sample = asdict(spec.input) if spec.input else None
    trained = [training.optimizer, training.momentum, training.dtype, seed]
    return digest(spec.zoo, spec.module, _source(spec), dict(spec.arguments), sample, trained)


def _source(spec: NetworkSpec) -> str:
    """A digest of the file that the user's network is defined in, and of all that it imports from beside it: an edit of any is
    measured anew. Found, not imported; what is installed elsewhere is not looked into."""
    if spec.module is None:
        return ""
    parts = spec.module.partition(":")[0].split(".")
    for folder in (Path.cwd(), *map(Path, sys.path)):
        if (file := _module_file(folder, parts)) is not None:
            found: dict[Path, str] = {}
            _gather(file, folder, found)
            return digest(*(found[path] for path in sorted(found)))
    return ""


def _gather(file: Path, folder: Path, found: dict[Path, str]) -> None:
    """Add to `found` the text of `file`, and of all modules below `folder` that it imports, and so on."""
    if file in found:
        return
    text = found[file] = file.read_text(encoding="utf-8", errors="replace")
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return  # whoever imports it will say so
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = file.relative_to(folder).parent.parts if node.level else ()
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" if base else alias.name for alias in node.names)]
        else:
            continue
        for name in filter(None, names):
            if (other := _module_file(folder, name.split("."))) is not None:
                _gather(other, folder, found)


def _module_file(folder: Path, parts: Sequence[str]) -> Path | None:
    files = (folder.joinpath(*parts).with_suffix(".py"), folder.joinpath(*parts, "__init__.py"))
    return next((file for file in files if file.is_file()), None)
