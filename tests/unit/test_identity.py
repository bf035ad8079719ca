"""The same ground gives the same features, wherever tiles, blocks and the extent begin: tolerance zero."""

from collections.abc import Callable

import numpy as np
import pytest
import shapely
from affine import Affine
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from ideal_tiles import ideal, objects, regions
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.affinity import translate

from pipeline.burn import in_scene_px
from pipeline.features import Provenance, read_features, vectorise_scene_query
from pipeline.mosaics import Layout, open_mosaic
from pipeline.queries import FeatureRules, Mode, Query
from pipeline.results import read_index, write_batch
from pipeline.scenes import NodataRule, Scene
from pipeline.stitching import planned_tiles, stitch_scene_query
from pipeline.storage import Store
from pipeline.tiling import TileGrid
from pipeline.vectorise import Piece
from pipeline.work import InProcess

SIDE = 60


def drawn(seed: int) -> list[NDArray[np.bool_]]:
    """Rectangles and a winding lake, some touching, some larger than a tile."""
    rng = np.random.default_rng(seed)
    found = []
    taken = np.zeros((SIDE, SIDE), np.bool_)
    for _ in range(6):
        y, x, height, width = (*rng.integers(0, SIDE - 6, 2), *rng.integers(3, 40, 2))
        shape = np.zeros((SIDE, SIDE), np.bool_)
        shape[y : y + height, x : x + width] = True
        if not (shape & taken).any():
            found.append(shape)
            taken |= shape
    return found


def semantic(instances: list[NDArray[np.bool_]], grid: TileGrid, block_px: int) -> list[Piece]:
    return regions({1: grid}, ideal(grid, instances), (grid.height, grid.width), block_px)


def instance(instances: list[NDArray[np.bool_]], grid: TileGrid, block_px: int) -> list[Piece]:
    return objects({1: grid}, ideal(grid, instances), (grid.height, grid.width), block_px)[0]


@pytest.mark.parametrize("features", [semantic, instance], ids=["semantic", "instance"])
@given(
    seed=st.integers(0, 500), tile_px=st.integers(8, 30), share=st.floats(0.1, 0.5), block_px=st.integers(9, 60),
    origin=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)  # fmt: skip
@settings(max_examples=12, deadline=None)
def test_moving_tiles_blocks_and_the_extent_moves_no_feature(
    features: Callable[..., list[Piece]], seed: int, tile_px: int, share: float, block_px: int, origin: tuple[int, int]
) -> None:
    instances = drawn(seed)
    whole = features(instances, TileGrid(SIDE, SIDE, 64, 0), SIDE)
    y, x = origin
    cut = [part for part in (shape[y:, x:] for shape in instances) if part.any()]
    grid = TileGrid(SIDE - x, SIDE - y, tile_px, max(1, int(share * tile_px)))
    moved = features(cut, grid, block_px)
    inside = shapely.box(x + 1, y + 1, SIDE, SIDE)

    def outlines(pieces: list[Piece], dx: int, dy: int) -> set[str]:
        """Of features that do not touch the cut."""
        placed = [translate(piece.polygon_scene_px, dx, dy) for piece in pieces]
        return {shapely.normalize(outline).wkt for outline in placed if inside.covers(outline)}

    assert outlines(moved, x, y) == outlines(whole, 0, 0)
    assert all(piece.score == 1.0 for piece in moved)


PX_M = 10
"""Whole metres, so that moving the origin of a scene rounds nothing."""


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """How a mosaic of `SIDE` may be cut in Zarr: chunks, shards of chunks, and blocks of what has one writer."""
    chunk_px = draw(st.integers(7, SIDE + 9))
    shard_px = draw(st.none() | st.integers(1, 3).map(lambda n: n * chunk_px))
    return Layout(chunk_px, shard_px, draw(st.integers(1, 3)) * (shard_px or chunk_px))


def published(
    instances: list[NDArray[np.bool_]], grid: TileGrid, layout: Layout, mode: Mode, origin: tuple[int, int] = (0, 0)
) -> tuple[dict[bytes, tuple[int, int]], NDArray[np.uint8]]:
    """What a run would leave of a scene that begins at `origin` (y, x): outlines in degrees that touch no edge, each
    with the upper left corner (y, x) of its box on the whole ground; and the mask.
    """
    MemoryFileSystem.store.clear()
    store, query = Store.at("memory://identity"), Query(query_id="q", text="q?")
    y, x = origin
    north_up = Affine(PX_M, 0, 500_000 + PX_M * x, 0, -PX_M, 5_000_000 - PX_M * y)
    geobox = GeoBox((grid.height, grid.width), north_up, "EPSG:32633")
    scene = Scene("s", "/none.tif", "etag", geobox, (1, 2, 3), "uint8", NodataRule("none"), None, warped=False)
    results = ideal(grid, instances)
    write_batch(store, "tiles/s/1/a.parquet", results)
    index = read_index(store, ["tiles/s/1/a.parquet"])[0]
    common = {"index": index, "grids": {1: grid}, "workers": InProcess(), "fingerprint": "f"}
    planned = planned_tiles({1: grid}, [result.tile for result in results])
    stitch_scene_query(store, scene, query, threshold=0.5, planned=planned, layout=layout, **common)
    rules = FeatureRules(mode)
    vectorise_scene_query(store, scene, query, provenance=Provenance("p@1", "s@1", "r"), rules=rules, **common)
    found = read_features(store)
    assert (found["score"] == 1).all()
    inner = shapely.normalize(found[~found["touches_scene_edge"]].geometry.to_numpy())
    corners = np.rint(shapely.bounds(in_scene_px(inner, geobox)).reshape(-1, 4)[:, [1, 0]]).astype(int) + origin
    mask = np.asarray(open_mosaic(store, "s", "q")["mask"])
    return {outline.wkb: (y, x) for outline, (y, x) in zip(inner, corners.tolist(), strict=True)}, mask


@pytest.mark.parametrize("mode", ["semantic", "instance"])
@given(
    seed=st.integers(0, 500), tile_px=st.integers(8, 30), share=st.floats(0.1, 0.5), layout=layouts(),
    origin=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)  # fmt: skip
@settings(max_examples=10)
def test_chunks_shards_and_blocks_of_zarr_move_no_feature_either(
    mode: Mode, seed: int, tile_px: int, share: float, layout: Layout, origin: tuple[int, int]
) -> None:
    """Through files: outlines in degrees, to the last bit, and every pixel of the mask."""
    instances = drawn(seed)
    whole, whole_mask = published(instances, TileGrid(SIDE, SIDE, 64, 0), Layout(), mode)
    y, x = origin
    cut = [part for part in (shape[y:, x:] for shape in instances) if part.any()]
    grid = TileGrid(SIDE - x, SIDE - y, tile_px, max(1, int(share * tile_px)))
    moved, mask = published(cut, grid, layout, mode, origin)
    np.testing.assert_array_equal(mask, whole_mask[y:, x:])
    assert moved == {outline: (top, left) for outline, (top, left) in whole.items() if top > y and left > x}
