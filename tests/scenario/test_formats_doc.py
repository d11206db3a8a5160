"""docs/formats.md says what the readers do: its examples are read, and its tables name every key and column."""

import re
from pathlib import Path
from typing import get_args

import pytest

from hetsim.costs import Operation, files
from hetsim.plan import Plan
from hetsim.scenario import load_scenario, schema

TEXT = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
DOCUMENTED = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))


def examples(language: str, first_line: str) -> list[str]:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return [block for block in blocks if block.startswith(first_line)]


@pytest.mark.parametrize("text", examples("yaml", "hetsim: 1\n"))
def test_its_scenarios_load(tmp_path, text):
    path = tmp_path / "example.yaml"
    path.write_text(text)
    assert load_scenario(path).networks


def test_its_cost_files_are_read(tmp_path):
    (layers,) = examples("csv", "# hetsim costs 1\n")
    (transfers,) = examples("csv", "# hetsim transfers 1\n")
    (tmp_path / "net.csv").write_text(layers)
    (tmp_path / "transfers.csv").write_text(transfers)
    table = files.read_cost_table(tmp_path, "net")
    assert len(table.layers) == 5
    assert sorted(row.operation for row in table.transfers) == sorted(get_args(Operation)), "every operation is shown once"


def sections(base: type[schema.Section] = schema.Section):
    for section in base.__subclasses__():
        yield section
        yield from sections(section)


@pytest.mark.parametrize("section", list(sections()), ids=lambda section: section.__name__)
def test_every_key_is_in_its_tables(section):
    assert set(section.model_fields) <= DOCUMENTED


@pytest.mark.parametrize(
    "columns",
    [files.LAYER_COLUMNS, files.OPTIONAL_LAYER_COLUMNS, files.TRANSFER_COLUMNS, files.OPTIONAL_TRANSFER_COLUMNS],
)
def test_every_column_is_in_its_tables(columns):
    assert set(columns) <= DOCUMENTED


def test_its_plans_parse():
    (block,) = (block for block in re.findall(r"^```text\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL) if " 56/1 " in block)
    plans = [line.split("   ")[0] for line in block.splitlines()]
    assert [len(Plan.parse(plan).replicas) for plan in plans] == [2, 1, 2, 1, 2]
