"""The law of linking: instances meet in overlaps only, one to one, and a link is not handed on."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from ideal_tiles import Instances, ideal, objects, result_of
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from pipeline.link import Ground, Instance, link
from pipeline.results import MaskRecord, TileResult, TileStatus
from pipeline.tiling import TileGrid, TileKey
from pipeline.vectorise import Piece
from t2s_core.masks import quantise


def canonical(polygons: list[Polygon | MultiPolygon]) -> list[str]:
    return sorted(shapely.to_wkt(shapely.normalize(np.array(polygons, object)), rounding_precision=-1).tolist())


def burned(found: list[Piece], shape: tuple[int, int]) -> NDArray[np.int64]:
    """How many objects have each pixel."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    polygons = [piece.polygon_scene_px for piece in found]
    return sum((shapely.contains_xy(p, x, y).astype(np.int64) for p in polygons), np.zeros(shape, np.int64))


@st.composite
def touching_rectangles(draw: st.DrawFn) -> tuple[tuple[int, int], Instances]:
    """Up to eight cells of a random subdivision: they touch along whole sides and share no pixel."""
    height, width = draw(st.integers(12, 40)), draw(st.integers(12, 40))
    cuts_y = sorted({0, height, *draw(st.lists(st.integers(1, height - 1), max_size=3))})
    cuts_x = sorted({0, width, *draw(st.lists(st.integers(1, width - 1), max_size=3))})
    cells = [(y0, y1, x0, x1) for y0, y1 in pairwise(cuts_y)
             for x0, x1 in pairwise(cuts_x)]  # fmt: skip
    chosen = draw(st.lists(st.sampled_from(cells), min_size=1, max_size=8, unique=True))
    instances = []
    for y0, y1, x0, x1 in chosen:
        instance = np.zeros((height, width), np.bool_)
        instance[y0:y1, x0:x1] = True
        instances.append(instance)
    return (height, width), instances


@given(
    drawn=touching_rectangles(), side=st.integers(8, 30), share=st.floats(0.1, 0.5), block_px=st.integers(5, 40),
    coarse=st.booleans(),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_objects_of_an_ideal_segmenter_do_not_depend_on_the_tiling(
    drawn: tuple[tuple[int, int], Instances], side: int, share: float, block_px: int, coarse: bool
) -> None:
    """Tolerance zero: each instance is one feature, with exactly its pixels, however tiles and blocks lie."""
    shape, instances = drawn
    grids = {1: TileGrid(shape[1], shape[0], side, max(1, int(share * side)))}
    if coarse:
        grids[2] = TileGrid(shape[1], shape[0], side, side // 4, 2)
    results = [result for grid in grids.values() for result in ideal(grid, instances)]
    found, mask = objects(grids, results, shape, block_px)
    np.testing.assert_array_equal(mask, np.any(instances, axis=0))
    corners = [np.argwhere(i) for i in instances]
    truth = [shapely.box(c[:, 1].min(), c[:, 0].min(), c[:, 1].max() + 1, c[:, 0].max() + 1) for c in corners]
    assert canonical([p.polygon_scene_px for p in found]) == canonical(truth)
    assert sorted(p.n_px for p in found) == sorted(int(i.sum()) for i in instances)


@given(seed=st.integers(0, 10_000), block_px=st.sampled_from([7, 16, 48]))
@settings(max_examples=25, deadline=None)
def test_objects_of_any_segmenter_are_the_mask_and_share_no_pixel(seed: int, block_px: int) -> None:
    rng = np.random.default_rng(seed)
    grids = {1: TileGrid(48, 40, 24, 10), 2: TileGrid(48, 40, 20, 4, 2)}
    results = [result_of(g, r, c, []) for g in grids.values() for r in range(g.rows) for c in range(g.cols)]
    noisy = []
    for result in results:
        masks = tuple(
            MaskRecord(quantise(rng.normal(-1, 4, (6, 6)).astype(np.float32)), float(rng.random())) for _ in range(2)
        )
        noisy.append(TileResult(**{**{f: getattr(result, f) for f in TileResult.__slots__}, "masks": masks,
                                   "status": TileStatus.OK}))  # fmt: skip
    found, mask = objects(grids, noisy, (40, 48), block_px)
    np.testing.assert_array_equal(burned(found, (40, 48)), mask == 1)
    assert all(p.polygon_scene_px.is_valid for p in found)
    assert len({p.owner for p in found}) == len(found)
    whole, _ = objects(grids, noisy, (40, 48), 48)
    assert canonical([p.polygon_scene_px for p in found]) == canonical([p.polygon_scene_px for p in whole])


def test_a_row_of_touching_roofs_does_not_fuse_and_a_lake_larger_than_a_tile_is_one() -> None:
    shape = (40, 120)
    roofs = [np.zeros(shape, np.bool_) for _ in range(12)]
    for k, roof in enumerate(roofs):
        roof[2:8, 10 * k : 10 * k + 10] = True
    lake = np.zeros(shape, np.bool_)
    lake[10:38, 4:116] = True
    grids = {1: TileGrid(120, 40, 24, 8)}
    found, _ = objects(grids, ideal(grids[1], [*roofs, lake]), shape, 32)
    assert Counter(p.n_px for p in found) == {60: 12, int(lake.sum()): 1}


def ground_of(*overlaps: tuple[str, str, list[list[int]]]) -> Ground:
    return {(TileKey("s", 1, 0, ord(a)), TileKey("s", 1, 0, ord(b))): np.array(n) for a, b, n in overlaps}


def instance(name: str) -> Instance:
    return Instance(TileKey("s", 1, 0, ord(name[0])), int(name[1]))


def test_half_is_not_enough() -> None:
    assert link(ground_of(("a", "b", [[9, 5], [0, 5]]))) == {}
    assert len(link(ground_of(("a", "b", [[9, 4], [0, 5]])))) == 2


def test_a_link_is_not_handed_on() -> None:
    """b calls one roof what a and c, on the ground that both see, call two: the stronger link stands alone."""
    a1_b1 = ("a", "b", [[0, 0], [0, 30]])
    b1_c1 = ("b", "c", [[0, 0], [0, 20]])
    assert set(link(ground_of(a1_b1, b1_c1)).values()) == {instance("a1")}  # a and c share no ground
    disagree = ("a", "c", [[0, 60], [60, 0]])
    assert link(ground_of(a1_b1, b1_c1, disagree)) == {i: instance("a1") for i in (instance("a1"), instance("b1"))}


def test_an_object_has_one_instance_of_a_tile() -> None:
    """a has two roofs; b has both, c has one over both: c takes part in one of them at most."""
    ground = ground_of(
        ("a", "b", [[0, 0, 0], [0, 50, 0], [0, 0, 40]]), ("b", "c", [[0, 0], [0, 10], [0, 0]]),
        ("a", "c", [[0, 0], [0, 0], [0, 12]]),
    )  # fmt: skip
    linked = link(ground)
    for first in set(linked.values()):
        tiles = [i.tile for i, name in linked.items() if name == first]
        assert len(tiles) == len(set(tiles))
    assert linked[instance("a1")] != linked[instance("a2")]


@pytest.mark.parametrize("overlap_px", [0, 4])
def test_without_overlap_nothing_is_linked(overlap_px: int) -> None:
    shape = (16, 32 - overlap_px)
    bar = np.zeros(shape, np.bool_)
    bar[4:8] = True
    grids = {1: TileGrid(shape[1], 16, 16, overlap_px)}
    found, _ = objects(grids, ideal(grids[1], [bar]), shape, 28)
    assert len(found) == (1 if overlap_px else 2)
