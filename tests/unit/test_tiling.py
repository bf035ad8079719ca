"""Laws of the grid: cores partition the scene, windows stay within it, `over` misses no tile."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.tiling import TileGrid, TileKey, Window
from t2s_core.errors import BadInput


@st.composite
def grids(draw: st.DrawFn, max_size: int = 90) -> TileGrid:
    tile_px = draw(st.integers(1, 24))
    return TileGrid(
        width=draw(st.integers(1, max_size)),
        height=draw(st.integers(1, max_size)),
        tile_px=tile_px,
        overlap_px=draw(st.integers(0, tile_px // 2)),
        level=draw(st.sampled_from([1, 2, 4])),
    )


def places(grid: TileGrid) -> list[tuple[int, int]]:
    return [(row, col) for row in range(grid.rows) for col in range(grid.cols)]


@settings(deadline=None, max_examples=60)
@given(grids())
def test_every_pixel_is_in_exactly_one_core(grid: TileGrid) -> None:
    times_seen = np.zeros((grid.height, grid.width), np.int64)
    whole = Window(0, 0, grid.width, grid.height)
    for place in places(grid):
        core = grid.core(*place)
        assert core == core.intersection(whole)
        times_seen[core.slices_in(whole)] += 1
    assert (times_seen == 1).all()


@settings(deadline=None, max_examples=60)
@given(grids())
def test_a_core_lies_within_its_window(grid: TileGrid) -> None:
    for place in places(grid):
        core = grid.core(*place)
        assert core.intersection(grid.window(*place)) == core


@settings(deadline=None, max_examples=60)
@given(grids())
def test_windows_are_square_and_leave_the_scene_only_where_it_is_smaller(grid: TileGrid) -> None:
    for place in places(grid):
        window = grid.window(*place)
        assert (window.width, window.height) == (grid.side, grid.side)
        assert window.x0 >= 0
        assert window.y0 >= 0
        assert window.x1 <= max(grid.width, grid.side)
        assert window.y1 <= max(grid.height, grid.side)


@settings(deadline=None, max_examples=60)
@given(grids())
def test_neighbours_share_at_least_the_overlap(grid: TileGrid) -> None:
    for row, col in places(grid):
        if col:
            assert grid.window(row, col - 1).x1 - grid.window(row, col).x0 >= grid.overlap_px * grid.level
        if row:
            assert grid.window(row - 1, col).y1 - grid.window(row, col).y0 >= grid.overlap_px * grid.level


@settings(deadline=None, max_examples=60)
@given(grids(), st.data())
def test_over_an_area_finds_what_a_search_of_all_tiles_finds(grid: TileGrid, data: st.DataObject) -> None:
    x0, y0 = data.draw(st.integers(0, grid.width - 1)), data.draw(st.integers(0, grid.height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, grid.width)), data.draw(st.integers(y0 + 1, grid.height))
    area = Window(x0, y0, x1, y1)
    assert list(grid.over(area)) == [p for p in places(grid) if grid.window(*p).intersection(area) is not None]


@settings(deadline=None, max_examples=60)
@given(tile_px=st.integers(1, 600), overlap_px=st.integers(-50, 600))
def test_overlaps_beyond_half_a_tile_or_below_zero_are_refused(tile_px: int, overlap_px: int) -> None:
    if 0 <= overlap_px <= tile_px // 2:
        assert TileGrid(1000, 1000, tile_px, overlap_px).stride == tile_px - overlap_px
    else:
        with pytest.raises(BadInput, match=f"overlap_px={overlap_px} is"):
            TileGrid(1000, 1000, tile_px, overlap_px)


def test_a_refused_overlap_says_the_limit_and_the_way_out() -> None:
    with pytest.raises(BadInput, match=r"overlap_px=300 is more than half a 256 px tile; use at most 128\."):
        TileGrid(1000, 1000, 256, 300)
    with pytest.raises(BadInput, match="is negative; use 0 to 128"):
        TileGrid(1000, 1000, 256, -1)


def test_the_last_tile_is_moved_inward() -> None:
    grid = TileGrid(width=100, height=64, tile_px=64, overlap_px=16)
    assert (grid.rows, grid.cols) == (1, 2)
    assert grid.window(0, 1) == Window(36, 0, 100, 64)
    assert (grid.core(0, 0), grid.core(0, 1)) == (Window(0, 0, 50, 64), Window(50, 0, 100, 64))


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(*[st.integers(-9, 9)] * 4).map(lambda v: Window(v[0], v[1], v[0] + abs(v[2]), v[1] + abs(v[3]))),
    st.tuples(*[st.integers(-9, 9)] * 4).map(lambda v: Window(v[0], v[1], v[0] + abs(v[2]), v[1] + abs(v[3]))),
)
def test_an_intersection_holds_the_pixels_of_both_windows(a: Window, b: Window) -> None:
    def pixels(window: Window | None) -> set[tuple[int, int]]:
        if window is None:
            return set()
        return {(x, y) for x in range(window.x0, window.x1) for y in range(window.y0, window.y1)}

    common = a.intersection(b)
    assert pixels(common) == pixels(a) & pixels(b)
    assert common is None or pixels(common)


def test_slices_pick_a_window_out_of_an_array() -> None:
    outer, inner = Window(10, 20, 18, 26), Window(12, 21, 15, 25)
    rows, cols = np.mgrid[20:26, 10:18]
    part = inner.slices_in(outer)
    assert (rows[part][0, 0], rows[part][-1, -1]) == (21, 24)
    assert (cols[part][0, 0], cols[part][-1, -1]) == (12, 14)


def test_a_tile_key_as_text() -> None:
    assert str(TileKey("alpha", 4, 2, 11)) == "alpha/4/2/11"
