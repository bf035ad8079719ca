"""Stitching tiles that overlap by a quarter, against writing the same arrays to the same Zarr; and the memory it takes.

Both make the whole group: probability, mask, overviews, metadata. Ours reads committed tile results besides, enlarges
the instances' logits, blends, thresholds and checks seams.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from drawn import drawn_mask, peak_mb, print_peak_mb, scene_of, side_px
from scipy import ndimage

from pipeline.blocks import blocks
from pipeline.mosaics import FINGERPRINT, Layout, create, finish, group_path, read_window, write_block
from pipeline.queries import Query
from pipeline.results import MaskRecord, TileResult, TileStatus, batch_names, read_index, write_batch
from pipeline.stitching import coverage_codes, planned_tiles, stitch_scene_query
from pipeline.storage import Store
from pipeline.tiling import TileGrid, TileKey
from pipeline.work import InProcess
from t2s_core.masks import quantise

TILE_PX, OVERLAP_PX, LOW_RES_PX, RUNS = 512, 128, 128, 5
QUERY = Query(query_id="drawn", text="drawn")


def measure() -> dict[str, Any]:
    """Ratio of the two times, timed in turn; peak memory of stitching at this size and at 4 times the area."""
    side = side_px()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.at(folder)
        n = answer(store, side)
        stitch(store, side)
        ours_s, plain_s = [], []
        for _ in range(RUNS):
            plain_s.append(_rewrite(store, side))
            start_s = time.perf_counter()
            stitch(store, side)
            ours_s.append(time.perf_counter() - start_s)
    mpx = side * side / 1e6
    return {
        "ratio": round(float(np.median([b / a for a, b in zip(ours_s, plain_s, strict=True)])), 3),
        "unit": "Mpx/s stitched / Mpx/s written without stitching, one process each",
        "runs": RUNS,
        "details": {
            "side_px": side, "tile_px": TILE_PX, "overlap_px": OVERLAP_PX, "low_res_px": LOW_RES_PX,
            "instances_per_tile": round(n / grids_of(side)[1].rows ** 2, 1),
            "mpx_per_s": round(mpx / float(np.median(ours_s)), 1),
            "plain_mpx_per_s": round(mpx / float(np.median(plain_s)), 1),
            "ours_s": [round(s, 3) for s in ours_s], "plain_s": [round(s, 3) for s in plain_s],
            "peak_mb_by_side_px": {str(s): _peak_mb(s) for s in (side // 2, side, 2 * side)},
        },
    }  # fmt: skip


def grids_of(side: int) -> dict[int, TileGrid]:
    return {1: TileGrid(side, side, TILE_PX, OVERLAP_PX)}


def answer(store: Store, side: int) -> int:
    """Commit what an ideal segmenter sees in each tile: its objects at low resolution, with soft borders; how many."""
    grid, n = grids_of(side)[1], 0
    for row in range(grid.rows):
        results = [_result(grid, row, col) for col in range(grid.cols)]
        for start in range(0, grid.cols, 8):
            write_batch(store, f"tiles/drawn/1/{row:04}-{start:04}.parquet", results[start : start + 8])
        n += sum(len(result.masks) for result in results)
    return n


def _result(grid: TileGrid, row: int, col: int) -> TileResult:
    window = grid.window(row, col)
    step = TILE_PX // LOW_RES_PX
    drawn = drawn_mask(window, scale=2)[step // 2 :: step, step // 2 :: step]
    labels, n = ndimage.label(drawn)
    masks = []
    for k in range(1, n + 1):
        inside = (labels == k).astype(np.float32)
        logits = np.where(ndimage.maximum_filter(inside, 5) > 0, 12 * ndimage.uniform_filter(inside, 3) - 6, -12)
        masks.append(MaskRecord(quantise(logits.astype(np.float32)), 0.9))
    return TileResult(
        key=f"{row}-{col}", tile=TileKey("drawn", 1, row, col), window_scene_px=window, query_id="drawn", query="drawn",
        status=TileStatus.OK, reason="", reply="", reasoning="", n_tokens=0, prompts=(), masks=tuple(masks), valid=None,
        prompter="p@1", segmenter="s@1", run_id="r",
    )  # fmt: skip


def stitch(store: Store, side: int) -> None:
    index = _index(store)
    grids = grids_of(side)
    planned = planned_tiles(grids, [TileKey("drawn", 1, r["row"], r["col"]) for r in index.to_pylist()])
    stitch_scene_query(
        store, scene_of(side), QUERY, threshold=0.5, index=index, grids=grids, workers=InProcess(), planned=planned,
        fingerprint=str(time.perf_counter_ns()),  # another one each time: nothing is reused
    )  # fmt: skip


def _rewrite(store: Store, side: int) -> float:
    """Seconds to write what lies there once more, without the seconds to read it."""
    scene, layout, path, grids = scene_of(side), Layout(), group_path("drawn", "drawn"), grids_of(side)
    windows = list(blocks((side, side), layout.writer_px, layout.block_px))
    arrays = [read_window(store, path, window) for window in windows]
    coverage = coverage_codes(_index(store), planned_tiles(grids, []))
    start_s = time.perf_counter()
    create(store, scene, "drawn", attributes={}, layout=layout)
    for window, (probability, mask) in zip(windows, arrays, strict=True):
        write_block(store, path, window, probability, mask)
    finish(store, scene, "drawn", coverage, InProcess(), attributes={FINGERPRINT: ""}, layout=layout)
    return time.perf_counter() - start_s


def _index(store: Store) -> pa.Table:
    return read_index(store, batch_names(store, "drawn"))[0]


def _peak_mb(side: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        answer(Store.at(folder), side)
        return peak_mb("bench_stitch", str(Path(folder)), str(side))


if __name__ == "__main__":
    stitch(Store.at(sys.argv[1]), int(sys.argv[2]))
    print_peak_mb()
