"""The seam check counts what a loop counts, finds drawn seams, and leaves seamless masks alone."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.blocks import blocks
from pipeline.seams import LineCounts, SeamCount, block_seams, seam_check, tile_lines
from pipeline.tiling import TileGrid, Window


def counted(mask: NDArray[np.uint8], block_px: int, shuffle: random.Random | None = None) -> LineCounts:
    shape = (mask.shape[0], mask.shape[1])
    windows = list(blocks(shape, 1, block_px))
    if shuffle is not None:
        shuffle.shuffle(windows)
    count = SeamCount(shape)
    for window in windows:
        count.add(block_seams(window, mask[window.slices_in(Window(0, 0, shape[1], shape[0]))]))
    return count.counts


def blobs(seed: int, height: int = 300, width: int = 340) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.uint8)
    for _ in range(60):
        cy, cx, r = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(4, 25)
        if rng.random() < 0.5:
            mask[(y - cy) ** 2 + (x - cx) ** 2 < r**2] = 1
        else:
            mask[(abs(y - cy) < r) & (abs(x - cx) < r / 2)] = 1  # straight sides, as of roofs
    return mask


@given(
    seed=st.integers(0, 1000), shape=st.tuples(st.integers(1, 20), st.integers(1, 20)), block_px=st.integers(1, 20),
    shuffle=st.randoms(use_true_random=False),
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_counts_are_those_of_a_loop(seed: int, shape: tuple[int, int], block_px: int, shuffle: random.Random) -> None:
    mask = np.random.default_rng(seed).choice(np.array([0, 1, 255], np.uint8), shape, p=[0.6, 0.3, 0.1])
    counts = counted(mask, block_px, shuffle)
    wide = mask.astype(int)
    for changes, pairs, values in (
        (counts.changes_y, counts.pairs_y, wide), (counts.changes_x, counts.pairs_x, wide.T),
    ):  # fmt: skip
        for i in range(1, len(values)):
            both = [(a, b) for a, b in zip(values[i - 1], values[i], strict=True) if 255 not in (a, b)]
            assert pairs[i] == len(both)
            assert changes[i] == sum(a != b for a, b in both)
        assert changes[0] == pairs[0] == 0


def test_lines_are_where_windows_begin_and_end() -> None:
    grid = TileGrid(100, 64, 40, 8)
    assert tile_lines([grid], axis="x").tolist() == [32, 40, 60, 72]
    assert tile_lines([grid], axis="y").tolist() == [24, 40]
    assert tile_lines([TileGrid(40, 40, 40, 8)], axis="x").tolist() == []


def test_a_seam_is_found() -> None:
    grid = TileGrid(340, 300, 100, 20)
    mask = blobs(1)
    for line in tile_lines([grid], axis="x"):
        mask[:, line : line + 6] = np.roll(mask[:, line : line + 6], 5, axis=0)  # what a crude cut would leave
    check = seam_check(counted(mask, 128), {1: grid})
    assert check["flagged"]
    assert check["ratio"] > 1.3


def test_seamless_masks_are_rarely_flagged() -> None:
    """Also where whole sides of objects lie along lines of the grid, now and then."""
    grid = TileGrid(340, 300, 100, 20)
    checks = [seam_check(counted(blobs(seed), 340), {1: grid}) for seed in range(40)]
    assert sum(check["flagged"] for check in checks) <= 1
    assert 0.25 < np.mean([check["p"] for check in checks]) < 0.75


@pytest.mark.parametrize("mask", [np.zeros((300, 340), np.uint8), np.full((300, 340), 255, np.uint8)])
def test_nothing_to_see(mask: NDArray[np.uint8]) -> None:
    check = seam_check(counted(mask, 128), {1: TileGrid(340, 300, 100, 20)})
    assert (check["p"], check["flagged"], check["ratio"]) == (1.0, False, None)


def test_a_scene_of_one_tile_has_no_seams() -> None:
    check = seam_check(counted(blobs(2), 128), {1: TileGrid(340, 300, 400, 20)})
    assert (check["pairs"], check["p"], check["flagged"]) == (0, 1.0, False)
