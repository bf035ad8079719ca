"""From a mask to finished GeoParquet, against the raster primitive alone on the whole mask; and the memory it takes.

Both on one core. Ours cuts the mask into blocks, traces, joins what block borders cut, places every outline on the
ground, measures it on the ellipsoid, names, sorts, compresses and writes it; `rasterio.features.shapes` only traces.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely
from drawn import drawn_mask, peak_mb, print_peak_mb, scene_of, side_px
from rasterio.features import shapes

from pipeline.blocks import blocks
from pipeline.features import Provenance, write_features
from pipeline.geoparquet import hilbert_order
from pipeline.joining import ByBorder
from pipeline.queries import Query
from pipeline.storage import Store
from pipeline.tiling import Window
from pipeline.vectorise import BlockPieces, pieces_of_block

BLOCK_PX, RUNS = 2048, 3


def measure() -> dict[str, Any]:
    """Ratio of the primitive's time to ours, timed in turn; peak memory at this size and at 4 times the area."""
    side = side_px()
    mask = drawn_mask(Window(0, 0, side, side))
    ours_s, primitive_s, n = [], [], 0
    for _ in range(RUNS):
        start_s = time.perf_counter()
        n = vectorise(side)
        ours_s.append(time.perf_counter() - start_s)
        start_s = time.perf_counter()
        n_primitive = sum(1 for _ in shapes(mask, mask=mask, connectivity=4))
        primitive_s.append(time.perf_counter() - start_s)
        if n != n_primitive:
            raise RuntimeError(f"{n} features, but the primitive finds {n_primitive}")
    del mask
    peaks = {str(s): peak_mb("bench_vectorise", str(s)) for s in (side // 2, side, 2 * side)}
    return {
        "ratio": round(float(np.median([b / a for a, b in zip(ours_s, primitive_s, strict=True)])), 3),
        "unit": "Mpx/s to finished GeoParquet / Mpx/s of rasterio.features.shapes, one core each",
        "runs": RUNS,
        "details": {
            "side_px": side,
            "features": n,
            "mpx_per_s": round(side * side / 1e6 / float(np.median(ours_s)), 1),
            "primitive_mpx_per_s": round(side * side / 1e6 / float(np.median(primitive_s)), 1),
            "ours_s": [round(s, 3) for s in ours_s],
            "primitive_s": [round(s, 3) for s in primitive_s],
            "peak_mb_by_side_px": peaks,
        },
    }


def vectorise(side: int) -> int:
    """All of it; returns the number of features."""
    windows = list(blocks((side, side), 512, BLOCK_PX))
    windows = [windows[i] for i in hilbert_order([shapely.box(*window) for window in windows])]

    def shown() -> Iterator[BlockPieces]:
        for window in windows:
            mask = drawn_mask(window)
            yield pieces_of_block(window, mask * np.uint8(254), mask, [], 0.5)

    with tempfile.TemporaryDirectory() as folder:
        receipt = write_features(
            Store.at(folder), scene_of(side), Query(query_id="drawn", text="drawn"), shown(), ByBorder(windows),
            provenance=Provenance("p@1", "s@1", "r"), metadata={},
        )  # fmt: skip
    return receipt.n_features


if __name__ == "__main__":
    vectorise(int(sys.argv[1]))
    print_peak_mb()
