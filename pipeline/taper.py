"""How much a tile counts where it overlaps its neighbours: less towards its borders, so that seams do not show."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.tiling import TileGrid, Window

_FULL_TAPER = 256


@dataclass(frozen=True, slots=True)
class Taper:
    """How much a tile counts within its window, for where it lies: 1 to 256 * 256, less across each overlap."""

    window_scene_px: Window
    along_y: NDArray[np.int32]
    """(height,)"""
    along_x: NDArray[np.int32]
    """(width,)"""

    def over(self, part: Window) -> NDArray[np.int32]:
        """(height, width) of `part`, within the window."""
        rows, cols = part.slices_in(self.window_scene_px)
        return self.along_y[rows, np.newaxis] * self.along_x[cols]


@lru_cache(maxsize=256)
def taper_of(grid: TileGrid, row: int, col: int) -> Taper:
    """Of a tile, by what it shares with its neighbours."""
    tile = grid.window(row, col)
    shared_above = grid.window(row - 1, col).y1 - tile.y0 if row > 0 else 0
    shared_below = tile.y1 - grid.window(row + 1, col).y0 if row < grid.rows - 1 else 0
    shared_left = grid.window(row, col - 1).x1 - tile.x0 if col > 0 else 0
    shared_right = tile.x1 - grid.window(row, col + 1).x0 if col < grid.cols - 1 else 0
    return Taper(tile, _ramp(grid.side, shared_above, shared_below), _ramp(grid.side, shared_left, shared_right))


@lru_cache(maxsize=64)
def _ramp(side_px: int, shared_before_px: int, shared_after_px: int) -> NDArray[np.int32]:
    """(side_px,): 256, less within the overlaps; never 0, so that every pixel a tile saw counts."""
    place = np.arange(side_px, dtype=np.int64)
    rising = _FULL_TAPER * (place + 1) // (shared_before_px + 1)
    falling = _FULL_TAPER * (side_px - place) // (shared_after_px + 1)
    return np.clip(np.minimum(rising, falling), 1, _FULL_TAPER).astype(np.int32)
