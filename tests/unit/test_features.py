"""Features as independent readers see them: geopandas, pyarrow datasets, DuckDB, a validator."""

import io
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import duckdb
import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import rasterio.features
import shapely
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from pipeline.features import (
    SCHEMA,
    Provenance,
    VectoriseReceipt,
    partition_name,
    read_features,
    vectorise_scene_query,
)
from pipeline.mosaics import Layout, open_mosaic
from pipeline.queries import EXACT, FeatureRules, Query
from pipeline.results import MaskRecord, TileResult, TileStatus, read_index, write_batch
from pipeline.scenes import NodataRule, Scene
from pipeline.stitching import planned_tiles, stitch_scene_query
from pipeline.storage import Store
from pipeline.tiling import TileGrid, TileKey
from pipeline.work import InProcess
from t2s_core.errors import BadInput
from t2s_core.masks import quantise

WATER = Query(query_id="water", text="where is 'water' & <mud>?", label="water")
NOTHING = Query(query_id="nothing", text="where is nothing?")
BY = Provenance("p@1", "s@1", "run-1")
SHAPE = (90, 120)
ZONE_33 = Affine(10, 0, 600_000, 0, -10, 5_000_000)


def scene_of(scene_id: str, crs: str = "EPSG:32633", transform: Affine = ZONE_33, when: str | None = None) -> Scene:
    geobox = GeoBox(SHAPE, transform, CRS(crs))
    return Scene(scene_id, "/none.tif", "etag", geobox, (1, 2, 3), "uint8", NodataRule("none"), when, warped=False)


def answer(scene: Scene, query: Query, grid: TileGrid, row: int, col: int) -> TileResult:
    rng = np.random.default_rng((row, col))
    valid = np.ones((grid.side, grid.side), np.bool_)
    if row == 0:
        valid[:10] = False
    status = TileStatus.NO_TARGET if query is NOTHING else TileStatus.OK
    blobs = [rng.normal(-1, 4, (8, 8)).astype(np.float32)] if status is TileStatus.OK else []
    return TileResult(
        key=f"{query.query_id}-{row}-{col}",
        tile=TileKey(scene.scene_id, 1, row, col),
        window_scene_px=grid.window(row, col),
        query_id=query.query_id,
        query=query.text,
        status=status,
        reason="",
        reply="",
        reasoning=f"<b>tile</b> {row},{col}",
        n_tokens=3,
        prompts=(),
        masks=tuple(MaskRecord(quantise(b), 0.8) for b in blobs),
        valid=valid,
        prompter="p@1",
        segmenter="s@1",
        run_id="run-1",
    )


def make(
    store: Store,
    scene: Scene,
    query: Query = WATER,
    *,
    block_px: int = 64,
    fingerprint: str = "f",
    rules: FeatureRules = EXACT,
) -> VectoriseReceipt:
    """Stitch and vectorise with invented tiles."""
    grids = {1: TileGrid(SHAPE[1], SHAPE[0], 48, 16)}
    results = [answer(scene, query, grids[1], r, c) for r in range(grids[1].rows) for c in range(grids[1].cols)]
    name = f"tiles/{scene.scene_id}/1/{query.query_id}.parquet"
    write_batch(store, name, results)
    index = read_index(store, [name])[0]
    stitch_scene_query(
        store,
        scene,
        query,
        threshold=0.5,
        index=index,
        grids=grids,
        workers=InProcess(),
        planned=planned_tiles(grids, [r.tile for r in results]),
        fingerprint=f"{fingerprint}-{block_px}",
        layout=Layout(chunk_px=32, block_px=block_px),
    )
    return vectorise_scene_query(
        store,
        scene,
        query,
        index=index,
        grids=grids,
        workers=InProcess(),
        provenance=BY,
        fingerprint=fingerprint,
        rules=rules,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two scenes in two UTM zones, one of them rotated; two queries, one of which finds nothing."""
    store = Store.at(str(tmp_path_factory.mktemp("run")))
    for scene in (
        scene_of("alpha", when="2024-05-06T07:08:09Z"),
        scene_of("beta", "EPSG:32634", Affine(10, 0, 300_000, 0, -10, 5_000_000) @ Affine.rotation(20)),
    ):
        make(store, scene)
        make(store, scene, NOTHING)
    return store


def test_one_file_per_partition_and_an_empty_one_where_nothing_is(run: Store) -> None:
    assert run.names("features") == sorted(
        partition_name(s, q) for s in ("alpha", "beta") for q in ("nothing", "water")
    )
    empty = pq.read_table(io.BytesIO(run.read(partition_name("alpha", "nothing"))))
    assert empty.num_rows == 0
    for name in run.names("features"):
        schema = pq.read_schema(io.BytesIO(run.read(name)))
        assert schema.remove_metadata() == SCHEMA
        assert schema.metadata[b"t2s:schema_version"] == b"1"
        assert "query_id" not in schema.names


def test_columns_say_what_they_should(run: Store) -> None:
    frame = read_features(run)
    assert set(frame["scene_id"]) == {"alpha", "beta"}
    assert set(frame["query_id"]) == {"water"}
    assert set(frame["query"]) == {WATER.text}
    assert set(frame["label"]) == {"water"}
    assert frame["feature_id"].str.fullmatch("[0-9a-f]{16}").all()
    assert frame["feature_id"].is_unique
    assert frame["score"].between(0.5 - 1 / 508, 1).all()
    assert (frame["n_tiles"] >= 1).all()
    assert frame["reasoning"].str.startswith("<b>tile</b> ").all()
    assert (frame["area_m2"] > 99).all()
    assert frame.loc[frame["scene_id"] == "alpha", "datetime"].astype(str).unique().tolist() == [
        "2024-05-06 07:08:09+00:00"
    ]
    assert frame.loc[frame["scene_id"] == "beta", "datetime"].isna().all()
    assert frame["touches_scene_edge"].any()
    assert not frame["touches_scene_edge"].all()


def test_geometry_is_valid_and_its_bbox_true(run: Store) -> None:
    frame = read_features(run)
    assert frame.crs == "OGC:CRS84"
    assert frame.geometry.is_valid.all()
    assert not frame.geometry.is_empty.any()
    assert set(frame.geometry.geom_type) <= {"Polygon", "MultiPolygon"}
    for name in run.names("features"):
        table = pq.read_table(io.BytesIO(run.read(name)))
        stated = [list(box.values()) for box in table["bbox"].to_pylist()]
        true = [shapely.from_wkb(wkb).bounds for wkb in table["geometry"].to_pylist()]
        np.testing.assert_array_equal(stated, true)


@pytest.mark.parametrize("scene_id", ["alpha", "beta"])
def test_polygons_are_exactly_the_mask(run: Store, scene_id: str) -> None:
    """Burned back into the scene's grid, rotated or not, they give the mask again; nothing lies where no data is."""
    mosaic = open_mosaic(run, scene_id, "water")
    transform = Affine(*mosaic.attrs["spatial:transform"])
    frame = read_features(run)
    shapes = frame[frame["scene_id"] == scene_id].to_crs(mosaic.attrs["proj:code"]).geometry
    burned = rasterio.features.rasterize(shapes, out_shape=SHAPE, transform=transform)
    np.testing.assert_array_equal(burned == 1, mosaic["mask"].values == 1)
    assert (burned[:10] == 0).all()
    assert (mosaic["mask"].values[:10] == 255).all()


def test_readers_agree(run: Store) -> None:
    frame = read_features(run)
    folder = run.path("features")
    table = ds.dataset(folder, partitioning="hive").to_table(filter=pc.field("scene_id") == "alpha")
    assert table.num_rows == (frame["scene_id"] == "alpha").sum()
    assert set(table["query_id"].to_pylist()) == {"water"}

    west, south, east, north = frame.geometry.iloc[0].bounds
    nearby = gpd.read_parquet(folder, bbox=(west, south, east, north))
    boxes = shapely.box(*frame.geometry.bounds.to_numpy().T)
    assert set(nearby["feature_id"]) == set(frame["feature_id"][shapely.intersects(boxes, boxes[0])])

    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    connection.execute(
        "SET extension_directory = ?", [str(Path(find_spec("duckdb_ext").submodule_search_locations[0], "extensions"))]
    )
    connection.execute("LOAD spatial")
    rows = connection.execute(
        "SELECT scene_id, count(*), sum(ST_Area(geometry)) FROM read_parquet(?, hive_partitioning=true) GROUP BY ALL",
        [f"{folder}/*/*/*.parquet"],
    ).fetchall()
    assert {row[0] for row in rows} == {"alpha", "beta"}
    for scene_id, n, area in rows:
        mine = frame[frame["scene_id"] == scene_id]
        assert n == len(mine)
        assert area == pytest.approx(shapely.area(mine.geometry.to_numpy()).sum())


def test_an_independent_validator_finds_nothing(run: Store) -> None:
    for name in run.names("features"):
        done = subprocess.run(
            [str(Path(sys.executable).with_name("geoparquet-validator")), "check", run.path(name)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_rows_lie_along_a_curve(run: Store) -> None:
    """Neighbours in the file are nearer to each other than rows in any order are."""
    frame = read_features(run)
    places = np.array([(p.x, p.y) for p in frame[frame["scene_id"] == "alpha"].geometry.representative_point()])
    step = np.linalg.norm(np.diff(places, axis=0), axis=1).mean()
    shuffled = np.random.default_rng(0).permutation(places)
    assert step < 0.6 * np.linalg.norm(np.diff(shuffled, axis=0), axis=1).mean()


def test_the_outcome_depends_neither_on_blocks_nor_on_the_day(tmp_path: Path) -> None:
    tables = []
    for block_px in (32, 64, 128):
        store = Store.at(str(tmp_path / str(block_px)))
        make(store, scene_of("alpha"), block_px=block_px)
        tables.append(pq.read_table(io.BytesIO(store.read(partition_name("alpha", "water")))))
    assert tables[0].num_rows > 5
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def test_a_finished_partition_is_recognised(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    first = make(store, scene_of("alpha"))
    again = make(store, scene_of("alpha"))
    changed = make(store, scene_of("alpha"), fingerprint="g", rules=FeatureRules(min_area_m2=5000))
    assert (first.reused, again.reused, changed.reused) == (False, True, False)
    assert (again.n_features, again.area_m2) == (first.n_features, first.area_m2)
    assert changed.n_features < first.n_features
    assert (read_features(store)["area_m2"] >= 5000).all()


def test_a_missing_mosaic_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="stitch it first"):
        vectorise_scene_query(
            Store.at(str(tmp_path)),
            scene_of("alpha"),
            WATER,
            index=pa.table({}),
            grids={},
            workers=InProcess(),
            provenance=BY,
            fingerprint="f",
        )


def test_no_features_at_all(tmp_path: Path) -> None:
    frame = read_features(Store.at(str(tmp_path)))
    assert len(frame) == 0
    assert {"scene_id", "query_id", "geometry"} <= set(frame.columns)


def test_on_other_filesystems() -> None:
    store = Store.at("memory://features-test")
    receipt = make(store, scene_of("alpha"))
    assert len(read_features(store)) == receipt.n_features > 0
