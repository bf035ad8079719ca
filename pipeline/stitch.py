"""Tile results of one query, blended into one block of the scene's own grid.

All sums are of integers, so the outcome does not depend on the order of the tiles, and tiles that agree on a pixel
reproduce exactly what they agree on.

How levels fuse
---------------
1. *Within a level* a pixel's probability is the mean over the tiles that looked at it, weighted by a taper across the
   overlaps and by how sure the segmenter was of the claiming instance.
2. *The finest level that looked at a pixel decides*, for it sees most. A coarser one fills in where the finer tiles
   failed or gave no usable answer.
3. *What is too large for a finer tile is added from the coarser level*: an instance counts as large if it is longer
   than a tile of the next finer level, which therefore cannot show it whole. Of a pixel the larger of the two
   probabilities stands: a fine tile in the middle of a lake, which sees no lake, takes nothing away from it.
   Instances that are small for their level say nothing here, neither for nor against, so a coarse view can neither
   blur nor invent what a fine one sees better.

So an edge is as sharp as the finest level wherever that level sees the object, and elsewhere as sharp as the level that
does; and a coarse false alarm stands where it is large, for no fine tile could have refuted it. Every probability is at
most the largest that some tile gives, so every target pixel is claimed by a tile. None of it depends on the blocks.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.results import MaskRecord, TileResult
from pipeline.tiling import TileGrid, Window
from t2s_core import masks

NOBODY_LOOKED = 255
"""Nodata, outside the area of interest, or no tile gave a usable answer."""
CERTAIN = 254
"""The stored code of probability 1."""

_UNITS_PER_CODE = 256  # a tile's own probability is finer than the stored one, so that blending rounds once
_CERTAIN_UNITS = CERTAIN * _UNITS_PER_CODE
_FULL_TAPER = 256
_ROWS_AT_ONCE = 64
_FULL_TRUST = 255


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle of a stitched mosaic."""

    window_scene_px: Window
    probability: NDArray[np.uint8]
    """(height, width): 0 to 254 is probability 0 to 1; 255 means that nobody looked."""


@dataclass(frozen=True, slots=True)
class TileView:
    """What one tile says of a part of its window."""

    probability_units: NDArray[np.int32]
    """(height, width): 0 to 254 * 256, of the likeliest instance; 0 where there is none."""
    trust: NDArray[np.int32]
    """(height, width): 1 to 255, the predicted IoU of the instance that claims the pixel; 255 where none does."""
    looked: NDArray[np.bool_]
    """(height, width): True where the tile has data."""
    speaker: NDArray[np.int32]
    """(height, width): 1 + the place, among the tile's masks, of the instance that speaks here; 0 where none does."""

    @property
    def codes(self) -> NDArray[np.uint8]:
        """(height, width): this tile's own probability as a mosaic would store it, 255 where it has no data."""
        codes = (self.probability_units + _UNITS_PER_CODE // 2) // _UNITS_PER_CODE
        return np.where(self.looked, codes, NOBODY_LOOKED).astype(np.uint8)

    def claims(self, threshold: float) -> NDArray[np.int32]:
        """(height, width): the speaker where this tile alone gives a probability of at least `threshold`, else 0."""
        return np.where(threshold_mask(self.codes, threshold) == 1, self.speaker, 0)


def stitch_window(block: Window, results: Iterable[TileResult], grids: Mapping[int, TileGrid]) -> Block:
    """Blend one query's tile results into `block` (window_scene_px, within the scene), as the module says.

    `grids`: of all levels of the scene. Results that do not touch the block, or where the model gave no usable answer,
    add nothing.
    """
    shape = (block.height, block.width)
    everything: dict[int, _Sums] = {}
    large: dict[int, _Sums] = {}
    for result in results:
        part = block.intersection(result.window_scene_px)
        if part is None or not result.status.seen:
            continue
        level, inside = result.tile.level, part.slices_in(block)
        view = view_of(result, part)
        weight = weight_of(result, view, grids[level], part)
        everything.setdefault(level, _Sums(shape)).add(inside, weight, view)
        finer_px = finer_side_px(grids, level)
        if finer_px:
            large.setdefault(level, _Sums(shape)).add(inside, weight * ~small_speaks(result, view, finer_px), view)
    return Block(block, _fused(shape, everything, large))


class _Sums:
    """What the tiles of one level say of a block."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._weighted = np.zeros(shape, np.int64)
        self._weights = np.zeros(shape, np.int32)  # a tile gives at most 2**24, and few meet in a pixel

    def add(self, inside: tuple[slice, slice], weight: NDArray[np.int32], view: TileView) -> None:
        """Add what a tile says of the part `inside` the block."""
        self._weighted[inside] += np.multiply(weight, view.probability_units, dtype=np.int64)
        self._weights[inside] += weight

    @property
    def codes(self) -> NDArray[np.uint8]:
        """(height, width): the mean, rounded half up; 255 where no weight is."""
        return _weighted_mean(self._weighted, self._weights)


def _fused(shape: tuple[int, int], everything: Mapping[int, _Sums], large: Mapping[int, _Sums]) -> NDArray[np.uint8]:
    probability = np.full(shape, NOBODY_LOOKED, np.uint8)
    for level in sorted(everything, reverse=True):
        codes = everything[level].codes
        probability = np.where(codes == NOBODY_LOOKED, probability, codes)
    for sums in large.values():
        codes = sums.codes
        # of a level that looked at a pixel at all, so there is a probability to compare with
        probability = np.where(codes == NOBODY_LOOKED, probability, np.maximum(codes, probability))
    return probability


def threshold_mask(probability: NDArray[np.uint8], threshold: float) -> NDArray[np.uint8]:
    """1 where the stored probability is at least `threshold` (0 to 1), else 0; 255 stays 255. Any shape."""
    lowest = int(np.flatnonzero(np.arange(256) / CERTAIN >= threshold)[0])
    mask = (probability >= lowest).view(np.uint8)
    np.copyto(mask, NOBODY_LOOKED, where=probability == NOBODY_LOOKED)
    return mask


def view_of(result: TileResult, part: Window) -> TileView:
    """What a tile says of `part`, a window_scene_px within the tile's own."""
    shape = (part.height, part.width)
    units = np.zeros(shape, np.int32)
    trust = np.full(shape, _FULL_TRUST, np.int32)
    speaker = np.zeros(shape, np.int32)
    for number, mask in enumerate(result.masks, start=1):
        area = _reach(mask, result.window_scene_px, part)
        if area is None:
            continue
        inside = area.slices_in(part)
        instance_units = _instance_units(mask, result.window_scene_px, area)
        # Where instances compete the likelier one speaks; of equals the first.
        speaks = instance_units > units[inside]
        np.copyto(trust[inside], _FULL_TRUST, where=speaks)
        np.copyto(trust[inside], _trust(mask), where=speaks & (instance_units >= _CERTAIN_UNITS // 2))
        np.copyto(speaker[inside], number, where=speaks)
        np.copyto(units[inside], instance_units, where=speaks)
    looked = np.ones(shape, np.bool_) if result.valid is None else result.valid[part.slices_in(result.window_scene_px)]
    return TileView(units, trust, looked, speaker)


def weight_of(result: TileResult, view: TileView, grid: TileGrid, part: Window) -> NDArray[np.int32]:
    """(height, width) of `part`: how much the tile's word counts there, 0 where it has no data. `grid`: its level's."""
    weight = _taper(result, grid, part) * view.trust
    return weight if result.valid is None else weight * view.looked


def finer_side_px(grids: Mapping[int, TileGrid], level: int) -> int:
    """Side of the tiles of the next finer level, in scene pixels; 0 where `level` is the finest."""
    return max((grid.side for factor, grid in grids.items() if factor < level), default=0)


def small_speaks(result: TileResult, view: TileView, finer_side_px: int) -> NDArray[np.bool_]:
    """(height, width) of the view: True where an instance speaks that fits in a tile of side `finer_side_px`."""
    is_small = np.array([False, *(_longest_px(mask, result.window_scene_px) <= finer_side_px for mask in result.masks)])
    small: NDArray[np.bool_] = is_small[view.speaker]
    return small


def _longest_px(mask: MaskRecord, tile: Window) -> float:
    """The longer side, in scene pixels, of the box around what the instance claims; 0 where it claims nothing."""
    claims = mask.logits.codes >= masks.CODE_MAX // 2
    if not claims.any():
        return 0.0
    rows, cols = np.flatnonzero(claims.any(axis=1)), np.flatnonzero(claims.any(axis=0))
    height, width = mask.logits.shape
    return float(max((rows[-1] - rows[0] + 1) * tile.height / height, (cols[-1] - cols[0] + 1) * tile.width / width))


def _trust(mask: MaskRecord) -> int:
    # Never 0: a claim that only one tile could make must stay visible, however doubtful.
    return max(1, round(min(1.0, mask.predicted_iou) * _FULL_TRUST))


def _reach(mask: MaskRecord, tile: Window, part: Window) -> Window | None:
    """The piece of `part` that the instance's cropped logits can touch: the crop and what interpolation adds around."""
    (row, col), (height, width) = mask.logits.offset, mask.logits.codes.shape
    if mask.logits.codes.size == 0:
        return None
    y_scale, x_scale = tile.height / mask.logits.shape[0], tile.width / mask.logits.shape[1]
    return part.intersection(
        Window(
            # One pixel of the logits where they are enlarged, one of the scene where they are reduced.
            tile.x0 + int(np.floor((col - 1) * x_scale)) - 1,
            tile.y0 + int(np.floor((row - 1) * y_scale)) - 1,
            tile.x0 + int(np.ceil((col + width + 1) * x_scale)) + 1,
            tile.y0 + int(np.ceil((row + height + 1) * y_scale)) + 1,
        )
    )


def _instance_units(mask: MaskRecord, tile: Window, area: Window) -> NDArray[np.int32]:
    logits = masks.upsample_window(mask.logits, (tile.height, tile.width), area.slices_in(tile))
    return np.rint(masks.probability(logits).astype(np.float64) * _CERTAIN_UNITS).astype(np.int32)


def _taper(result: TileResult, grid: TileGrid, part: Window) -> NDArray[np.int32]:
    """(height, width) of `part`: 1 to 256 * 256, falling linearly across each overlap with a neighbour."""
    row, col = result.tile.row, result.tile.col
    tile = result.window_scene_px
    shared_above = grid.window(row - 1, col).y1 - tile.y0 if row > 0 else 0
    shared_below = tile.y1 - grid.window(row + 1, col).y0 if row < grid.rows - 1 else 0
    shared_left = grid.window(row, col - 1).x1 - tile.x0 if col > 0 else 0
    shared_right = tile.x1 - grid.window(row, col + 1).x0 if col < grid.cols - 1 else 0
    rows, cols = part.slices_in(tile)
    along_y = _ramp(tile.height, shared_above, shared_below)[rows]
    along_x = _ramp(tile.width, shared_left, shared_right)[cols]
    return along_y[:, np.newaxis] * along_x[np.newaxis, :]


def _ramp(side_px: int, shared_before_px: int, shared_after_px: int) -> NDArray[np.int32]:
    """(side_px,): 256, less within the overlaps; never 0, so that every pixel a tile saw counts."""
    place = np.arange(side_px, dtype=np.int64)
    rising = _FULL_TAPER * (place + 1) // (shared_before_px + 1)
    falling = _FULL_TAPER * (side_px - place) // (shared_after_px + 1)
    return np.clip(np.minimum(rising, falling), 1, _FULL_TAPER).astype(np.int32)


def _weighted_mean(weighted: NDArray[np.int64], weights: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Rounded half up to codes; 255 where no weight is."""
    codes = np.empty(weights.shape, np.uint8)
    for y in range(0, len(codes), _ROWS_AT_ONCE):  # what is needed in between then stays in the processor's cache
        rows = slice(y, y + _ROWS_AT_ONCE)
        codes[rows] = _mean_of_rows(weighted[rows], weights[rows])
    return codes


def _mean_of_rows(weighted: NDArray[np.int64], weights: NDArray[np.int32]) -> NDArray[np.uint8]:
    codes: NDArray[np.uint8] = (weights == 0).view(np.uint8)
    codes *= NOBODY_LOOKED
    some = np.flatnonzero(weighted)  # most of a mosaic is nothing, and dividing is what takes time
    per_code = weights.ravel()[some].astype(np.int64) * _UNITS_PER_CODE
    codes.ravel()[some] = (weighted.ravel()[some] + per_code // 2) // per_code
    return codes
