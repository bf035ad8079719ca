"""Runs of earlier versions stay readable: a directory for each schema version, as that version left it.

Kept by a run of one scene, nine tiles and two questions at /tmp/t2s-old (without report.html, which only people read).
"""

import shutil
from pathlib import Path

import pytest

from pipeline.manifest import SCHEMA_VERSION, read_manifest
from pipeline.progress import Silent
from pipeline.restitch import Changes, restitch
from pipeline.runs import open_run
from pipeline.status import run_status
from pipeline.storage import Store
from pipeline.validate import validate_run
from pipeline.work import InProcess

KEPT = Path(__file__).parents[1] / "runs"


@pytest.fixture(params=sorted(p.name for p in KEPT.iterdir()))
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    run = Path(shutil.copytree(KEPT / request.param, tmp_path / "run"))
    (run / "report.html").write_text("<!doctype html><title>left out: it is a megabyte</title>")
    return run


def test_there_is_one_of_this_version() -> None:
    assert (KEPT / f"schema-{SCHEMA_VERSION}").is_dir()


def test_status_counts_what_it_came_to(old: Path) -> None:
    status = run_status(str(old))
    assert status["status"] == "SUCCESS"
    counts = {name: n for name, n in status["tile_queries"].items() if n}
    assert counts == {"total": 18, "ok": 9, "no_target": 9}


def test_it_is_valid(old: Path) -> None:
    found = validate_run(str(old))
    assert found["ok"], [check for check in found["checks"] if not check["ok"]]


def test_its_results_are_read(old: Path) -> None:
    run = open_run(str(old))
    assert {q.query_id for q in run.queries} == {"the-water", "nothing-at-all"}
    assert set(run.features()["query_id"]) == {"the-water"}
    assert int((run.mosaic("alpha", "the-water")["mask"] == 1).sum()) > 0


def test_it_is_restitched_without_its_scenes_and_models(old: Path) -> None:
    before = read_manifest(Store.at(str(old)))
    assert before is not None
    outcome = restitch(str(old), Changes(threshold=0.9), InProcess(), Silent(), scenes_at_once=1)
    assert outcome.status.value == "SUCCESS"
    assert len(outcome.manifest["history"]) == len(before["history"]) + 1
    assert run_status(str(old))["tile_queries"]["pending"] == 0
    assert validate_run(str(old))["ok"]
