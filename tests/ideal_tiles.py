"""Tiles as an ideal segmenter sees them, and the objects that come of them, without any file."""

import numpy as np
from numpy.typing import NDArray

from pipeline.blocks import blocks
from pipeline.joining import ByBorder, ByOwner
from pipeline.link import Ground, Instance, add_ground, link, owners_of, shared_ground
from pipeline.results import MaskRecord, TileResult, TileStatus
from pipeline.stitch import stitch_window, threshold_mask
from pipeline.tiling import TileGrid, TileKey, Window
from pipeline.vectorise import Piece, pieces_of_block
from t2s_core.masks import quantise

Instances = list[NDArray[np.bool_]]


def result_of(grid: TileGrid, row: int, col: int, instances: Instances, keep: set[int] | None = None) -> TileResult:
    """What an ideal segmenter gives in a tile, at native resolution, of those of `instances` that show in it."""
    window = grid.window(row, col)
    shown = []
    for k, instance in enumerate(instances):
        part = instance[max(window.y0, 0) : window.y1, max(window.x0, 0) : window.x1]
        if part.any() and (keep is None or k in keep):
            logits = np.full((grid.side, grid.side), -8, np.float32)
            logits[: part.shape[0], : part.shape[1]][part] = 8
            shown.append(MaskRecord(quantise(logits), 0.9))
    return TileResult(
        key=f"{row}-{col}", tile=TileKey("s", grid.level, row, col), window_scene_px=window, query_id="q", query="q?",
        status=TileStatus.OK if shown else TileStatus.NO_TARGET, reason="", reply="", reasoning="", n_tokens=0,
        prompts=(), masks=tuple(shown), valid=None, prompter="p@1", segmenter="s@1", run_id="r",
    )  # fmt: skip


def ideal(grid: TileGrid, instances: Instances) -> list[TileResult]:
    return [result_of(grid, r, c, instances) for r in range(grid.rows) for c in range(grid.cols)]


def objects(
    grids: dict[int, TileGrid], results: list[TileResult], shape: tuple[int, int], block_px: int
) -> tuple[list[Piece], NDArray[np.uint8]]:
    """All objects of a scene, and its mask."""
    windows = list(blocks(shape, 1, block_px))
    ground: Ground = {}
    for window in windows:
        add_ground(ground, shared_ground(window, results, 0.5))
    linked = link(ground)

    def reach(owner: Instance) -> list[Window]:
        tiles = {i.tile for i, first in linked.items() if first == owner} | {owner.tile}
        return [grids[t.level].window(t.row, t.col) for t in tiles]

    joiner, found = ByOwner(windows, reach), []
    mask = np.zeros(shape, np.uint8)
    for window in windows:
        probability = stitch_window(window, results, grids).probability
        part = threshold_mask(probability, 0.5)
        mask[window.slices_in(Window(0, 0, shape[1], shape[0]))] = part
        owners = owners_of(window, part, results, linked, grids, threshold=0.5)
        found += joiner.add(pieces_of_block(window, probability, part, results, 0.5, owners=owners))
    return found, mask


def regions(
    grids: dict[int, TileGrid], results: list[TileResult], shape: tuple[int, int], block_px: int
) -> list[Piece]:
    """All connected regions of a scene's mask."""
    windows = list(blocks(shape, 1, block_px))
    joiner, found = ByBorder(windows), []
    for window in windows:
        probability = stitch_window(window, results, grids).probability
        found += joiner.add(pieces_of_block(window, probability, threshold_mask(probability, 0.5), results, 0.5))
    return found
