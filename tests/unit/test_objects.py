"""Objects across scenes: one row for what several scenes saw, in whatever CRS they are."""

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from pipeline import objects, runs
from pipeline.features import Provenance, read_features, vectorise_scene_query
from pipeline.geodesy import CRS84, areas_m2
from pipeline.latest import latest, write_latest
from pipeline.manifest import SCHEMA_VERSION, write_manifest
from pipeline.mosaics import Layout
from pipeline.objects import partition_name, write_objects
from pipeline.queries import FeatureRules, Mode, Query
from pipeline.results import MaskRecord, TileResult, TileStatus, read_index, write_batch
from pipeline.runs import FinishedRun
from pipeline.scenes import NodataRule, Scene
from pipeline.stitching import planned_tiles, stitch_scene_query
from pipeline.storage import Store
from pipeline.tiling import TileGrid, TileKey
from pipeline.work import InProcess
from t2s_core.errors import BadInput
from t2s_core.masks import quantise

QUERY = Query(query_id="roofs", text="the roofs", label="roof")
SIDE = 120


def scene_of(scene_id: str, x: float, y: float, epsg: int = 32633, when: str | None = None, px_m: float = 10) -> Scene:
    geobox = GeoBox((SIDE, SIDE), Affine(px_m, 0, x, 0, -px_m, y), CRS(f"EPSG:{epsg}"))
    return Scene(scene_id, "/none.tif", "etag", geobox, (1, 2, 3), "uint8", NodataRule("none"), when, warped=False)


def burn(scene: Scene, shape_utm33: shapely.Geometry) -> NDArray[np.bool_]:
    """Pixels whose centre lies in a shape."""
    cols, rows = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    x, y = scene.geobox.affine @ (cols, rows) if hasattr(Affine, "__matmul__") else scene.geobox.affine * (cols, rows)
    lon_lat = Transformer.from_crs(scene.geobox.crs.proj, "EPSG:32633", always_xy=True).transform(x, y)
    return shapely.contains_xy(shape_utm33, *lon_lat)


def make(
    store: Store, scene: Scene, shapes_utm33: list[shapely.Geometry], mode: Mode = "semantic", *, blind: int = 0
) -> None:
    """A finished scene of one tile that sees each shape as one instance; `blind` columns on its left have no data."""
    grids = {1: TileGrid(SIDE, SIDE, SIDE, 0)}
    valid = np.ones((SIDE, SIDE), np.bool_)
    valid[:, :blind] = False
    drawn = [np.where(burn(scene, shape), np.float32(8), np.float32(-8)) for shape in shapes_utm33]
    result = TileResult(
        key=f"k-{scene.scene_id}", tile=TileKey(scene.scene_id, 1, 0, 0), window_scene_px=grids[1].window(0, 0),
        query_id=QUERY.query_id, query=QUERY.text, status=TileStatus.OK, reason="", reply="", reasoning=scene.scene_id,
        n_tokens=1, prompts=(), masks=tuple(MaskRecord(quantise(d), 0.9) for d in drawn if (d > 0).any()), valid=valid,
        prompter="p@1", segmenter="s@1", run_id="r",
    )  # fmt: skip
    name = f"tiles/{scene.scene_id}/1/a.parquet"
    write_batch(store, name, [result])
    common = {"index": read_index(store, [name])[0], "grids": grids, "workers": InProcess(), "fingerprint": "f"}
    stitch_scene_query(
        store, scene, QUERY, threshold=0.5, planned=planned_tiles(grids, [result.tile]), layout=Layout(32, None, 64),
        **common,
    )  # fmt: skip
    vectorise_scene_query(
        store, scene, QUERY, provenance=Provenance("p@1", "s@1", "r"), rules=FeatureRules(mode), **common
    )


def read(store: Store) -> gpd.GeoDataFrame:
    return gpd.read_parquet(store.path(partition_name(QUERY.query_id)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path))


ALONE_WEST = shapely.box(500_100, 4_999_500, 500_200, 4_999_600)
ACROSS = shapely.box(500_500, 4_999_300, 501_500, 4_999_400)
BOTH_SEE = shapely.box(500_900, 4_999_600, 501_000, 4_999_700)
TOUCHING = shapely.box(501_000, 4_999_600, 501_100, 4_999_700)
ALL = [ALONE_WEST, ACROSS, BOTH_SEE, TOUCHING]


@pytest.mark.parametrize("epsg", [32633, 32632])
def test_what_two_scenes_see_is_one_row(store: Store, epsg: int) -> None:
    """West sees x 500,000 to 501,200; east, in its own zone, about 500,800 to 502,000."""
    west = scene_of("west", 500_000, 5_000_000)
    x, y = Transformer.from_crs(32633, epsg, always_xy=True).transform(500_800, 5_000_000)
    east = scene_of("east", x, y, epsg)
    for scene in (west, east):
        make(store, scene, ALL, "instance")
    assert write_objects(store, [west, east], QUERY, "instance") == 4
    frame = read(store)
    assert frame.crs == "OGC:CRS84"
    assert sorted(frame["n_scenes"]) == [1, 2, 2, 2]
    assert [list(ids) for ids in frame["scene_ids"]].count(["east", "west"]) == 3
    local = frame.to_crs(32633).geometry
    for shape in ALL:
        overlap = [found.intersection(shape).area / found.union(shape).area for found in local]
        assert max(overlap) > 0.8
    np.testing.assert_allclose(frame["area_m2"], areas_m2(frame.geometry.to_numpy(), CRS84))
    assert frame.geometry.is_valid.all()
    features = set(read_features(store)["feature_id"])
    named = [name for ids in frame["feature_ids"] for name in ids]
    assert set(named) == features
    assert len(named) == len(features)
    assert frame["object_id"].str.fullmatch("[0-9a-f]{16}").all()
    assert frame["object_id"].is_unique


def test_semantic_objects_are_what_hangs_together(store: Store) -> None:
    """Where one scene sees two regions and the other one, there is one; a sliver joins nothing."""
    one, other = scene_of("one", 500_000, 5_000_000), scene_of("other", 500_000, 5_000_000)
    blob, halves = shapely.box(500_200, 4_999_500, 500_600, 4_999_600), [
        shapely.box(500_200, 4_999_500, 500_380, 4_999_600), shapely.box(500_420, 4_999_500, 500_600, 4_999_600)
    ]  # fmt: skip
    near = shapely.box(500_590, 4_999_500, 500_900, 4_999_590)
    make(store, one, [blob])
    make(store, other, [*halves, near.difference(halves[1].buffer(1))])
    make(store, scene_of("third", 500_000, 5_000_000), [near])
    scenes = [one, other, scene_of("third", 500_000, 5_000_000)]
    write_objects(store, scenes, QUERY, "semantic")
    assert sorted(read(store)["n_scenes"]) == [2, 2]


def test_what_a_scene_did_not_look_at_is_no_disagreement(store: Store) -> None:
    """East has no data on its left: of the long roof it sees a part, and agrees on all that it could see."""
    west, east = scene_of("west", 500_000, 5_000_000), scene_of("east", 500_400, 5_000_000)
    make(store, west, [ACROSS], "instance")
    make(store, east, [ACROSS], "instance", blind=60)
    assert write_objects(store, [west, east], QUERY, "instance") == 1


def test_it_is_made_once_and_anew_when_features_change(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    west, east = scene_of("west", 500_000, 5_000_000), scene_of("east", 500_800, 5_000_000)
    for scene in (west, east):
        make(store, scene, ALL)
    n = write_objects(store, [west, east], QUERY, "semantic")
    before = Path(store.path(partition_name("roofs"))).stat().st_mtime_ns
    assert write_objects(store, [west, east], QUERY, "semantic") == n
    assert Path(store.path(partition_name("roofs"))).stat().st_mtime_ns == before
    whole = read(store).sort_values("object_id").reset_index(drop=True)
    monkeypatch.setattr(objects, "_PAIRS_AT_ONCE", 1)
    monkeypatch.setattr(objects, "ROWS_PER_GROUP", 1)
    assert write_objects(store, [west, east], QUERY, "instance") >= n
    write_objects(store, [west, east], QUERY, "semantic")
    assert read(store).sort_values("object_id").reset_index(drop=True).equals(whole)


def test_no_feature_at_all(store: Store) -> None:
    scene = scene_of("west", 500_000, 5_000_000)
    make(store, scene, [])
    assert write_objects(store, [scene], QUERY, "semantic") == 0
    assert len(read(store)) == 0


def commit(store: Store, scenes: list[Scene], started: str) -> None:
    write_manifest(
        store,
        {
            "schema_version": SCHEMA_VERSION, "started": started, "history": [{"started": started}],
            "scenes": [scene.to_json() for scene in scenes],
            "queries": [{"query_id": QUERY.query_id, "query": QUERY.text}],
        },
    )  # fmt: skip


def test_the_newest_row_per_place(tmp_path: Path) -> None:
    """March saw two roofs; in May one is gone and one was not looked at again; the second run of May corrects it."""
    march, may, again = (Store.at(str(tmp_path / name)) for name in ("march", "may", "may-again"))
    old = scene_of("old", 500_000, 5_000_000, when="2026-03-01T00:00:00Z")
    new = scene_of("new", 500_800, 5_000_000, when="2026-05-01T00:00:00Z")
    make(march, old, [ALONE_WEST, BOTH_SEE])
    make(may, new, [ACROSS])
    commit(march, [old], "2026-06-01T00:00:00+00:00")  # asked later, of an older scene
    commit(may, [new], "2026-05-02T00:00:00+00:00")
    rows = [row for table in latest([str(tmp_path)]) for row in table.to_pylist()]
    assert sorted((row["scene_id"], row["run_href"].rpartition("/")[2]) for row in rows) == [
        ("new", "may"), ("old", "march")
    ]  # fmt: skip
    make(again, new, [BOTH_SEE])
    commit(again, [new], "2026-05-03T00:00:00+00:00")
    rows = [row for table in latest([str(tmp_path)]) for row in table.to_pylist()]
    assert {row["run_href"].rpartition("/")[2] for row in rows} == {"march", "may-again"}
    assert len(rows) == 2


def test_the_newest_rows_of_two_bodies_make_no_table(tmp_path: Path) -> None:
    earth, moon = (Store.at(str(tmp_path / name)) for name in ("earth", "moon"))
    crs = CRS("IAU_2015:30110")
    on_moon = replace(scene_of("crater", 0, 0), geobox=GeoBox((SIDE, SIDE), Affine(10, 0, 0, 0, -10, 0), crs))
    field = scene_of("field", 500_000, 5_000_000)
    for store, scene in ((earth, field), (moon, on_moon)):
        make(store, scene, [] if scene is on_moon else [ALONE_WEST])
        commit(store, [scene], "2026-05-01T00:00:00+00:00")
    for look in (lambda: list(latest([str(tmp_path)])), lambda: write_latest([str(tmp_path)], str(tmp_path / "x"))):
        with pytest.raises(BadInput, match=r"2 celestial bodies or figures of one: .*; name those of one") as refused:
            look()
        (said,) = refused.value.problems
        assert f"({earth.url})" in said
        assert f"({moon.url})" in said
    assert not (tmp_path / "x").exists()
    assert write_latest([str(tmp_path / "earth")], str(tmp_path / "x")) == 1


def test_a_run_says_what_is_newest_without_reading_all_of_it_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_of("west", 500_000, 5_000_000)
    make(store, scene, [ALONE_WEST])
    commit(store, [scene], "2026-05-01T00:00:00+00:00")
    run = FinishedRun(store, {}, [scene], [QUERY])
    crs = run.features().crs
    monkeypatch.setattr(runs, "read_features", None)
    frame = run.latest()
    assert frame.crs == crs
    assert len(frame) == 1
