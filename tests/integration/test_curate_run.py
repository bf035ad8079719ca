"""Curated tiles from a finished run: corrected features as truth, hard tiles listed."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from curations import TILE_PX, curate, ground, pixels, window_of, write_labels
from fakes import reply_text
from pyproj import Transformer
from regions import BABBLE, NORTH_UP, NOTHING, ROADS, WATER, draw_scene, make_models, mask_of, run, spec_of

from pipeline.features import partition_name
from pipeline.tiling import TileGrid
from t2s_core.errors import BadInput
from t2s_core.prompts import InstancePrompt

CORNERS = {(x, y) for x in (0, 64, 86) for y in (0, 56)}
"""Where chips start in a scene of 120 x 150 px."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with four queries over `alpha.tif`, in `run`."""
    folder = tmp_path_factory.mktemp("finished")
    scene = draw_scene(folder / "alpha.tif")
    run(spec_of(make_models(folder), scene, queries=[WATER, ROADS, NOTHING, BABBLE]), folder / "run")
    return folder


def saved_partitions(folder: Path, path: Path, *query_ids: str) -> Path:
    """What QGIS saves of partitions: their columns, and neither query_id nor scene_id, which live in the path."""
    tables = [gpd.read_parquet(folder / "run" / partition_name("alpha", q), partitioning=None) for q in query_ids]
    frame = gpd.pd.concat(tables).drop(columns="datetime")
    frame.to_file(path)
    return path


def options(folder: Path, features: Path, **changes: Any) -> dict[str, Any]:
    return {"from_run": str(folder / "run"), "features": str(features), "tile_px": None, **changes}


def places(rows: list[dict[str, Any]], query_id: str, *, absent: bool) -> set[tuple[int, int]]:
    return {(r["x0"], r["y0"]) for r in rows if r["query_id"] == query_id and r["absent"] == absent}


@pytest.mark.parametrize("in_place", [False, True], ids=["saved elsewhere", "edited where they are"])
def test_features_that_nobody_changed_give_the_runs_own_masks(folder: Path, tmp_path: Path, in_place: bool) -> None:
    saved = saved_partitions(folder, tmp_path / "features.gpkg", "the-water", "the-roads")
    features = folder / "run" / "features" if in_place else saved
    document, rows = curate(tmp_path / "out", **options(folder, features, absent_rate=99.0))
    assert document["tile_px"] == TILE_PX, "that of the run"
    for query_id in ("the-water", "the-roads"):
        mosaic = mask_of(folder / "run", "alpha", query_id)
        shown = [r for r in rows if r["query_id"] == query_id and not r["absent"]]
        assert shown
        for row in shown:
            np.testing.assert_array_equal(pixels(tmp_path / "out" / row["mask"])[0], mosaic[window_of(row)])
    assert places(rows, "nothing-at-all", absent=True) == CORNERS
    assert not [r for r in rows if r["query"] == BABBLE], "where the model said nothing usable, nobody looked"
    assert {r["label_source"] for r in rows} == {f"corrected:{features.name}"}
    scene_pixels = pixels(folder / "alpha.tif")
    np.testing.assert_array_equal(pixels(tmp_path / "out" / rows[0]["image"]), scene_pixels[:, *window_of(rows[0])])


def test_what_a_person_draws_is_the_truth(folder: Path, tmp_path: Path) -> None:
    drawn = [
        {"query": "The Water", "scene_id": None, "geometry": ground(10, 12, 50, 40)},
        {"query": ROADS, "scene_id": "alpha", "geometry": ground(100, 70, 120, 90)},
        {"query": NOTHING, "scene_id": "alpha", "geometry": ground(0, 100, 30, 110)},
    ]
    features = write_labels(tmp_path / "edit.geojson", drawn, to="EPSG:4326")
    _, rows = curate(tmp_path / "out", **options(folder, features, absent_rate=99.0))
    assert places(rows, "the-water", absent=False) == {(0, 0)}
    assert places(rows, "the-water", absent=True) == CORNERS - {(0, 0)}
    assert places(rows, "nothing-at-all", absent=False) == {(0, 56)}
    (water,) = (r for r in rows if r["query_id"] == "the-water" and not r["absent"])
    mask = np.zeros((TILE_PX, TILE_PX), np.uint8)
    mask[12:40, 10:50] = 1
    np.testing.assert_array_equal(pixels(tmp_path / "out" / water["mask"])[0], mask)


def test_half_a_file_does_not_teach_that_nothing_is_there(folder: Path, tmp_path: Path) -> None:
    features = saved_partitions(folder, tmp_path / "edit.gpkg", "the-roads")
    with pytest.raises(BadInput, match=r"found \d+ features of the-water in alpha .*--reviewed alpha/the-water"):
        curate(tmp_path / "out", **options(folder, features))
    assert not (tmp_path / "out").exists()
    _, rows = curate(tmp_path / "roads", **options(folder, features, reviewed=("the-roads",), absent_rate=99.0))
    assert {r["query_id"] for r in rows} == {"the-roads"}
    reviewed = ("the-roads", "alpha/the-water")
    _, rows = curate(tmp_path / "both", **options(folder, features, reviewed=reviewed, absent_rate=99.0))
    assert places(rows, "the-water", absent=True) == CORNERS


def test_corrections_that_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    box = ground(10, 12, 50, 40)
    rows = [
        {"query": "the moon", "scene_id": None, "geometry": box},
        {"query": None, "scene_id": None, "geometry": box},
        {"query": WATER, "scene_id": "beta", "geometry": box},
    ]
    features = write_labels(tmp_path / "edit.gpkg", rows)
    with pytest.raises(BadInput) as caught:
        curate(tmp_path / "out", **options(folder, features, reviewed=("the-sun",)))
    text = str(caught.value)
    for part in ("query 'the moon'", "row 2: an outline without a query", "scene_id 'beta'", "--reviewed the-sun"):
        assert part in text
    nameless = write_labels(tmp_path / "nameless.gpkg", [{"geometry": box}])
    with pytest.raises(BadInput, match="neither a column query nor query_id"):
        curate(tmp_path / "out", **options(folder, nameless))
    with pytest.raises(BadInput, match=r"no run\.json"):
        curate(tmp_path / "out", **{**options(folder, features), "from_run": str(tmp_path)})


def test_labels_and_corrections_of_the_same_scene_come_together(folder: Path, tmp_path: Path) -> None:
    features = saved_partitions(folder, tmp_path / "edit.gpkg", "the-water", "the-roads")
    labels = write_labels(tmp_path / "l.gpkg", [{"geometry": ground(0, 0, 150, 120)}])
    document, rows = curate(
        tmp_path / "out",
        **options(folder, features, scenes=(str(folder / "alpha.tif"),), labels=(str(labels),), query="the ground"),
    )
    assert places(rows, "the-ground", absent=False) == CORNERS
    assert places(rows, "the-water", absent=False)
    assert len({r["image"] for r in rows}) == document["counts"]["chips"] <= len(CORNERS)
    assert [Path(s["href"]).name for s in document["sources"]] == ["alpha.tif", "l.gpkg", "edit.gpkg"]


def test_a_scene_that_changed_since_the_run_is_refused(tmp_path: Path) -> None:
    scene = draw_scene(tmp_path / "alpha.tif")
    run(spec_of(make_models(tmp_path), scene), tmp_path / "run")
    draw_scene(tmp_path / "alpha.tif", seed=5)
    features = write_labels(tmp_path / "edit.gpkg", [{"query": WATER, "geometry": ground(10, 12, 50, 40)}])
    with pytest.raises(BadInput, match="has changed since the run"):
        curate(tmp_path / "out", **options(tmp_path, features))


def test_doubtful_tiles_are_listed_and_nothing_is_claimed_of_them(tmp_path: Path) -> None:
    scene = draw_scene(tmp_path / "alpha.tif")
    here = reply_text([InstancePrompt((4, 4, 62, 62), ((20, 20), (50, 50)))])
    replies = [("alpha/1/0/0", WATER, here), ("*", WATER, reply_text([])), ("*", NOTHING, reply_text([])),
               ("*", BABBLE, "I would rather talk about the weather.")]  # fmt: skip
    models = make_models(tmp_path, replies)
    run(spec_of(models, scene, queries=[WATER, NOTHING, BABBLE], max_unparsable=1.0), tmp_path / "run")
    document, rows = curate(tmp_path / "out", hard_from=str(tmp_path / "run"))
    assert rows == []
    hard = gpd.read_parquet(tmp_path / "out" / "hard.parquet")
    babble = hard[hard["query"] == BABBLE]
    assert len(babble) == 9
    assert set(babble["status"]) == {"unparsable"}
    assert babble["reason"].str.len().min() > 0
    assert babble["disagreement"].isna().all()
    water = hard[hard["query"] == WATER]
    assert "alpha/1/0/0" in set(water["tile"])
    assert set(water["tile"]) <= {f"alpha/1/{row}/{col}" for row in (0, 1) for col in (0, 1)}
    assert len(water) > 1, "who contradicts is contradicted"
    assert set(water["disagreement"]) == {1.0}
    assert not (hard["query"] == NOTHING).any()
    assert document["counts"]["hard"]["unparsable"] == 9
    grid = TileGrid(150, 120, TILE_PX, TILE_PX // 4)
    to_utm = Transformer.from_crs(hard.crs, "EPSG:32633", always_xy=True)
    for tile, geometry in zip(hard["tile"], hard.geometry, strict=True):
        expected = ground(*grid.window(*map(int, tile.split("/")[2:])), transform=NORTH_UP)
        placed = shapely.transform(geometry, lambda xy: np.column_stack(to_utm.transform(*xy.T)))
        assert placed.symmetric_difference(expected).area < 1.0
