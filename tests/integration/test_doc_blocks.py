"""Every code block of README.md and docs/ runs as it stands, or says why it does not."""

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb
import geopandas as gpd
import pytest
import yaml
from doc_blocks import LANGUAGES, ROOT, Block, blocks, commands, pages, run_block
from outputs import finished_run

from pipeline.demo import draw_scenes
from pipeline.storage import Store
from t2s_core.errors import BadInput

ALL = {page: blocks(page, (ROOT / page).read_text(encoding="utf-8")) for page in pages()}
RUN = {page: [b for b in found if b.not_run is None and b.language != "text"] for page, found in ALL.items()}


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    folder = tmp_path_factory.mktemp("t")
    with commands(folder) as found:
        yield {**found, "T2S_CACHE": str(folder / "cache")}


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory, environment: Mapping[str, str]) -> Path:
    """What a reader has before the first block: a scene, outlines of its lakes, and a run of the bundled pair."""
    folder = tmp_path_factory.mktemp("desk")
    drawn = Store.at(str(tmp_path_factory.mktemp("drawn")))
    draw_scenes(drawn, seed=1, size_px=512)
    (folder / "scene.tif").write_bytes(drawn.read("scenes/harbour_town.tif"))
    truth = gpd.read_parquet(drawn.href("truth/harbour_town.parquet"))
    lakes = truth[truth["query_id"] == "lake"]
    lakes.to_file(folder / "lakes.gpkg")
    command = "t2s segment scene.tif --query 'the lake' --out results\nt2s export results --out corrected.gpkg\n"
    run_block(Block("the desk", 0, "sh", command, None, None), folder, environment)
    return folder


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the reference describes: a run of two scenes, `alpha` and `beta`, and three queries, with COGs."""
    folder = tmp_path_factory.mktemp("reference")
    finished_run(folder).rename(folder / "results")
    return folder


@pytest.mark.parametrize("page", [page for page, found in RUN.items() if found])
def test_blocks_run(page: str, request: pytest.FixtureRequest, tmp_path: Path, environment: Mapping[str, str]) -> None:
    start: Path = request.getfixturevalue("reference" if page.startswith("docs/reference/") else "desk")
    folder = tmp_path / "here"
    shutil.copytree(start, folder)
    for block in RUN[page]:
        try:
            run_block(block, folder, environment)
        except Exception as error:
            error.add_note(f"{page}:{block.line}")
            raise


def test_every_block_names_its_language() -> None:
    strangers = [
        f"{b.page}:{b.line} {b.language!r}" for found in ALL.values() for b in found if b.language not in LANGUAGES
    ]
    assert strangers == []


def test_every_mark_has_a_reason_and_a_block() -> None:
    for page, found in ALL.items():
        marks = re.findall(r"<!-- not run(.*?)-->", (ROOT / page).read_text(encoding="utf-8"))
        assert len(marks) == sum(b.not_run is not None for b in found), f"{page}: a mark that is above no block"
        assert all(len(b.not_run.split()) >= 3 for b in found if b.not_run is not None), page


def test_links_of_the_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) if not (ROOT / link).exists()]
    assert missing == []


def test_marks_belong_to_the_block_right_below() -> None:
    first_two = "<!-- not run: needs a hub -->\n```sh\nfalse\n```\n\n```sh\ntrue\n```\n"
    text = f"{first_two}<!-- file: a.yaml -->\n```yaml\nb: 1\n```\n"
    first, second, third = blocks("page.md", text)
    assert (first.not_run, first.line, first.code) == ("needs a hub", 2, "false\n")
    assert (second.not_run, second.file) == (None, None)
    assert (third.not_run, third.file, third.language) == (None, "a.yaml", "yaml")
    with pytest.raises(ValueError, match=r"page.md:1: this block has no end"):
        blocks("page.md", "```sh\ntrue\n")


@pytest.mark.parametrize(
    ("language", "code", "file"),
    [
        ("sh", "false | true\n", None),
        ("sh", "t2s plan nowhere.tif --query 'the lake' --out results\ntrue\n", None),
        ("python", "import nothing_of_this_name\n", None),
        ("sql", "SELECT * FROM read_parquet('nowhere.parquet');\n", None),
        ("sql", "SELECT 1 WHERE false;\n", None),
        ("yaml", "a: [1\n", None),
        ("yaml", "group_sise: 3\n", "settings.yaml"),
        ("yaml", "- query: ''\n", "questions.yaml"),
        ("json", "{'a': 1}\n", None),
    ],
)
def test_a_wrong_block_fails(
    language: str, code: str, file: str | None, tmp_path: Path, environment: Mapping[str, str]
) -> None:
    block = Block("page.md", 1, language, code, None, file)
    with pytest.raises((AssertionError, ImportError, ValueError, yaml.YAMLError, duckdb.Error, BadInput)):
        run_block(block, tmp_path, environment)
