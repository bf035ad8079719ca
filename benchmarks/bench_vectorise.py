"""Polygons per block with borders merged, against the raster primitive alone on the whole mask."""

import time
from typing import Any

import numpy as np
from rasterio.features import shapes

from pipeline.blocks import blocks
from pipeline.tiling import Window
from pipeline.vectorise import merge_pieces, pieces_of_block
from t2s_core.world.classes import Kind
from t2s_core.world.draw import draw_region

SIDE_PX, BLOCK_PX, RUNS = 4096, 2048, 5


def measure() -> dict[str, Any]:
    """Ratio of our time to the primitive's on a drawn region's forests, roads and roofs; the two timed in turn."""
    region = draw_region(1, SIDE_PX, SIDE_PX)
    wanted = {Kind.FOREST, Kind.ROAD, Kind.ROOF_RED, Kind.ROOF_BLUE, Kind.ROOF_WHITE}
    mask = region.mask(wanted).astype(np.uint8)
    ours_s, primitive_s, n = [], [], 0
    for _ in range(RUNS):
        start_s = time.perf_counter()
        n = _ours(mask)
        ours_s.append(time.perf_counter() - start_s)
        start_s = time.perf_counter()
        n_primitive = sum(1 for _ in shapes(mask.astype(np.int32), mask=mask > 0, connectivity=4))
        primitive_s.append(time.perf_counter() - start_s)
        if n != n_primitive:
            raise RuntimeError(f"{n} polygons, but the primitive finds {n_primitive}")
    ratios = [a / b for a, b in zip(ours_s, primitive_s, strict=True)]
    return {
        "ratio": round(float(np.median(ratios)), 3),
        "unit": "seconds of ours / seconds of rasterio.features.shapes",
        "runs": RUNS,
        "details": {
            "pixels": SIDE_PX**2,
            "polygons": n,
            "ours_s": [round(s, 3) for s in ours_s],
            "primitive_s": [round(s, 3) for s in primitive_s],
        },
    }


def _ours(mask: np.ndarray) -> int:
    shape = (mask.shape[0], mask.shape[1])
    found = []
    for window in blocks(shape, 512, BLOCK_PX):
        part = mask[window.slices_in(Window(0, 0, shape[1], shape[0]))]
        found.append(pieces_of_block(window, part * np.uint8(254), part, [], 0.5))
    return len(merge_pieces(found, shape))
