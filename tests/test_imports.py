"""Who may import whom, and what start-up may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "pandas", "matplotlib", "scipy", "simpy")


def imported_modules(path, *, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("package", ["hetsim", "calibration", "executor"])
def test_imports_go_down_only(package):
    forbidden = {"hetsim": ("calibration", "executor"), "calibration": ("executor",), "executor": ("calibration",)}[package]
    for path in (ROOT / package).rglob("*.py"):
        if path.is_relative_to(ROOT / "hetsim" / "cli"):
            continue  # the one place that knows both, and imports them inside its commands
        found = [name for name in imported_modules(path) if name.split(".")[0] in forbidden]
        assert not found, f"{path} imports {found}"


def test_cli_imports_them_inside_functions():
    for path in (ROOT / "hetsim" / "cli").rglob("*.py"):
        found = [
            n for n in imported_modules(path, top_level_only=True) if n.split(".")[0] in ("calibration", "executor", "torch")
        ]
        assert not found, f"{path} imports {found} on start-up"


def test_only_models_import_torch_at_top_level():
    for path in (ROOT / "hetsim").rglob("*.py"):
        if "models" not in path.relative_to(ROOT).parts:
            assert "torch" not in {name.split(".")[0] for name in imported_modules(path, top_level_only=True)}, path


def test_the_planner_knows_no_simulator_and_only_the_scenarios_door_pydantic():
    for path in (ROOT / "hetsim").rglob("*.py"):
        names = list(imported_modules(path))
        if path.parent.name == "planner":
            assert not [name for name in names if name.startswith("hetsim.simulator")], path
        at_the_door = path.parent.name == "scenario" and path.name in ("schema.py", "reader.py")
        assert at_the_door or not [name for name in names if name.startswith("pydantic")], path


@pytest.mark.parametrize("arguments", [["--help"], ["validate", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    code = (
        f"import sys; sys.argv = ['hetsim', *{arguments!r}]\n"
        "from hetsim.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: hetsim" in done.stdout
    assert done.stderr.strip() == "[]"


def test_planning_from_a_table_needs_no_torch():
    code = (
        "import sys; sys.argv = ['hetsim', 'plan', 'scenarios/textbook.yaml', '--runs', sys.argv[1], '--format', 'json']\n"
        "from hetsim.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    import tempfile

    with tempfile.TemporaryDirectory() as runs:
        subprocess.run([sys.executable, "-c", code, runs], capture_output=True, text=True, check=True, cwd=ROOT)
