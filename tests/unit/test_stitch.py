"""Laws of blending: whatever tiles agree on comes out unchanged, and what nobody saw stays unseen."""

import random
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.results import MaskRecord, TileResult, TileStatus
from pipeline.stitch import NOBODY_LOOKED, stitch_window, threshold_mask, view_of, weight_of
from pipeline.tiling import TileGrid, TileKey, Window
from t2s_core.masks import QuantisedLogits, quantise

Drawn = tuple[int, int, list[NDArray[np.float32]]]
"""(width, height, logits of each instance)"""


def tile_result(
    grid: TileGrid,
    row: int,
    col: int,
    instances: list[NDArray[np.float32]],
    *,
    status: TileStatus = TileStatus.OK,
    predicted_iou: float = 0.9,
    valid: NDArray[np.bool_] | None = None,
) -> TileResult:
    return TileResult(
        key=f"{grid.level}-{row}-{col}",
        tile=TileKey("scene", grid.level, row, col),
        window_scene_px=grid.window(row, col),
        query_id="query",
        query="where is it?",
        status=status,
        reason="",
        reply="",
        reasoning=f"seen in {row},{col}",
        n_tokens=1,
        prompts=(),
        masks=tuple(MaskRecord(quantise(i), predicted_iou) for i in instances),
        valid=valid,
        prompter="p@1",
        segmenter="s@1",
        run_id="run",
    )


def ideal_results(grid: TileGrid, instances: list[NDArray[np.float32]]) -> list[TileResult]:
    """What a segmenter gives that answers at native resolution and sees in a crop just what is in the whole."""
    results = []
    for row in range(grid.rows):
        for col in range(grid.cols):
            window = grid.window(row, col)
            crops = []
            for logits in instances:
                padded = np.full((grid.side, grid.side), -8.0, np.float32)
                part = logits[window.y0 : window.y1, window.x0 : window.x1]
                padded[: part.shape[0], : part.shape[1]] = part
                crops.append(padded)
            results.append(tile_result(grid, row, col, crops, predicted_iou=0.2 + 0.7 * ((row + col) % 2)))
    return results


def stitched(width: int, height: int, results: list[TileResult], grids: Mapping[int, TileGrid]) -> NDArray[np.uint8]:
    return stitch_window(Window(0, 0, width, height), results, grids).probability


@st.composite
def scenes(draw: st.DrawFn) -> Drawn:
    width, height = draw(st.integers(5, 60)), draw(st.integers(5, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(0, 3))
    return width, height, [rng.uniform(-9, 9, (height, width)).astype(np.float32) for _ in range(n)]


@given(scene=scenes(), tile_px=st.integers(4, 40), share=st.floats(0, 0.5), shuffle=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_tiling_an_ideal_segmenter_changes_nothing(
    scene: Drawn, tile_px: int, share: float, shuffle: random.Random
) -> None:
    width, height, instances = scene
    whole = TileGrid(width, height, max(width, height), 0)
    grid = TileGrid(width, height, tile_px, int(share * tile_px))
    tiles = ideal_results(grid, instances)
    shuffle.shuffle(tiles)
    np.testing.assert_array_equal(
        stitched(width, height, tiles, {1: grid}), stitched(width, height, ideal_results(whole, instances), {1: whole})
    )


@given(scene=scenes(), block=st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 40), st.integers(1, 40)))
@settings(max_examples=30, deadline=None)
def test_a_block_is_the_same_piece_of_the_whole(scene: Drawn, block: tuple[int, int, int, int]) -> None:
    width, height, instances = scene
    grid = TileGrid(width, height, 16, 5)
    x0, y0, w, h = block
    window = Window(x0, y0, min(width, x0 + w), min(height, y0 + h))
    tiles = ideal_results(grid, instances)
    whole = stitched(width, height, tiles, {1: grid})
    np.testing.assert_array_equal(
        stitch_window(window, tiles, {1: grid}).probability, whole[window.y0 : window.y1, window.x0 : window.x1]
    )


@given(tile_px=st.integers(8, 64), share=st.floats(0, 0.5), level=st.sampled_from([1, 2, 4]))
@settings(max_examples=30, deadline=None)
def test_constant_logits_stay_constant_at_any_resolution_and_level(tile_px: int, share: float, level: int) -> None:
    grid = TileGrid(150, 90, tile_px, int(share * tile_px), level)
    results = [
        tile_result(grid, row, col, [np.zeros((16, 16), np.float32)])
        for row in range(grid.rows)
        for col in range(grid.cols)
    ]
    assert set(np.unique(stitched(150, 90, results, {level: grid}))) == {127}


@pytest.mark.parametrize("status", [s for s in TileStatus if not s.seen])
def test_what_only_unusable_tiles_cover_is_unseen(status: TileStatus) -> None:
    grid = TileGrid(20, 10, 10, 0)
    results = [tile_result(grid, 0, 0, [], status=status), tile_result(grid, 0, 1, [], status=TileStatus.NO_TARGET)]
    probability = stitched(20, 10, results, {1: grid})
    assert (probability[:, :10] == NOBODY_LOOKED).all()
    assert (probability[:, 10:] == 0).all()


def test_nothing_is_masked_where_there_is_no_data() -> None:
    grid = TileGrid(10, 10, 10, 0)
    valid = np.ones((10, 10), np.bool_)
    valid[3:6] = False
    probability = stitched(10, 10, [tile_result(grid, 0, 0, [np.full((4, 4), 8, np.float32)], valid=valid)], {1: grid})
    np.testing.assert_array_equal(probability == NOBODY_LOOKED, ~valid)
    np.testing.assert_array_equal(threshold_mask(probability, 0.5), np.where(valid, 1, NOBODY_LOOKED))


def test_a_doubtful_claim_counts_less_than_a_clear_view() -> None:
    grid = TileGrid(12, 8, 8, 4)
    clear = tile_result(grid, 0, 1, [], status=TileStatus.NO_TARGET)
    claim = [np.full((8, 8), 8, np.float32)]
    sure = stitched(12, 8, [tile_result(grid, 0, 0, claim, predicted_iou=1.0), clear], {1: grid})
    doubtful = stitched(12, 8, [tile_result(grid, 0, 0, claim, predicted_iou=0.1), clear], {1: grid})
    overlap = slice(4, 8)
    assert (doubtful[:, overlap] < sure[:, overlap]).all()
    np.testing.assert_array_equal(doubtful[:, :4], sure[:, :4])  # alone, a doubtful claim still stands
    assert (np.diff(sure[0].astype(int)) <= 0).all()  # and fades towards the neighbour's side


def test_a_pixel_above_the_threshold_is_above_it_in_some_tile() -> None:
    rng = np.random.default_rng(3)
    grid = TileGrid(40, 40, 24, 12)
    results = [
        tile_result(grid, r, c, [rng.uniform(-4, 4, (7, 7)).astype(np.float32)], predicted_iou=float(rng.uniform()))
        for r in range(grid.rows)
        for c in range(grid.cols)
    ]
    claimed = np.zeros((40, 40), np.bool_)
    for result in results:
        part = result.window_scene_px.intersection(Window(0, 0, 40, 40))
        assert part is not None
        claimed[part.slices_in(Window(0, 0, 40, 40))] |= threshold_mask(view_of(result, part).codes, 0.6) == 1
    mask = threshold_mask(stitched(40, 40, results, {1: grid}), 0.6) == 1
    assert mask.any()
    assert claimed[mask].all()


@given(
    crop=st.tuples(st.integers(0, 10), st.integers(0, 10), st.integers(1, 6), st.integers(1, 6)),
    side=st.sampled_from([5, 12, 16, 33, 64]),
)
@settings(max_examples=40, deadline=None)
def test_cropping_logits_changes_nothing(crop: tuple[int, int, int, int], side: int) -> None:
    """The cheap way, around the crop only, gives what the whole array gives."""
    row, col, height, width = crop
    codes = np.zeros((16, 16), np.uint8)
    codes[row : row + height, col : col + width] = 254
    grid = TileGrid(side, side, side, 0)
    base = tile_result(grid, 0, 0, [np.zeros((16, 16), np.float32)])
    cropped = QuantisedLogits(codes[row : row + height, col : col + width], (row, col), (16, 16))
    full = QuantisedLogits(codes, (0, 0), (16, 16))
    views = [view_of(_with_mask(base, logits), Window(0, 0, side, side)).codes for logits in (cropped, full)]
    np.testing.assert_array_equal(*views)


def _with_mask(result: TileResult, logits: QuantisedLogits) -> TileResult:

    return replace(result, masks=(MaskRecord(logits, 0.9),))


@pytest.mark.parametrize(("threshold", "lowest"), [(0.5, 127), (100 / 254, 100), (0.001, 1), (0.999, 254)])
def test_threshold_is_inclusive_and_keeps_unseen(threshold: float, lowest: int) -> None:
    mask = threshold_mask(np.arange(256, dtype=np.uint8), threshold)
    assert int(np.flatnonzero(mask == 1)[0]) == lowest
    assert mask[255] == NOBODY_LOOKED
    assert (mask[lowest:255] == 1).all()


def silent(grid: TileGrid, **options: TileStatus) -> list[TileResult]:
    status = options.get("status", TileStatus.NO_TARGET)
    return [tile_result(grid, row, col, [], status=status) for row in range(grid.rows) for col in range(grid.cols)]


def logits_of(claimed: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.where(claimed, np.float32(8), np.float32(-8))


def assert_same_but_for_corners(mask: NDArray[np.bool_], rectangle: NDArray[np.bool_]) -> None:
    """Enlarging logits rounds the four corners off."""
    off = mask != (np.kron(rectangle, np.ones((4, 4))) == 1)
    assert off.sum() <= 4


def test_a_lake_larger_than_a_tile_is_seen_whole_although_no_fine_tile_sees_it() -> None:
    fine, coarse = TileGrid(64, 64, 16, 4), TileGrid(64, 64, 16, 4, level=4)
    lake = np.zeros((16, 16), np.bool_)
    lake[2:14, 3:12] = True  # 48 x 36 scene pixels
    results = [*silent(fine), tile_result(coarse, 0, 0, [logits_of(lake)])]
    mask = threshold_mask(stitched(64, 64, results, {1: fine, 4: coarse}), 0.5)
    assert_same_but_for_corners(mask == 1, lake)


def test_what_a_fine_tile_could_show_whole_is_left_to_it_and_coarse_silence_says_nothing() -> None:
    fine, coarse = TileGrid(64, 64, 16, 4), TileGrid(64, 64, 16, 4, level=4)
    blob = np.zeros((16, 16), np.bool_)
    blob[1:4, 1:5] = True  # 16 scene pixels long: just the side of a fine tile
    boat = [np.zeros((16, 16), np.float32)]
    of_fine = [*silent(fine)[:-1], tile_result(fine, fine.rows - 1, fine.cols - 1, boat)]
    results = [*of_fine, tile_result(coarse, 0, 0, [logits_of(blob)])]
    np.testing.assert_array_equal(stitched(64, 64, results, {1: fine, 4: coarse}), stitched(64, 64, of_fine, {1: fine}))


def test_a_coarse_level_fills_in_where_fine_tiles_gave_no_answer() -> None:
    fine, coarse = TileGrid(64, 64, 16, 0), TileGrid(64, 64, 16, 0, level=4)
    blob = np.zeros((16, 16), np.bool_)
    blob[1:3, 1:3] = True
    results = [*silent(fine)[1:], *silent(fine, status=TileStatus.FAILED)[:1]]
    results.append(tile_result(coarse, 0, 0, [logits_of(blob)]))
    mask = threshold_mask(stitched(64, 64, results, {1: fine, 4: coarse}), 0.5)
    assert_same_but_for_corners(mask == 1, blob)
    assert not (mask == NOBODY_LOOKED).any()


@given(
    seed=st.integers(0, 2**32 - 1),
    levels=st.sampled_from([(1, 2), (1, 4), (2, 4), (1, 2, 4)]),
    block=st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 60), st.integers(1, 60)),
    shuffle=st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_fused_levels_are_no_more_than_some_tile_says_whatever_the_order_and_the_block(
    seed: int, levels: tuple[int, ...], block: tuple[int, int, int, int], shuffle: random.Random
) -> None:
    rng = np.random.default_rng(seed)
    width, height = 61, 47
    whole = Window(0, 0, width, height)
    grids = {level: TileGrid(width, height, 12, 4, level) for level in levels}
    results = []
    for grid in grids.values():
        for row in range(grid.rows):
            for col in range(grid.cols):
                instances = [rng.uniform(-6, 6, (5, 5)).astype(np.float32) for _ in range(rng.integers(0, 3))]
                status = TileStatus.FAILED if rng.random() < 0.2 else TileStatus.OK
                valid = rng.random((grid.side, grid.side)) < 0.9
                results.append(tile_result(grid, row, col, instances, status=status, valid=valid))
    fused = stitched(width, height, results, grids)
    highest, looked = np.zeros((height, width), np.uint8), np.zeros((height, width), np.bool_)
    for result in results:
        part = whole.intersection(result.window_scene_px)
        assert part is not None
        if result.status.seen:
            view, inside = view_of(result, part), part.slices_in(whole)
            highest[inside] = np.where(view.looked, np.maximum(highest[inside], view.codes), highest[inside])
            looked[inside] |= view.looked
    np.testing.assert_array_equal(fused != NOBODY_LOOKED, looked)
    assert (fused[looked] <= highest[looked]).all()
    shuffle.shuffle(results)
    x0, y0, w, h = block
    window = Window(x0, y0, min(width, x0 + w), min(height, y0 + h))
    np.testing.assert_array_equal(stitch_window(window, results, grids).probability, fused[window.slices_in(whole)])


def spotted(rng: np.random.Generator, n: int) -> list[NDArray[np.float32]]:
    """Instances that are somewhere in a tile, so that some overlap and much of the tile is clearly nothing."""
    instances = []
    for _ in range(n):
        logits = np.full((12, 12), -12, np.float32)
        y, x = rng.integers(0, 10, 2)
        logits[y : y + 3, x : x + 3] = rng.uniform(-4, 8, logits[y : y + 3, x : x + 3].shape)
        instances.append(logits)
    return instances


@given(seed=st.integers(0, 2**32 - 1), tile_px=st.integers(12, 40), share=st.floats(0, 0.5), n=st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_what_is_skipped_where_nothing_is_claimed_changes_nothing(
    seed: int, tile_px: int, share: float, n: int
) -> None:
    """The mean over all tiles that looked, each over all of its window, in whole numbers."""
    rng = np.random.default_rng(seed)
    block = Window(7, 3, 57, 61)
    grid = TileGrid(70, 64, tile_px, int(share * tile_px))
    weights, weighted = np.zeros((58, 50), object), np.zeros((58, 50), object)
    results = []
    for row, col in grid.over(block):
        valid = rng.random((grid.side, grid.side)) < 0.9 if rng.random() < 0.5 else None
        status = TileStatus.FAILED if rng.random() < 0.2 else TileStatus.OK
        iou = float(rng.uniform(0, 1.2))
        instances = spotted(rng, n) if rng.random() < 0.6 else []
        results.append(tile_result(grid, row, col, instances, status=status, predicted_iou=iou, valid=valid))
        part = block.intersection(results[-1].window_scene_px)
        if part is not None and results[-1].status.seen:
            view, inside = view_of(results[-1], part), part.slices_in(block)
            weight = weight_of(results[-1], view, grid, part).astype(object)
            weights[inside] += weight
            weighted[inside] += weight * view.probability_units.astype(object)
    per_code = np.where(weights > 0, weights * 256, 1)
    expected = np.where(weights > 0, (2 * weighted + per_code) // (2 * per_code), NOBODY_LOOKED)
    np.testing.assert_array_equal(stitch_window(block, results, {1: grid}).probability, expected.astype(np.uint8))
    clear = [r.tile for r in results if r.status.seen and not r.masks and r.valid is None]
    others = [r for r in results if r.tile not in clear]
    known = stitch_window(block, others, {1: grid}, clear=clear)
    np.testing.assert_array_equal(known.probability, expected.astype(np.uint8))
