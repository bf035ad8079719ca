"""New thresholds and rules from what is committed: the same as if the run had been asked so from the start."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from regions import (
    ROADS,
    WATER,
    DyingWorkers,
    draw_scene,
    features_of,
    files,
    make_models,
    mask_of,
    results,
    run,
    spec_of,
)

from pipeline import reading, worker
from pipeline.manifest import read_manifest
from pipeline.prepare import look
from pipeline.progress import Silent
from pipeline.restitch import Changes, restitch
from pipeline.runs import open_run
from pipeline.spec import Models
from pipeline.storage import Store
from pipeline.work import InProcess, Workers
from t2s_core.errors import BadInput


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return draw_scene(tmp_path / "alpha.tif")


def forbid_models(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any) -> None:
        raise AssertionError("a model or a scene was asked for")

    monkeypatch.setattr(worker, "_engine", asked)
    monkeypatch.setattr(reading, "open_scene", asked)


def again(out: Path, workers: Workers | None = None, **changes: Any) -> dict[str, Any]:
    return restitch(str(out), Changes(**changes), workers or InProcess(), Silent()).manifest


def test_it_gives_what_a_run_with_these_settings_gives(models: Models, scene: Path, tmp_path: Path) -> None:
    run(spec_of(models, scene, queries=[WATER, ROADS]), tmp_path / "out")
    run(spec_of(models, scene, queries=[WATER, ROADS], threshold=0.6, mode="instance"), tmp_path / "asked")
    scene.unlink()  # nor is the scene needed
    manifest = again(tmp_path / "out", threshold=0.6, mode="instance")
    assert results(tmp_path / "out") == results(tmp_path / "asked")
    assert (manifest["status"], manifest["spec"]["threshold"], manifest["spec"]["mode"]) == ("SUCCESS", 0.6, "instance")
    assert manifest["history"][-1]["restitch"] == {"threshold": 0.6, "mode": "instance"}
    assert manifest["history"][-1]["computed"] == 0
    assert [q["threshold"] for q in manifest["queries"]] == [0.6, 0.6]
    assert len(features_of(tmp_path / "out")) == sum(manifest["features"].values())


def test_one_query_changes_alone_and_rules_leave_the_mosaic(
    models: Models, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(spec_of(models, scene, queries=[WATER, ROADS]), out)
    forbid_models(monkeypatch)
    before, mask = files(out), mask_of(out, "alpha", "the-water")
    again(out, thresholds={"the-water": 0.7})
    after = files(out)
    moved = {name for name in before if after[name] != before[name]}
    assert moved
    assert all("the-water" in name for name in moved)
    assert (mask_of(out, "alpha", "the-water") == 1).sum() < (mask == 1).sum()
    again(out, min_area_m2=100.0)
    assert all(name.startswith("features/") for name in files(out) if files(out)[name] != after[name])
    assert (features_of(out)["area_m2"] >= 100).all()


def test_repeating_it_changes_nothing_and_an_interrupted_one_is_finished(
    models: Models, scene: Path, tmp_path: Path
) -> None:
    for name in ("out", "undisturbed"):
        run(spec_of(models, scene, queries=[WATER, ROADS]), tmp_path / name)
    again(tmp_path / "undisturbed", threshold=0.6)
    with pytest.raises(ConnectionError):
        again(tmp_path / "out", DyingWorkers(2), threshold=0.6)
    assert read_manifest(Store.at(str(tmp_path / "out")))["status"] == "FAILED"
    assert again(tmp_path / "out")["status"] == "SUCCESS"  # the run remembers what it was asked
    assert results(tmp_path / "out") == results(tmp_path / "undisturbed")
    before = files(tmp_path / "out")
    again(tmp_path / "out", threshold=0.6)
    assert files(tmp_path / "out") == before


def test_what_cannot_be_is_said_at_once(models: Models, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(BadInput, match=r"no run\.json"):
        again(out)
    run(spec_of(models, scene), out)
    before = (out / "run.json").read_bytes()
    with pytest.raises(BadInput) as caught:
        again(out, threshold=1.0, thresholds={"the-lake": 0.4})
    assert [text.partition(":")[0] for text in caught.value.problems] == ["--query the-lake", "--threshold"]
    assert (out / "run.json").read_bytes() == before


def test_simplified_features_share_borders_and_keep_their_names(models: Models, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(spec_of(models, scene, mode="instance", queries=[ROADS]), out)
    exact = features_of(out).set_index("feature_id")
    again(out, simplify_m=6.0)
    drawn = features_of(out).set_index("feature_id")
    assert set(drawn.index) == set(exact.index)
    assert drawn.geometry.count_coordinates().sum() < exact.geometry.count_coordinates().sum()
    assert drawn.geometry.is_valid.all()
    local = drawn.to_crs("EPSG:32633").geometry
    overlaps = sum(a.intersection(b).area for i, a in enumerate(local) for b in local.iloc[i + 1 :])
    assert overlaps < 1e-3 * local.area.sum()
    np.testing.assert_allclose(local.area.sum(), exact.to_crs("EPSG:32633").area.sum(), rtol=0.05)


def test_instances_need_an_overlap(models: Models, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    looked = look(spec_of(models, scene, mode="instance", overlap_px=0), str(out))
    assert [problem.href for problem in looked.problems] == ["--overlap-px"]
    run(spec_of(models, scene, overlap_px=0), out)
    with pytest.raises(BadInput, match="leaves nothing by which instances could be linked"):
        again(out, mode="instance")


def test_a_run_says_how_its_seams_and_objects_are(models: Models, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = run(spec_of(models, scene, queries=[WATER, ROADS]), out).manifest
    assert [(s["scene_id"], s["query_id"]) for s in manifest["seams"]] == [
        ("alpha", "the-water"),
        ("alpha", "the-roads"),
    ]
    assert all(0 < s["p"] <= 1 and s["pairs"] > 0 for s in manifest["seams"])
    assert "Seam check" in (out / "report.html").read_text()
    assert manifest["objects"] == manifest["features"]  # of one scene they are the same
    finished = open_run(str(out))
    assert len(finished.objects()) == len(finished.features()) == len(finished.latest()) > 0
    assert run(spec_of(models, scene, queries=[WATER, ROADS]), out).manifest["seams"] == manifest["seams"]


def test_the_commands(models: Models, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    n = run(spec_of(models, scene, queries=[WATER]), out).manifest["features"]["the-water"]
    done = t2s("restitch", out, "--query", "the-water=0.55", "--mode", "instance", "--workers", 1, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["queries"][0]["threshold"], document["queries"][0]["mode"]) == (0.55, "instance")
    assert document["features"]["the-water"] != n
    wrong = t2s("restitch", out, "--query", "the-water", "--mode", "panoptic")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 2)
    done = t2s("latest", tmp_path, "--out", tmp_path / "now.parquet", "--json")
    assert json.loads(done.stdout) == {"href": str(tmp_path / "now.parquet"), "rows": document["features"]["the-water"]}
    assert len(gpd.read_parquet(tmp_path / "now.parquet")) == document["features"]["the-water"]


def t2s(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from flows.cli.app import main; main()"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
