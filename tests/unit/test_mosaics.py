"""Mosaics as independent readers see them, and the proof that no chunk has two writers."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import odc.geo.xr  # noqa: F401 -- registers `.odc`
import pyarrow as pa
import pytest
import rasterio.crs
import xarray as xr
import zarr
import zarr_cm
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from pipeline.blocks import blocks, check_single_writer
from pipeline.mosaics import COVERAGE, Layout, create, open_mosaic
from pipeline.overviews import halve_by_maximum, halve_by_mean
from pipeline.queries import Query
from pipeline.results import MaskRecord, TileResult, TileStatus, read_index, write_batch
from pipeline.scenes import NodataRule, Scene
from pipeline.stitch import stitch_window
from pipeline.stitching import StitchReceipt, planned_tiles, stitch_scene_query
from pipeline.storage import Store
from pipeline.tiling import TileGrid, TileKey, Window
from pipeline.work import InProcess
from t2s_core.errors import BadInput, ContractError
from t2s_core.masks import quantise

QUERY = Query(query_id="water", text="where is water?")
UPRIGHT = Affine(10.0, 0.0, 300_000.123, 0.0, -10.0, 5_000_000.456)
LAYOUT = Layout(chunk_px=32, block_px=64)


def scene_of(height: int, width: int, transform: Affine = UPRIGHT, crs: str = "EPSG:32633") -> Scene:
    geobox = GeoBox((height, width), transform, CRS(crs))
    return Scene("alpha", "/none.tif", "etag", geobox, (1, 2, 3), "uint8", NodataRule("none"), None, warped=False)


def answer(grid: TileGrid, row: int, col: int, status: TileStatus = TileStatus.OK, seed: int = 0) -> TileResult:
    rng = np.random.default_rng((seed, grid.level, row, col))
    logits = [rng.normal(0, 3, (12, 12)).astype(np.float32)] if status is TileStatus.OK else []
    return TileResult(
        key=f"key-{grid.level}-{row}-{col}",
        tile=TileKey("alpha", grid.level, row, col),
        window_scene_px=grid.window(row, col),
        query_id="water",
        query=QUERY.text,
        status=status,
        reason="",
        reply="",
        reasoning=f"in {grid.level}/{row}/{col}",
        n_tokens=1,
        prompts=(),
        masks=tuple(MaskRecord(quantise(x), 0.8) for x in logits),
        valid=None,
        prompter="p@1",
        segmenter="s@1",
        run_id="run",
    )


def commit_tiles(store: Store, results: list[TileResult]) -> pa.Table:
    """Three rows per batch; the index of all of them."""
    names = []
    for start in range(0, len(results), 3):
        names.append(f"tiles/alpha/1/{start}.parquet")
        write_batch(store, names[-1], results[start : start + 3])
    return read_index(store, names)[0]


def all_answers(grids: dict[int, TileGrid]) -> list[TileResult]:
    return [answer(g, r, c) for g in grids.values() for r in range(g.rows) for c in range(g.cols)]


def stitch(
    store: Store, scene: Scene, results: list[TileResult], grids: dict[int, TileGrid], **changes: object
) -> StitchReceipt:
    arguments = {
        "threshold": 0.5,
        "index": commit_tiles(store, results),
        "grids": grids,
        "workers": InProcess(),
        "planned": planned_tiles(grids, [r.tile for r in results]),
        "fingerprint": "f1",
        "layout": LAYOUT,
        **changes,
    }
    return stitch_scene_query(store, scene, QUERY, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.at(str(tmp_path_factory.mktemp("out")))


@given(
    shape=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    chunk_px=st.sampled_from([64, 128, 512]),
    n=st.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_blocks_cover_every_pixel_once_and_never_share_a_chunk(shape: tuple[int, int], chunk_px: int, n: int) -> None:
    windows = list(blocks(shape, chunk_px, n * chunk_px))
    check_single_writer(windows, chunk_px)
    assert sum(w.width * w.height for w in windows) == shape[0] * shape[1]
    assert all(0 <= w.x0 < w.x1 <= shape[1] and 0 <= w.y0 < w.y1 <= shape[0] for w in windows)


def test_two_writers_in_a_chunk_are_refused_before_the_first_write(store: Store) -> None:
    with pytest.raises(ContractError, match="two writers"):
        check_single_writer([Window(0, 0, 100, 64), Window(100, 0, 200, 64)], 64)
    with pytest.raises(ContractError, match="no multiple"):
        stitch(store, scene_of(50, 50), [], {}, layout=Layout(chunk_px=32, block_px=48))
    assert not store.exists("masks.zarr")


@pytest.mark.parametrize("layout", [LAYOUT, Layout(chunk_px=16, shard_px=32, block_px=64)])
def test_the_mosaic_holds_what_stitching_gives(store: Store, layout: Layout) -> None:
    scene = scene_of(131, 170)
    grids = {1: TileGrid(170, 131, 48, 12), 4: TileGrid(170, 131, 32, 8, 4)}
    results = all_answers(grids)
    receipt = stitch(store, scene, results, grids, layout=layout)
    expected = stitch_window(Window(0, 0, 170, 131), results, grids).probability
    mosaic = open_mosaic(store, "alpha", "water")
    np.testing.assert_array_equal(mosaic["probability"], expected)
    np.testing.assert_array_equal(mosaic["mask"], expected >= 127)
    assert mosaic["mask"].dtype == np.uint8
    assert mosaic["mask"].chunks is not None
    assert receipt.target_px == (expected >= 127).sum()
    assert receipt.unseen_px == 0


def test_seen_background_and_unseen_are_three_things(store: Store) -> None:
    scene, grids = scene_of(40, 120), {1: TileGrid(120, 40, 40, 0)}
    statuses = [TileStatus.OK, TileStatus.NO_TARGET, TileStatus.FAILED]
    results = [answer(grids[1], 0, c, status) for c, status in enumerate(statuses)]
    stitch(store, scene, results, grids)
    mosaic = open_mosaic(store, "alpha", "water")
    assert set(np.unique(mosaic["mask"].values[:, :40])) == {0, 1}
    assert (mosaic["mask"].values[:, 40:80] == 0).all()
    assert (mosaic["probability"].values[:, 80:] == 255).all()
    assert (mosaic["mask"].values[:, 80:] == 255).all()
    meanings = mosaic["coverage_l1"].attrs["flag_meanings"].split()
    assert [meanings[c] for c in mosaic["coverage_l1"].values[0]] == ["ok", "no_target", "failed"]


def test_tiles_that_saw_nothing_in_all_of_their_windows_are_not_read_again(store: Store) -> None:
    scene, grids = scene_of(40, 120), {1: TileGrid(120, 40, 40, 0)}
    found, nothing = answer(grids[1], 0, 0), answer(grids[1], 0, 1, TileStatus.NO_TARGET)
    partly = replace(answer(grids[1], 0, 2, TileStatus.NO_TARGET), valid=np.arange(1600).reshape(40, 40) < 800)
    results = [found, nothing, partly]
    names = [f"tiles/alpha/1/{k}.parquet" for k in "abc"]
    for name, result in zip(names, results, strict=True):
        write_batch(store, name, [result])
    index = read_index(store, names)[0]
    store.remove(names[1])
    stitch(store, scene, results, grids, index=index)
    expected = stitch_window(Window(0, 0, 120, 40), results, grids).probability
    np.testing.assert_array_equal(open_mosaic(store, "alpha", "water")["probability"], expected)
    assert (expected[:, 40:80] == 0).all()
    assert (expected[20:, 80:] == 255).all()


def test_coverage_knows_pending_and_not_planned(store: Store) -> None:
    scene, grids = scene_of(40, 120), {1: TileGrid(120, 40, 40, 0)}
    planned = planned_tiles(grids, [TileKey("alpha", 1, 0, 0), TileKey("alpha", 1, 0, 1)])
    stitch(store, scene, [answer(grids[1], 0, 0)], grids, planned=planned)
    codes = open_mosaic(store, "alpha", "water")["coverage_l1"].values
    assert [COVERAGE[c] for c in codes[0]] == ["ok", "pending", "not_planned"]


def test_a_scene_without_any_data_has_its_group_too(store: Store) -> None:
    receipt = stitch(store, scene_of(40, 40), [], {1: TileGrid(40, 40, 40, 0)})
    assert receipt.unseen_px == 1600
    assert (open_mosaic(store, "alpha", "water")["mask"].values == 255).all()


CASES = {
    "utm": ("EPSG:32633", UPRIGHT),
    "rotated": ("EPSG:32633", UPRIGHT @ Affine.rotation(17)),
    "sheared": ("EPSG:32633", UPRIGHT @ Affine.shear(11, 0)),
    "south up": ("EPSG:32719", Affine(0.3, 0, 5e5, 0, 0.3, 7e6)),
    "degrees": ("EPSG:4326", Affine(1 / 3600, 0, 12.3, 0, -1 / 3600, 45.6)),
    "mars": ("IAU_2015:49910", Affine(100, 0, 0, 0, -100, 0)),
    "unnamed": ("+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84", Affine(30, 0, 1e5, 0, -30, 2e5)),
}


@pytest.mark.parametrize("case", CASES)
def test_georeferencing_survives_in_every_spelling(store: Store, case: str) -> None:
    crs, transform = CASES[case]
    scene, grids = scene_of(70, 50, transform, crs), {1: TileGrid(50, 70, 70, 0)}
    stitch(store, scene, all_answers(grids), grids)
    mosaic = open_mosaic(store, "alpha", "water")
    by_gdal = Affine.from_gdal(*map(float, mosaic["spatial_ref"].attrs["GeoTransform"].split()))
    assert by_gdal.almost_equals(transform, precision=0)
    assert CRS(mosaic["spatial_ref"].attrs["crs_wkt"]) == scene.geobox.crs
    assert rasterio.crs.CRS.from_wkt(mosaic["spatial_ref"].attrs["crs_wkt"])
    upright = transform.b == transform.d == 0
    assert ("x" in mosaic.coords) == ("y" in mosaic.coords) == upright
    if upright:
        centres = ~transform * (mosaic["x"].values[[0, -1]], mosaic["y"].values[[0, -1]])
        np.testing.assert_allclose(centres, [[0.5, 49.5], [0.5, 69.5]], atol=1e-6)
        found = mosaic["mask"].odc.geobox
        assert found.shape == scene.geobox.shape
        np.testing.assert_allclose(~transform * found.affine * (50, 70), (50, 70), atol=1e-6)
        assert mosaic["mask"].odc.crs == scene.geobox.crs


def test_geozarr_conventions_are_valid_and_true(store: Store) -> None:
    scene, grids = scene_of(131, 170), {1: TileGrid(170, 131, 64, 0)}
    stitch(store, scene, all_answers(grids), grids)
    group = zarr.open_group(store.path("masks.zarr"), path="alpha/water", mode="r")
    attributes = dict(group.attrs)
    zarr_cm.validate_all(attributes)
    assert set(zarr_cm.detect_revisions(attributes)) == {"proj", "spatial", "multiscales"}
    assert attributes["proj:code"] == "EPSG:32633"
    assert Affine(*attributes["spatial:transform"]) == UPRIGHT
    for level in attributes["multiscales"]["layout"]:
        node = group if level["asset"] == "." else group[level["asset"]]
        zarr_cm.validate_all(dict(node.attrs))
        assert tuple(node.attrs["spatial:shape"]) == node["mask"].shape
    mask = group["mask"].metadata.to_dict()
    assert mask["zarr_format"] == 3
    assert mask["fill_value"] == 255
    assert mask["dimension_names"] == ("y", "x")
    assert "_FillValue" not in mask["attributes"]
    assert group.metadata.consolidated_metadata is not None
    root = xr.open_datatree(store.path("masks.zarr"), engine="zarr", consolidated=False)
    assert "alpha/water/2" in [n.path.strip("/") for n in root.subtree]


def test_overviews_reduce_what_was_looked_at(store: Store) -> None:
    scene, grids = scene_of(131, 170), {1: TileGrid(170, 131, 64, 0)}
    results = [r for r in all_answers(grids) if r.tile.col != 1]
    stitch(store, scene, results, grids)
    group = zarr.open_group(store.path("masks.zarr"), path="alpha/water", mode="r")
    probability, mask = group["probability"][:], group["mask"][:]
    for factor in (2, 4, 8):
        probability, mask = halve_by_mean(probability), halve_by_maximum(mask)
        np.testing.assert_array_equal(group[f"{factor}/probability"][:], probability)
        np.testing.assert_array_equal(group[f"{factor}/mask"][:], mask)
        overview = xr.open_zarr(store.path(f"masks.zarr/alpha/water/{factor}"), decode_coords="all")
        np.testing.assert_allclose(overview[f"x_{factor}"][0], UPRIGHT.c + 10 * factor / 2)
    assert "16" not in group


@given(seed=st.integers(0, 1000), shape=st.tuples(st.integers(1, 9), st.integers(1, 9)))
@settings(max_examples=30, deadline=None)
def test_halving_agrees_with_a_loop(seed: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    values: NDArray[np.uint8] = rng.choice(np.array([0, 1, 100, 254, 255], np.uint8), shape)
    mean, maximum = halve_by_mean(values), halve_by_maximum(values)
    for row in range(mean.shape[0]):
        for col in range(mean.shape[1]):
            looked = [int(v) for v in values[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].flat if v != 255]
            assert mean[row, col] == (int(sum(looked) / len(looked) + 0.5) if looked else 255)
            assert maximum[row, col] == (max(looked) if looked else 255)


def test_a_finished_mosaic_is_recognised_and_a_changed_one_made_anew(store: Store) -> None:
    scene, grids = scene_of(60, 60), {1: TileGrid(60, 60, 60, 0)}
    first = stitch(store, scene, all_answers(grids), grids)
    again = stitch(store, scene, [], grids)  # the same fingerprint: nothing is even looked at
    assert (first.reused, again.reused) == (False, True)
    assert again.target_px == first.target_px > 0
    changed = stitch(store, scene, all_answers(grids), grids, threshold=0.9, fingerprint="f2")
    assert not changed.reused
    assert changed.target_px < first.target_px


def test_nothing_of_an_earlier_mosaic_stays(store: Store) -> None:
    scene, grids = scene_of(131, 170), {1: TileGrid(170, 131, 64, 0)}
    stitch(store, scene, all_answers(grids), grids)
    few = all_answers(grids)[:2]
    receipt = stitch(store, scene, few, grids, fingerprint="f2")
    expected = stitch_window(Window(0, 0, 170, 131), few, grids).probability
    found = open_mosaic(store, "alpha", "water")["probability"].values
    np.testing.assert_array_equal(found, expected)
    assert receipt.unseen_px == (expected == 255).sum() > 0


def test_a_half_written_mosaic_is_not_taken_for_a_finished_one(store: Store) -> None:
    class Dying(InProcess):
        def map(self, function, items, *, models=False):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            for i, item in enumerate(items):
                if i == 1:
                    raise RuntimeError("the worker died")
                yield function(item)

    scene, grids = scene_of(131, 170), {1: TileGrid(170, 131, 64, 0)}
    with pytest.raises(RuntimeError, match="died"):
        stitch(store, scene, all_answers(grids), grids, workers=Dying())
    with pytest.raises(BadInput, match="no finished mosaic"):
        open_mosaic(store, "alpha", "water")
    assert not stitch(store, scene, all_answers(grids), grids).reused
    assert open_mosaic(store, "alpha", "water").attrs["t2s:state"] == "complete"


def test_a_mosaic_that_is_not_there_is_bad_input(store: Store) -> None:
    with pytest.raises(BadInput, match="no finished mosaic"):
        open_mosaic(store, "alpha", "water")


def test_other_filesystems_than_the_local_disk(store: Store) -> None:
    memory = Store.at(f"memory://{store.root.replace('/', '-')}")
    scene, grids = scene_of(60, 60), {1: TileGrid(60, 60, 60, 0)}
    receipt = stitch(memory, scene, all_answers(grids), grids)
    assert (open_mosaic(memory, "alpha", "water")["mask"].values == 1).sum() == receipt.target_px
    assert stitch(memory, scene, [], grids).reused


def test_scenes_that_begin_at_the_same_time_share_their_parent(tmp_path: Path) -> None:
    store, start = Store.at(str(tmp_path)), threading.Barrier(8)

    def make(number: int) -> None:
        scene = replace(scene_of(40, 40), scene_id=f"s{number}")
        start.wait()
        create(store, scene, "q", attributes={}, layout=Layout())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(8)))
    assert len(list((tmp_path / "masks.zarr").glob("s*/q/zarr.json"))) == 8
