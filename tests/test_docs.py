"""What the documents show is so: code runs, commands parse and print what is shown, links and names lead somewhere.

A block names its kind, and every kind is checked:

* ``python`` runs; the blocks of one document share their variables, in order. `>>>` is compared with the output below it.
* ``yaml`` is YAML; a block that begins with `hetsim: 1` is a scenario that loads.
* ``console``: `$ hetsim …` parses. A `plan` or `predict` of a scenario that brings its costs is run, and so is `--help` and
  `--version`: stdout begins with the lines shown, up to a line `...`. What other commands print depends on the machine.
* ``json`` is JSON. In ``csv`` every row has as many cells as the header.
* ``text``: drawings, grammars, file trees, formulas. There is nothing to check.
"""

import ast
import csv
import doctest
import itertools
import json
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main
from ruamel.yaml import YAML

from hetsim.cli.app import app
from hetsim.errors import HetsimError
from hetsim.scenario import Scenario, load_scenario

ROOT = Path(__file__).parent.parent
REQUIRED = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(f"docs/{name}.md" for name in ("architecture", "errors", "formats", "glossary", "model")),
)
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")) if path.is_file()
)
KINDS = ("python", "yaml", "console", "json", "csv", "text")
OTHER_PROGRAMS = {"cd", "git", "make", "python", "python3", "torchrun", ".venv/bin/pytest"}
"""What a console block may start besides hetsim; of make, the target is checked."""

FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```[ ]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    document: str
    line: int
    """Of its first line, from 1."""

    kind: str
    text: str

    def __str__(self):
        return f"{self.document}:{self.line}"


def read(document):
    return (ROOT / document).read_text(encoding="utf-8")


def blocks_of(document):
    content = read(document)
    for match in FENCE.finditer(content):
        indent = len(match["indent"])
        text = "".join(line[indent:] if line.strip() else line for line in match["text"].splitlines(keepends=True))
        yield Block(document, content.count("\n", 0, match.start("text")) + 1, match["kind"].strip(), text)


def prose_of(document):
    return FENCE.sub(lambda block: "\n" * block[0].count("\n"), read(document))


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]


def of_kind(kind):
    rows = [block for block in BLOCKS if block.kind == kind]
    return pytest.mark.parametrize("block", rows, ids=map(str, rows))


def test_the_documents_are_there_and_their_blocks_of_a_known_kind():
    assert set(REQUIRED) <= set(DOCUMENTS)
    assert [f"{block}: {block.kind or 'no kind'}" for block in BLOCKS if block.kind not in KINDS] == []
    fences = {document: len(re.findall(r"^ *```", read(document), re.MULTILINE)) for document in DOCUMENTS}
    assert fences == {d: 2 * sum(block.document == d for block in BLOCKS) for d in DOCUMENTS}, "every fence is closed"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty current directory in which the shipped scenarios are found as from the root of the project."""
    (tmp_path / "scenarios").symlink_to(ROOT / "scenarios")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if any(b.kind == "python" for b in blocks_of(d))])
def test_python_runs(document, workplace):
    variables = {"__name__": document}
    for block in blocks_of(document):
        if block.kind != "python":
            continue
        if ">>>" in block.text:
            example = doctest.DocTestParser().get_doctest(block.text, variables, str(block), document, block.line - 1)
            complaints = []
            runner = doctest.DocTestRunner(verbose=False)
            runner.run(example, out=complaints.append, clear_globs=False)
            assert runner.tries > 0
            assert complaints == []
            variables.update(example.globs)
        else:
            exec(compile("\n" * (block.line - 1) + block.text, document, "exec"), variables)


@of_kind("yaml")
def test_yaml_loads(block, workplace):
    if not block.text.lstrip().startswith("hetsim: 1"):
        assert YAML(typ="safe", pure=True).load(block.text) is not None
        return
    folder = workplace / "document"
    for file in ("scenario.yaml", *re.findall(r"costs: *([\w./-]+)", block.text)):  # a cost file has to be there, no more
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    path = folder / "scenario.yaml"
    path.write_text(block.text)
    assert isinstance(load_scenario(path), Scenario)


def test_json_is_json_and_csv_rows_are_whole():
    for block in BLOCKS:
        if block.kind == "json":
            json.loads(block.text)
        if block.kind == "csv":
            rows = list(csv.reader(line for line in block.text.splitlines() if not line.startswith("#")))
            assert len(rows) > 1, block
            assert {len(row) for row in rows} == {len(rows[0])}, block


@dataclass(frozen=True)
class Command:
    words: tuple[str, ...]
    shown: tuple[str, ...]
    """What the block shows below it."""


def commands_of(block):
    text = re.sub(r"\\\n *(?:> *)?", " ", block.text)
    chunks = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert not chunks[0].strip(), f"{block} begins with {chunks[0]!r}, expected $"
    for chunk in chunks[1:]:
        first, *shown = chunk.rstrip("\n").split("\n")
        yield Command(tuple(shlex.split(first, comments=True)), tuple(line.rstrip() for line in shown))


def parsed(words):
    """The command that `words` (without `hetsim`) name, and its options; an error of click's where there is no such."""
    group = typer.main.get_command(app)
    asked = [word for word in words if word not in ("--help", "--version")]
    if not asked:
        return None, {}
    context = group.make_context("hetsim", list(asked))
    name, command, rest = group.resolve_command(context, list(asked))
    if asked != list(words):  # help needs no arguments
        assert rest == []
        return name, {}
    return name, command.make_context(name, rest, parent=context).params


def can_run(words):
    """Whether the command needs neither a calibration nor torch, and prints the same everywhere."""
    if {"--help", "--version"} & set(words):
        return True
    name, options = parsed(words)
    return name in ("plan", "predict", "whatif") and all(
        s.costs is not None for s in load_scenario(options["scenario"]).networks
    )


def printed(words):
    """The lines that the command prints on stdout."""
    done = subprocess.run([sys.executable, "-m", "hetsim", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [line.rstrip() for line in done.stdout.splitlines()]


@of_kind("console")
def test_commands_exist_and_print_what_is_shown(block, workplace):
    commands = list(commands_of(block))
    assert commands
    for command in commands:
        program, *words = command.words
        if program != "hetsim":
            assert program in OTHER_PROGRAMS, f"{block}: {program}"
            if program == "make":
                targets = re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE)
                assert {word for word in words if "=" not in word} <= set(targets)
            continue
        _, options = parsed(words)
        scenario = options.get("scenario")
        if scenario is not None and not scenario.exists():
            assert scenario.parent == Path(), f"{block}: there is no {scenario}"  # else a file of the reader's own
        elif can_run(words):
            shown = list(itertools.takewhile(lambda line: line not in ("...", "…"), command.shown))
            assert printed(words)[: len(shown)] == shown


LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def anchors_of(document):
    """As GitHub makes them: lower case, words joined by dashes, nothing else but underscores."""
    headings = re.findall(r"^#+ +(.+?) *#*$", prose_of(document), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", h)).strip().lower().replace(" ", "-")
        for h in headings
    }


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    broken = []
    for match in LINK.finditer(prose_of(document)):
        target, _, anchor = match["target"].partition("#")
        if re.match(r"[a-z]+:", target):
            continue  # the web is not the project's to check
        path = (ROOT / document).parent / target if target else ROOT / document
        found = path.exists()
        if found and anchor:
            found = anchor in anchors_of(path.resolve().relative_to(ROOT).as_posix())
        if not found:
            broken.append(match["target"])
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_and_names_in_the_text_exist(document):
    """`hetsim/plan.py`, `tests/test_plan.py::test_a_good_plan_passes`, `hetsim.plan.Plan`."""
    missing = []
    for text in re.findall(r"`([^`\n]+)`", prose_of(document)):
        if re.fullmatch(r"(hetsim|calibration|executor|scenarios|tests|docs)/[\w./-]*(::\w+)?", text):
            path, _, test = text.partition("::")
            if not (ROOT / path).exists() or (test and test not in defined_in(ROOT / path)):
                missing.append(text)
        elif re.fullmatch(r"(hetsim|calibration|executor)(\.\w+)+", text) and not is_defined(text):
            missing.append(text)
    assert missing == []


def defined_in(path):
    """Names of the functions, classes and variables at the top of a Python file."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def is_defined(dotted):
    """Whether `package.module.name` is a module of the project, or a name in one."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        folder = ROOT.joinpath(*parts[:count])
        for file in (folder / "__init__.py", folder.with_suffix(".py")):
            if file.exists():
                return count == len(parts) or parts[count] in defined_in(file)
    return False


def test_every_rule_of_the_model_has_its_assumption_source_and_test():
    prose = read("docs/model.md")
    rules = re.split(r"^### ", prose, flags=re.MULTILINE)[1:]
    assert len(rules) > 20
    lacking = {}
    for rule in rules:
        title, body = rule.split("\n", 1)
        body = re.split(r"^## ", body, flags=re.MULTILINE)[0]
        parts = dict(re.findall(r"^- \*\*(\w+)\*\*:(.*?)(?=^- \*\*|\Z)", body, re.MULTILINE | re.DOTALL))
        gaps = {"Assumes", "Source", "Code", "Test"} - set(parts)
        if not re.search(r"`tests/[\w/]+\.py::\w+`", parts.get("Test", "")):
            gaps.add("Test")
        if gaps:
            lacking[title] = gaps
    assert lacking == {}


def test_the_error_codes_are_those_of_the_classes():
    def tree(kind):
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in tree(child))]

    rows = re.findall(r"^\| `([\w-]+)` \| (\d+) \| `(\w+)` \|", read("docs/errors.md"), re.MULTILINE)
    classes = [kind for kind in tree(HetsimError) if kind.__module__ == "hetsim.errors"]
    assert rows == [(kind.code, str(kind.exit_code), kind.__name__) for kind in classes]


def test_the_dependencies_are_those_that_are_imported():
    own, imported = {"hetsim", "calibration", "executor"}, set()
    for path in (path for package in own for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            imported |= {name.split(".")[0] for name in names} - sys.stdlib_module_names - own
    imported = {{"ruamel": "ruamel.yaml", "pydantic_core": "pydantic"}.get(name, name) for name in imported}
    table = read("docs/architecture.md").split("## Dependencies")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([\w., ]+) \|", table, re.MULTILINE)[1:]
    assert {name for row in rows for name in row.split(", ")} == imported
    declared = tomllib.loads(read("pyproject.toml"))["project"]["dependencies"]
    assert imported <= {re.match(r"[\w.]+", line)[0] for line in declared}


def test_the_examples_of_help_work(workplace):
    for name, command in typer.main.get_command(app).commands.items():
        examples = (command.epilog or "").removeprefix("Examples:").split("·")
        assert len(examples) > 1, name
        for example in examples:
            program, *words = shlex.split(example)
            assert (program, parsed(words)[0]) == ("hetsim", name)
            if can_run(words):
                assert printed(words)


def test_the_glossary_is_in_order():
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", read("docs/glossary.md"), re.MULTILINE)
    assert len(words) > 20
    assert words == sorted(words, key=str.lower)
