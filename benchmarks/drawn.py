"""What the benchmarks of the mosaic are drawn on: a mask of any size with 100,000 objects to 20,000 x 20,000 px."""

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from shapely.affinity import rotate, translate

from pipeline.scenes import NodataRule, Scene
from pipeline.tiling import Window

PERIOD_PX, PER_PERIOD = 2000, 1000


def side_px() -> int:
    """Side of the mask: 20,000, or what T2S_BENCH_SIDE_PX says, for developing."""
    return int(os.environ.get("T2S_BENCH_SIDE_PX", "20000"))


def scene_of(side: int) -> Scene:
    """A square scene in UTM with pixels of 0.5 m."""
    geobox = GeoBox((side, side), Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000), "EPSG:32633")
    return Scene("drawn", "/none.tif", "etag", geobox, (1, 2, 3), "uint8", NodataRule("none"), None, warped=False)


@lru_cache(maxsize=1)
def pattern() -> NDArray[np.uint8]:
    """(PERIOD_PX, PERIOD_PX) of 0 and 1: rectangles at any angle, one in ten with a hole, going on across the edges."""
    rng = np.random.default_rng(0)
    n_x, n_y = 40, 25
    step_x, step_y = PERIOD_PX / n_x, PERIOD_PX / n_y
    shapes = []
    for k in range(n_x * n_y):
        x, y = (k % n_x + 0.3) * step_x, (k // n_x + 0.3) * step_y
        width, height = rng.uniform(12, 38, 2)
        shape = rotate(shapely.box(x - width / 2, y - height / 2, x + width / 2, y + height / 2), rng.uniform(0, 180))
        if k % 10 == 0:
            shape = shape.difference(shapely.Point(x, y).buffer(4))
        shapes += [translate(shape, dx, dy) for dx in (-PERIOD_PX, 0, PERIOD_PX) for dy in (-PERIOD_PX, 0, PERIOD_PX)]
    drawn: NDArray[np.uint8] = rasterize(shapes, out_shape=(PERIOD_PX, PERIOD_PX), dtype=np.uint8)
    return drawn


def drawn_mask(window: Window, *, scale: int = 1) -> NDArray[np.uint8]:
    """(height, width) of a window: the pattern, repeated, objects `scale` times as large. Its period fits no block."""
    ends = ((window.y0, window.y1), (window.x0, window.x1))
    rows, cols = (np.arange(low, high) // scale % PERIOD_PX for low, high in ends)
    return pattern()[rows][:, cols]


def peak_mb(module: str, *arguments: str) -> float:
    """Peak memory of `python MODULE.py ARGUMENTS` in MB, which prints it as JSON at its end."""
    script = Path(__file__).with_name(f"{module}.py")
    done = subprocess.run([sys.executable, str(script), *arguments], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def print_peak_mb() -> None:
    """For the process that `peak_mb` starts."""
    print(vm_hwm_mb())


def vm_hwm_mb() -> float:
    """Peak memory of this process in MB. Linux: `getrusage` would tell the peak of the process that forked it."""
    return _status_mb("VmHWM")


def rss_mb() -> float:
    """Memory of this process just now, in MB."""
    return _status_mb("VmRSS")


def _status_mb(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    kib = int(next(line.split()[1] for line in status.splitlines() if line.startswith(f"{name}:")))
    return round(kib / 1024, 1)
