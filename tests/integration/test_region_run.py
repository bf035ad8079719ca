"""Whole region runs on small drawn scenes, with real models of tiny size."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import odc.geo.xr  # noqa: F401 -- registers `.odc`
import pytest
import rasterio.features
import shapely
from affine import Affine
from odc.geo.crs import CRS
from regions import (
    BABBLE,
    NORTH_UP,
    NOTHING,
    ROADS,
    WATER,
    DyingWorkers,
    draw_corrupt,
    draw_scene,
    features_of,
    files,
    make_models,
    mask_of,
    results,
    run,
    spec_of,
    write_replies,
)

from pipeline import reading
from pipeline.manifest import RunStatus
from pipeline.mosaics import open_mosaic
from pipeline.prepare import prepare
from pipeline.progress import Silent
from pipeline.queries import Query
from pipeline.read import UnreadablePixels
from pipeline.region import run_region
from pipeline.spec import Models
from pipeline.status import run_status
from pipeline.storage import Store
from pipeline.work import InProcess
from t2s_core.errors import BadInput, MachineFault

N_TILES = 9
"""Of a scene of 120 x 150 pixels: 3 rows and 3 columns."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return draw_scene(tmp_path / "alpha.tif")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_a_run_leaves_masks_features_manifest_and_report(models: Models, scene: Path, out: Path) -> None:
    outcome = run(spec_of(models, scene, queries=[WATER, NOTHING]), out)
    assert (outcome.status, outcome.computed) == (RunStatus.SUCCESS, 2 * N_TILES)
    manifest = json.loads((out / "run.json").read_text())
    assert manifest == json.loads(json.dumps(outcome.manifest))
    assert manifest["status"] == "SUCCESS"
    assert manifest["counts"]["ok"] == manifest["counts"]["no_target"] == N_TILES
    assert [(s["scene_id"], s["href"], s["shape"]) for s in manifest["scenes"]] == [("alpha", str(scene), [120, 150])]
    assert [q["query_id"] for q in manifest["queries"]] == ["the-water", "nothing-at-all"]
    assert set(np.unique(mask_of(out, "alpha", "the-water"))) == {0, 1}
    assert set(np.unique(mask_of(out, "alpha", "nothing-at-all"))) == {0}
    features = features_of(out)
    assert len(features) == manifest["features"]["the-water"] > 0
    assert set(features["query_id"]) == {"the-water"}
    assert set(features["reasoning"]) == {"Blue means water."}
    assert (out / "report.html").exists()
    assert not (out / "lease.json").exists()


def test_a_second_run_computes_nothing_and_touches_nothing(models: Models, scene: Path, out: Path) -> None:
    spec = spec_of(models, scene, queries=[WATER, ROADS])
    run(spec, out)
    before = files(out)
    outcome = run(spec, out)
    assert (outcome.status, outcome.computed) == (RunStatus.SUCCESS, 0)
    assert files(out) == before
    assert [entry["computed"] for entry in outcome.manifest["history"]] == [2 * N_TILES, 0]


def test_adding_a_query_computes_that_query_alone(models: Models, scene: Path, out: Path) -> None:
    run(spec_of(models, scene, queries=[WATER]), out)
    before = files(out)
    outcome = run(spec_of(models, scene, queries=[WATER, ROADS]), out)
    assert outcome.computed == N_TILES
    assert outcome.manifest["counts"]["ok"] == 2 * N_TILES
    after = files(out)
    assert {name: after[name] for name in before} == before
    assert set(features_of(out)["query_id"]) == {"the-water", "the-roads"}


@pytest.mark.parametrize("n_batches", [0, 1, 2])
def test_a_killed_run_is_resumed_to_the_same_bits(models: Models, scene: Path, tmp_path: Path, n_batches: int) -> None:
    spec = spec_of(models, scene, queries=[WATER, ROADS])
    run(spec, tmp_path / "undisturbed")
    with pytest.raises(ConnectionError, match="plug"):
        run(spec, tmp_path / "killed", DyingWorkers(n_batches))
    assert len(list((tmp_path / "killed" / "tiles").rglob("*.parquet"))) == n_batches
    outcome = run(spec, tmp_path / "killed")
    assert outcome.status is RunStatus.SUCCESS
    assert outcome.computed == 2 * (N_TILES - 4 * n_batches)
    assert results(tmp_path / "killed") == results(tmp_path / "undisturbed")


@pytest.mark.parametrize("n_calls", [3, 4], ids=["stitching", "vectorising"])
def test_a_run_killed_while_stitching_or_vectorising_is_resumed_to_the_same_bits(
    models: Models, scene: Path, tmp_path: Path, n_calls: int
) -> None:
    spec = spec_of(models, scene, queries=[WATER])
    run(spec, tmp_path / "undisturbed")
    with pytest.raises(ConnectionError):
        run(spec, tmp_path / "killed", DyingWorkers(n_calls))
    outcome = run(spec, tmp_path / "killed")
    assert (outcome.status, outcome.computed) == (RunStatus.SUCCESS, 0)
    assert results(tmp_path / "killed") == results(tmp_path / "undisturbed")


def test_an_exception_ends_the_run_as_failed_and_says_why(models: Models, scene: Path, out: Path) -> None:
    with pytest.raises(ConnectionError):
        run(spec_of(models, scene), out, DyingWorkers(1))
    status = run_status(str(out))
    assert (status["status"], status["error"]) == ("FAILED", "ConnectionError: the plug was pulled")
    assert (status["tile_queries"]["ok"], status["tile_queries"]["pending"]) == (4, N_TILES - 4)
    assert not (out / "lease.json").exists()


def test_an_interrupted_run_is_interrupted(models: Models, scene: Path, out: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(models, scene), out, DyingWorkers(1, KeyboardInterrupt()))
    assert run_status(str(out))["status"] == "INTERRUPTED"
    assert run(spec_of(models, scene), out).status is RunStatus.SUCCESS
    assert run_status(str(out))["status"] == "SUCCESS"


def test_a_corrupt_scene_fails_with_reasons_and_the_others_are_whole(models: Models, scene: Path, out: Path) -> None:
    corrupt = draw_corrupt(scene.with_name("corrupt.tif"))
    outcome = run(spec_of(models, scene, corrupt), out)
    counts = outcome.manifest["counts"]
    assert outcome.status is RunStatus.PARTIAL
    assert (counts["total"], counts["pending"]) == (2 * N_TILES, 0)
    assert 0 < counts["failed"] < N_TILES
    assert counts["ok"] == 2 * N_TILES - counts["failed"]
    failures = run_status(str(out))["failures"]
    assert failures == outcome.manifest["failures"]
    assert len(failures) == counts["failed"]
    assert {(f["scene_id"], f["query_id"]) for f in failures} == {("corrupt", "the-water")}
    assert all(f["reason"] and f["tile"].startswith("corrupt/1/") for f in failures)
    assert (mask_of(out, "corrupt", "the-water") == 255).any()
    assert not (mask_of(out, "alpha", "the-water") == 255).any()
    alone = out.with_name("alone")
    run(spec_of(models, scene), alone)
    assert (mask_of(out, "alpha", "the-water") == mask_of(alone, "alpha", "the-water")).all()


def test_a_failed_tile_is_never_background(
    models: Models, scene: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, (0, 0))
    run(spec_of(models, scene, queries=[NOTHING], overlap_px=0), out)
    mask = mask_of(out, "alpha", "nothing-at-all")
    assert (mask[:56, :64] == 255).all()  # below and to the right other tiles looked
    assert (mask[64:, 64:] == 0).all()


def fail_at(monkeypatch: pytest.MonkeyPatch, *corners_scene_px: tuple[int, int]) -> None:
    """Windows with these upper left corners (x, y) cannot be read."""
    read = reading.read_windows

    def read_or_fail(dataset: Any, scene: Any, windows: Any, *rest: Any) -> Any:
        for window in windows:
            if (window.x0, window.y0) in corners_scene_px:
                raise UnreadablePixels(f"bad blocks at {window.x0}, {window.y0}")
        return read(dataset, scene, windows, *rest)

    monkeypatch.setattr(reading, "read_windows", read_or_fail)


def test_failures_stay_until_they_are_retried_and_only_they_are(models: Models, scene: Path, tmp_path: Path) -> None:
    spec, out = spec_of(models, scene, queries=[WATER, ROADS]), tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, (0, 0), (48, 48))
        first = run(spec, out)
    assert (first.status, first.manifest["counts"]["failed"]) == (RunStatus.PARTIAL, 4)
    assert {f["reason"] for f in first.manifest["failures"]} == {"bad blocks at 0, 0", "bad blocks at 48, 48"}
    again = run(spec, out)
    assert (again.status, again.computed) == (RunStatus.PARTIAL, 0)
    retried = run(spec, out, retry_failed=True)
    assert (retried.status, retried.computed, retried.manifest["counts"]["failed"]) == (RunStatus.SUCCESS, 4, 0)
    run(spec, tmp_path / "undisturbed")
    for query_id in ("the-water", "the-roads"):
        for raster in ("probability", "mask", "coverage_l1"):
            mended, undisturbed = (mask_of(o, "alpha", query_id, raster) for o in (out, tmp_path / "undisturbed"))
            assert (mended == undisturbed).all()
    assert run(spec, out, retry_failed=True).computed == 0


def test_a_tile_nobody_answered_fails_alone(models: Models, scene: Path, tmp_path: Path) -> None:
    tiles = [f"alpha/1/{row}/{col}" for row in range(3) for col in range(3)]
    answered = [(tile, NOTHING, "[]") for tile in tiles if tile != "alpha/1/1/1"]
    write_replies(tmp_path / "few.jsonl", answered)
    few = models.model_copy(update={"prompter": f"recorded:{tmp_path / 'few.jsonl'}"})
    outcome = run(spec_of(few, scene, queries=[NOTHING]), tmp_path / "out")
    assert outcome.status is RunStatus.PARTIAL
    (failure,) = outcome.manifest["failures"]
    assert failure["tile"] == "alpha/1/1/1"
    assert "holds no reply" in failure["reason"]


def test_a_run_of_which_nothing_was_answered_is_failed(models: Models, scene: Path, tmp_path: Path) -> None:
    outcome = run(spec_of(models, scene, queries=["never recorded"]), tmp_path / "out")
    assert (outcome.status, outcome.manifest["counts"]["failed"]) == (RunStatus.FAILED, N_TILES)
    assert (mask_of(tmp_path / "out", "alpha", "never-recorded") == 255).all()


@pytest.mark.parametrize(("limit", "status"), [(0.4, RunStatus.PARTIAL), (0.5, RunStatus.SUCCESS)])
def test_unusable_answers_are_counted_apart_and_make_a_run_partial_above_the_limit(
    models: Models, scene: Path, out: Path, limit: float, status: RunStatus
) -> None:
    outcome = run(spec_of(models, scene, queries=[WATER, BABBLE], max_unparsable=limit), out)
    assert outcome.status is status
    assert (outcome.manifest["counts"]["unparsable"], outcome.manifest["counts"]["failed"]) == (N_TILES, 0)
    assert len(run_status(str(out))["unparsable"]) == N_TILES
    assert (mask_of(out, "alpha", "what-makes-it-babble") == 255).all()


def test_a_scene_without_data_is_success_with_nothing_masked(models: Models, tmp_path: Path) -> None:
    empty = draw_scene(tmp_path / "empty.tif", hole=np.ones((120, 150), np.bool_))
    outcome = run(spec_of(models, empty), tmp_path / "out")
    assert outcome.status is RunStatus.SUCCESS
    assert outcome.manifest["counts"]["skipped_nodata"] == outcome.manifest["counts"]["total"] == N_TILES
    assert (mask_of(tmp_path / "out", "empty", "the-water") == 255).all()
    assert len(features_of(tmp_path / "out")) == 0


def test_nothing_is_masked_where_there_is_no_data(models: Models, tmp_path: Path) -> None:
    hole = np.add.outer(np.arange(120), np.arange(150)) < 110
    draw_scene(tmp_path / "wedge.tif", hole=hole)
    outcome = run(spec_of(models, tmp_path / "wedge.tif"), tmp_path / "out")
    mask = mask_of(tmp_path / "out", "wedge", "the-water")
    assert outcome.status is RunStatus.SUCCESS
    assert ((mask == 255) == hole).all()
    assert (mask == 1).any()
    burnt = rasterio.features.rasterize(footprints_px(tmp_path / "out", "EPSG:32633", NORTH_UP), hole.shape)
    assert not burnt[hole].any()


def footprints_px(out: Path, crs: str, transform: Affine) -> list[shapely.Geometry]:
    """Features in pixels of the scene."""
    inverse = ~transform
    on_grid = features_of(out).to_crs(crs).geometry
    return [shapely.affinity.affine_transform(g, inverse.to_shapely()) for g in on_grid]


def test_a_scene_smaller_than_a_tile_is_one_tile(models: Models, tmp_path: Path) -> None:
    small = draw_scene(tmp_path / "small.tif", 40, 23)
    outcome = run(spec_of(models, small), tmp_path / "out")
    assert (outcome.status, outcome.manifest["counts"]["total"]) == (RunStatus.SUCCESS, 1)
    assert mask_of(tmp_path / "out", "small", "the-water").shape == (40, 23)
    (x0, y0, x1, y1) = shapely.total_bounds(footprints_px(tmp_path / "out", "EPSG:32633", NORTH_UP))
    assert -1e-4 < x0 < x1 < 23 + 1e-4
    assert -1e-4 < y0 < y1 < 40 + 1e-4


def test_outside_the_area_nobody_looked(models: Models, scene: Path, tmp_path: Path) -> None:
    west, north = NORTH_UP @ (20.3, 10.3)
    east, south = NORTH_UP @ (100.7, 90.7)
    area = tmp_path / "area.wkt"
    area.write_text(f"SRID=32633;{shapely.box(west, south, east, north).wkt}")
    outcome = run(spec_of(models, scene, aoi=str(area)), tmp_path / "out")
    looked = mask_of(tmp_path / "out", "alpha", "the-water") != 255
    inside = np.zeros((120, 150), np.bool_)
    inside[10:91, 20:101] = True  # pixels whose centre lies in the area
    assert (looked == inside).all()
    assert outcome.manifest["aoi"]["href"] == str(area)
    assert run_status(str(tmp_path / "out"))["tile_queries"]["pending"] == 0
    assert run(spec_of(models, scene, aoi=str(area)), tmp_path / "out").computed == 0


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32633", Affine(2.0, 0.0, 500_000.123456, 0.0, -2.0, 4_000_000.654321)),
        ("EPSG:4326", Affine(1e-5, 0.0, 13.4050001, 0.0, -1e-5, 52.5200007)),
        ("EPSG:32633", Affine(1.7, 1.1, 500_000.0, 1.0, -1.6, 4_000_000.0)),
    ],
    ids=["utm", "degrees", "rotated"],
)
def test_masks_and_features_lie_where_the_scene_lies(
    models: Models, tmp_path: Path, crs: str, transform: Affine
) -> None:
    scene, out = draw_scene(tmp_path / "s.tif", crs=crs, transform=transform), tmp_path / "out"
    assert run(spec_of(models, scene), out).status is RunStatus.SUCCESS
    found = open_mosaic(Store.at(str(out)), "s", "the-water").odc.geobox
    assert found.crs == CRS(crs)
    corners = [(0, 0), (150, 0), (0, 120), (150, 120)]
    for corner in corners:
        assert ~transform @ (found.affine @ corner) == pytest.approx(corner, abs=1e-6)
    footprint = shapely.box(0, 0, 150, 120).buffer(1e-3)
    shapes = footprints_px(out, crs, transform)
    assert shapes
    assert all(footprint.contains(shape) for shape in shapes)
    burnt = rasterio.features.rasterize(shapes, (120, 150))
    assert (burnt == (mask_of(out, "s", "the-water") == 1)).mean() > 0.999


def test_a_new_version_of_one_scene_recomputes_only_that_scene(models: Models, scene: Path, out: Path) -> None:
    other = draw_scene(scene.with_name("other.tif"), seed=1)
    run(spec_of(models, scene, other), out)
    before = files(out)
    draw_scene(other, seed=2)
    outcome = run(spec_of(models, scene, other), out)
    assert (outcome.status, outcome.computed) == (RunStatus.SUCCESS, N_TILES)
    after = files(out)
    kept = [name for name in before if "alpha" in name]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    fresh = out.with_name("fresh")
    run(spec_of(models, scene, other), fresh)
    assert (mask_of(out, "other", "the-water") == mask_of(fresh, "other", "the-water")).all()


def test_a_new_threshold_stitches_again_without_the_models(models: Models, scene: Path, out: Path) -> None:
    run(spec_of(models, scene), out)
    low = mask_of(out, "alpha", "the-water").sum()
    outcome = run(spec_of(models, scene, threshold=0.8), out)
    assert (outcome.status, outcome.computed) == (RunStatus.SUCCESS, 0)
    assert 0 < mask_of(out, "alpha", "the-water").sum() < low


def test_a_query_s_own_threshold_goes_before_the_run_s(models: Models, scene: Path, out: Path) -> None:
    strict = Query(query_id="strict", text=WATER, threshold=0.8)
    spec = spec_of(models, scene).model_copy(update={"queries": (strict,)})
    outcome = run(spec, out)
    assert outcome.manifest["queries"][0]["threshold"] == 0.8
    probability = mask_of(out, "alpha", "strict", "probability")
    assert ((mask_of(out, "alpha", "strict") == 1) == (probability / 254 >= 0.8)).all()


def test_fresh_throws_away_what_was_there(models: Models, scene: Path, out: Path) -> None:
    run(spec_of(models, scene, queries=[WATER, ROADS]), out)
    outcome = run(spec_of(models, scene, queries=[WATER]), out, fresh=True)
    assert outcome.computed == N_TILES
    assert set(features_of(out)["query_id"]) == {"the-water"}
    assert len(outcome.manifest["history"]) == 1


def test_levels_are_blended_into_one_mosaic(models: Models, scene: Path, out: Path) -> None:
    outcome = run(spec_of(models, scene, levels=(1, 2)), out)
    assert (outcome.status, outcome.computed) == (RunStatus.SUCCESS, N_TILES + 2)
    mosaic = open_mosaic(Store.at(str(out)), "alpha", "the-water")
    assert {"coverage_l1", "coverage_l2"} <= set(mosaic.data_vars)
    assert not (np.asarray(mosaic["mask"]) == 255).any()
    assert run(spec_of(models, scene, levels=(1, 2)), out).computed == 0


def test_tiles_have_the_ground_sampling_distance_asked_for_in_every_scene(
    models: Models, tmp_path: Path, out: Path
) -> None:
    fine = draw_scene(tmp_path / "fine.tif", transform=Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000))
    coarse = draw_scene(tmp_path / "coarse.tif", transform=Affine(2, 0, 500_000, 0, -2, 4_000_000))
    outcome = run(spec_of(models, fine, coarse, gsd_m=2.0), out)
    assert outcome.status is RunStatus.SUCCESS
    assert {s["scene_id"]: s["levels"] for s in outcome.manifest["scenes"]} == {"fine": [4], "coarse": [1]}
    assert mask_of(out, "fine", "the-water").shape == (120, 150), "the mosaic keeps the scene's own grid"
    assert "coverage_l4" in open_mosaic(Store.at(str(out)), "fine", "the-water")
    assert run(spec_of(models, fine, coarse, gsd_m=2.0), out).computed == 0


def test_bad_scenes_are_refused_together_or_skipped_and_told(models: Models, scene: Path, out: Path) -> None:
    gone, text = scene.with_name("gone.tif"), scene.with_name("text.tif")
    text.write_text("no raster")
    with pytest.raises(BadInput) as refusal:
        run(spec_of(models, scene, gone, text), out)
    assert [p.partition(": ")[0] for p in refusal.value.problems] == [str(gone), str(text)]
    assert not out.exists()
    outcome = run(spec_of(models, scene, gone, text, skip_bad_scenes=True), out)
    assert outcome.status is RunStatus.PARTIAL
    assert [s["href"] for s in outcome.manifest["skipped_scenes"]] == [str(gone), str(text)]
    assert (outcome.manifest["counts"]["ok"], outcome.manifest["counts"]["failed"]) == (N_TILES, 0)


def test_a_worker_that_loads_other_models_than_planned_stops_the_run(
    models: Models, scene: Path, tmp_path: Path
) -> None:
    replies = tmp_path / "replies.jsonl"
    write_replies(replies)
    spec = spec_of(models.model_copy(update={"prompter": f"recorded:{replies}"}), scene)
    prepared = prepare(spec, str(tmp_path / "out"))
    write_replies(replies, [("*", WATER, "[]")])
    with pytest.raises(MachineFault, match="where the run was planned with recorded@"):
        run_region(prepared, InProcess(), Silent(), device="cpu")
    assert not (tmp_path / "out" / "tiles").exists()


def test_changed_replies_are_a_changed_model(models: Models, scene: Path, tmp_path: Path) -> None:
    replies, out = tmp_path / "replies.jsonl", tmp_path / "out"
    own = models.model_copy(update={"prompter": f"recorded:{replies}"})
    write_replies(replies, [("*", WATER, "[]")])
    assert run(spec_of(own, scene), out).manifest["counts"]["no_target"] == N_TILES
    write_replies(replies)
    changed = run(spec_of(own, scene), out)
    assert (changed.computed, changed.manifest["counts"]["ok"]) == (N_TILES, N_TILES)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_scenes_of_other_types_are_stretched_once_and_resumed(
    models: Models, tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiffs import draw_tiff

    pixels = np.random.default_rng(5).gamma(2, 400, (3, 120, 150)).astype(dtype)
    scene, out = draw_tiff(tmp_path / "deep.tif", pixels), tmp_path / "out"
    first = run(spec_of(models, scene), out)
    assert first.manifest["scenes"][0]["stretch"]["kind"] == "linear"
    monkeypatch.setattr("pipeline.prepare.scene_stretch", lambda _: pytest.fail("it is in the manifest"))
    assert run(spec_of(models, scene), out).computed == 0
