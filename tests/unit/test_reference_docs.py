"""The reference pages say what is: tables against the code. Their blocks run in `test_doc_blocks`."""

import re
from pathlib import Path
from typing import Any

import pytest
import zarr
from outputs import finished_run

from pipeline import features, objects
from pipeline.mosaics import COVERAGE
from pipeline.reporting.budget import Budget
from pipeline.runs import FinishedRun
from pipeline.stac import item_name
from pipeline.storage import Store
from pipeline.validate import CHECKS

DOCS = Path(__file__).resolve().parents[2] / "docs/reference"


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def table(text: str, heading: str) -> list[list[str]]:
    """Cells of the table whose first column is headed so, without back quotes."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} |")) + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a run in `results`."""
    folder = tmp_path_factory.mktemp("docs")
    finished_run(folder).rename(folder / "results")
    return folder


@pytest.mark.parametrize(("name", "module"), [("geoparquet", features), ("objects", objects)])
def test_the_table_of_columns_is_the_schema(name: str, module: Any) -> None:
    stated = [(name, kind, null == "yes") for name, kind, null, _ in table(page(name), "column")]
    assert stated == [(field.name, str(field.type), field.nullable) for field in module.SCHEMA]
    assert f"Schema version {module.SCHEMA_VERSION}," in page(name)


def test_the_table_of_coverage_is_the_code() -> None:
    assert [(int(code), name) for code, name, _ in table(page("zarr"), "code")] == list(enumerate(COVERAGE))


def test_the_table_of_attributes_is_what_groups_have(folder: Path) -> None:
    attributes = zarr.open_group(folder / "results/masks.zarr/alpha/the-water", mode="r").attrs
    assert {name for name, _ in table(page("zarr"), "attribute")} == {k for k in attributes if k.startswith("t2s:")}


def test_the_table_of_assets_is_what_items_have(folder: Path) -> None:
    import json

    item = json.loads(Store.at(str(folder / "results")).read(item_name("alpha")))
    stated = {name.replace("<query_id>", "the-water") for name, _, _ in table(page("stac"), "asset")}
    assert stated == {name for name in item["assets"] if name.startswith("the-water-") or name == "report"}


def test_the_table_of_members_is_what_a_run_has() -> None:
    public = {name for name in dir(FinishedRun) if not name.startswith("_")} | set(FinishedRun.__dataclass_fields__)
    names = (re.sub(r"\(.*?\)", "", cells[0]) for cells in table(page("python"), "member"))
    stated = {name for some in names for name in re.findall("[a-z_]+", some)}
    assert stated == public


def test_the_limits_of_the_report_are_those_of_the_code() -> None:
    stated = [int(cells[1].split()[0].rstrip(",").replace(",", "")) for cells in table(page("report"), "of")]
    budget = Budget()
    assert stated == [budget.scenes, budget.features, budget.vertices, budget.tiles, budget.crops, budget.prompts,
                      budget.batches, budget.listed]  # fmt: skip


def test_the_table_of_checks_is_what_validate_does() -> None:
    assert [name for name, _ in table(page("validate"), "check")] == [check.name for check in CHECKS]
