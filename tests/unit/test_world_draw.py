"""The laws of the drawn world."""

import hashlib

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from t2s_core.errors import BadInput
from t2s_core.world.classes import NAMES, Kind
from t2s_core.world.draw import Region, draw_region, outline
from t2s_core.world.layout import plan_layout
from t2s_core.world.tiles import MIN_VISIBLE_PX, bounding_box, cut_tile


@pytest.fixture(scope="module")
def region() -> Region:
    return draw_region(7, 512, 640)


def test_a_region_has_the_size_that_was_asked_for(region: Region) -> None:
    assert region.image.shape == (512, 640, 3)
    assert region.image.dtype == np.uint8
    assert region.instances.shape == region.kinds.shape == (512, 640)


def test_the_same_seed_and_size_give_the_same_bytes(region: Region) -> None:
    again = draw_region(7, 512, 640)
    assert again.image.tobytes() == region.image.tobytes()
    assert again.instances.tobytes() == region.instances.tobytes()


def test_the_bytes_are_the_same_on_every_machine() -> None:
    # A change of the world changes this digest: the bundled models must then be trained again.
    drawn = draw_region(3, 256, 256)
    digest = hashlib.sha256(drawn.instances.astype("<i4").tobytes() + drawn.image.tobytes()).hexdigest()
    assert digest[:16] == "75479f0348592c4f"


def test_another_seed_gives_another_region(region: Region) -> None:
    assert draw_region(8, 512, 640).image.tobytes() != region.image.tobytes()


@pytest.mark.parametrize("size", [(63, 256), (256, 20_000)])
def test_sizes_that_cannot_be_drawn_are_refused_with_the_limits(size: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match="64 to 16384"):
        draw_region(0, *size)


def test_every_class_occurs() -> None:
    seen = {thing.kind for seed in range(6) for thing in plan_layout(seed, 1024, 1024)}
    assert seen == set(NAMES) == set(Kind) - {Kind.GROUND}


@pytest.mark.parametrize("kinds", [{Kind.LAKE}, {Kind.RIVER, Kind.HARBOUR}, {Kind.ROAD}, set(NAMES)])
def test_truth_polygons_cover_the_truth_mask_exactly(region: Region, kinds: set[Kind]) -> None:
    mask = region.mask(kinds)
    shape = shapely.union_all(region.polygons(kinds))
    rows, cols = np.mgrid[: mask.shape[0], : mask.shape[1]]
    shapely.prepare(shape)
    assert np.array_equal(shapely.contains_xy(shape, cols + 0.5, rows + 0.5), mask)
    assert shape.area == mask.sum()


@given(st.integers(0, 2**32 - 1), st.integers(1, 24), st.integers(1, 24))
@settings(max_examples=50, deadline=None)
def test_an_outline_has_the_area_of_its_mask(seed: int, height: int, width: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    assert sum(part.area for part in outline(mask, (3, 5))) == mask.sum()


def test_classes_do_not_overlap_and_together_with_open_ground_fill_the_region(region: Region) -> None:
    count = sum(region.mask({kind}).astype(int) for kind in Kind)
    assert np.array_equal(count, np.ones(count.shape, int))


def test_a_tile_is_the_region_seen_through_a_window(region: Region) -> None:
    tile = cut_tile(region, 100, 60)
    assert np.array_equal(tile.image, region.image[60:316, 100:356])
    assert np.array_equal(tile.mask(frozenset({Kind.ROAD})), region.mask({Kind.ROAD})[60:316, 100:356])


def test_neighbouring_tiles_join_without_a_seam(region: Region) -> None:
    left, right = cut_tile(region, 0, 0), cut_tile(region, 256, 0)
    both = np.concatenate((left.kinds, right.kinds), axis=1)
    assert np.array_equal(both, region.kinds[:256, :512])


def test_boxes_are_tight_and_points_lie_on_their_object(region: Region) -> None:
    for x in (0, 128, 384):
        for one in cut_tile(region, x, 200).instances:
            assert one.mask.sum() >= MIN_VISIBLE_PX
            assert one.box_tile_px == bounding_box(one.mask)
            assert all(one.mask[py, px] for px, py in one.points_tile_px)


def test_the_instances_of_a_tile_are_disjoint_and_of_one_class(region: Region) -> None:
    tile = cut_tile(region, 200, 100)
    total = np.zeros(tile.kinds.shape, int)
    for one in tile.instances:
        assert set(np.unique(tile.kinds[one.mask])) == {int(one.kind)}
        total += one.mask
    assert total.max() <= 1
