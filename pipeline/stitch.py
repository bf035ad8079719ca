"""Tile results of one query, blended into one block of the scene's own grid.

All sums are of whole numbers, so the outcome does not depend on the order of the tiles, and tiles that agree on a pixel
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

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.results import MaskRecord, TileResult
from pipeline.taper import taper_of
from pipeline.tiling import TileGrid, TileKey, Window
from t2s_core import masks

NOBODY_LOOKED = 255
"""Nodata, outside the area of interest, or no tile gave a usable answer."""
CERTAIN = 254
"""The stored code of probability 1."""

_UNITS_PER_CODE = 256  # a tile's own probability is finer than the stored one, so that blending rounds once
_CERTAIN_UNITS = CERTAIN * _UNITS_PER_CODE
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

    probability_units: NDArray[np.uint16]
    """(height, width): 0 to 254 * 256, of the likeliest instance; 0 where there is none."""
    trust: NDArray[np.uint8]
    """(height, width): 1 to 255, the predicted IoU of the instance that claims the pixel; 255 where none does."""
    looked: NDArray[np.bool_]
    """(height, width): True where the tile has data."""
    speaker: NDArray[np.uint16]
    """(height, width): 1 + the place, among the tile's masks, of the instance that speaks here; 0 where none does."""

    @property
    def codes(self) -> NDArray[np.uint8]:
        """(height, width): this tile's own probability as a mosaic would store it, 255 where it has no data."""
        codes = ((self.probability_units + _UNITS_PER_CODE // 2) // _UNITS_PER_CODE).astype(np.uint8)
        np.copyto(codes, NOBODY_LOOKED, where=~self.looked)
        return codes

    def within(self, inside: tuple[slice, slice]) -> "TileView":
        """The view of a part of it."""
        return TileView(self.probability_units[inside], self.trust[inside], self.looked[inside], self.speaker[inside])

    def claims(self, threshold: float) -> NDArray[np.uint16]:
        """(height, width): the speaker where this tile alone gives a probability of at least `threshold`, else 0."""
        return np.where(threshold_mask(self.codes, threshold) == 1, self.speaker, 0)


def stitch_window(
    block: Window, results: Iterable[TileResult], grids: Mapping[int, TileGrid], *, clear: Iterable[TileKey] = ()
) -> Block:
    """Blend one query's tile results into `block` (window_scene_px, within the scene), as the module says.

    `results`: at most one of each tile; those that do not touch the block, or where the model gave no usable answer,
    add nothing. `grids`: of all levels of the scene. `clear`: tiles that touch the block, none of them among those of
    `results`, that saw all of their windows and nothing there.
    """
    everything: dict[int, _Sums] = {}
    large: dict[int, _Sums] = {}

    def sums_of(level: int) -> list[_Sums]:
        if level not in everything:
            everything[level] = _Sums(block, grids[level])
            if finer_side_px(grids, level):
                large[level] = _Sums(block, grids[level])
        return [by_level[level] for by_level in (everything, large) if level in by_level]

    for tile in clear:
        for sums in sums_of(tile.level):
            sums.look(tile)
    for result in results:
        part = block.intersection(result.window_scene_px)
        if part is not None and result.status.seen:
            _add(result, part, grids, *sums_of(result.tile.level))
    return Block(block, _fused((block.height, block.width), everything, large))


def _add(
    result: TileResult,
    part: Window,
    grids: Mapping[int, TileGrid],
    everything: "_Sums",
    large: "_Sums | None" = None,
) -> None:
    """What a tile says of its `part` of a block to the sums of its level."""
    level = result.tile.level
    taper = taper_of(grids[level], result.tile.row, result.tile.col)
    for sums in (everything, large) if large else (everything,):
        sums.look(result.tile)
        if result.valid is not None:
            sums.take_back(part, taper.over(part) * ~result.valid[part.slices_in(result.window_scene_px)])
    for area, view in _claimed_views(result, part):
        nothing = taper.over(area)
        weight = _trusted(nothing, result, view)
        if result.valid is not None:
            nothing *= view.looked
        everything.claim(area, view, weight, nothing)
        if large:
            small = small_instances(result, finer_side_px(grids, level))
            large.claim(area, view, weight * ~small[view.speaker], nothing)


class _Sums:
    """What the tiles of one level say of a block.

    Most of a region is what every tile clearly sees to be nothing. There the weights of a whole grid of tiles are the
    product of a sum along y and a sum along x, so that only what differs from it is kept and costs time.
    """

    def __init__(self, block: Window, grid: TileGrid) -> None:
        self._block, self._grid = block, grid
        self._absent = set(grid.over(block))
        self._is_clear = True

    @cached_property
    def _weighted(self) -> NDArray[np.float64]:
        # Whole numbers as floats: exact below 2**53, and faster to multiply and divide than as integers.
        return np.zeros((self._block.height, self._block.width), np.float64)

    @cached_property
    def _more(self) -> NDArray[np.int32]:
        return np.zeros((self._block.height, self._block.width), np.int32)  # a tile gives at most 2**24, and few meet

    def look(self, tile: TileKey) -> None:
        """A tile looked at all of its part of the block and says nothing yet."""
        self._absent.discard((tile.row, tile.col))

    def take_back(self, area: Window, taper: NDArray[np.int32]) -> None:
        """Of an `area`, (height, width), what a tile that saw nothing there counted for: its `taper`, unscaled."""
        self._is_clear = False
        self._more[area.slices_in(self._block)] -= _FULL_TRUST * taper

    def claim(self, area: Window, view: TileView, weight: NDArray[np.int32], taper: NDArray[np.int32]) -> None:
        """What a tile says of an `area` of its part instead, with its `weight` there; of each pixel once.

        `taper`: what its clear view of nothing counted for.
        """
        inside = area.slices_in(self._block)
        weighted = weight.astype(np.float64)
        weighted *= view.probability_units
        self._weighted[inside] += weighted
        self._more[inside] += weight
        self.take_back(area, taper)

    def mean(self) -> NDArray[np.uint8]:
        """(height, width): codes, rounded half up; 255 where no weight is."""
        for row, col in self._absent:
            part = self._block.intersection(self._grid.window(row, col))
            assert part is not None
            self.take_back(part, taper_of(self._grid, row, col).over(part))
        self._absent.clear()
        if self._is_clear:
            return np.zeros((self._block.height, self._block.width), np.uint8)
        along_y, along_x = self._clear_along()
        codes = np.empty(self._more.shape, np.uint8)
        for y in range(0, len(codes), _ROWS_AT_ONCE):  # what is needed in between then stays in the processor's cache
            rows = slice(y, y + _ROWS_AT_ONCE)
            weights = along_y[rows, np.newaxis] * along_x
            weights += self._more[rows]
            codes[rows] = _weighted_mean(self._weighted[rows], weights)
        return codes

    def _clear_along(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(height,) and (width,), whose products are the weights of clear views by the whole grid."""
        block, tiles = self._block, list(self._grid.over(self._block))
        along_y, along_x = np.zeros(block.height, np.int32), np.zeros(block.width, np.int32)
        for row, col in tiles:
            taper = taper_of(self._grid, row, col)
            part = block.intersection(taper.window_scene_px)
            assert part is not None
            (rows_in, cols_in), (rows_of, cols_of) = part.slices_in(block), part.slices_in(taper.window_scene_px)
            if col == tiles[0][1]:
                along_y[rows_in] += taper.along_y[rows_of]
            if row == tiles[0][0]:
                along_x[cols_in] += taper.along_x[cols_of]
        return _FULL_TRUST * along_y, along_x


def _fused(shape: tuple[int, int], everything: Mapping[int, _Sums], large: Mapping[int, _Sums]) -> NDArray[np.uint8]:
    by_level = [everything[level].mean() for level in sorted(everything, reverse=True)]
    probability = by_level[0] if by_level else np.full(shape, NOBODY_LOOKED, np.uint8)
    for codes in by_level[1:]:
        np.copyto(probability, codes, where=codes != NOBODY_LOOKED)
    for sums in large.values():
        codes = sums.mean()
        # of a level that looked at a pixel at all, so there is a probability to compare with
        np.maximum(codes, probability, out=probability, where=codes != NOBODY_LOOKED)
    return probability


def threshold_mask(probability: NDArray[np.uint8], threshold: float) -> NDArray[np.uint8]:
    """1 where the stored probability is at least `threshold` (0 to 1), else 0; 255 stays 255. Any shape."""
    lowest = int(np.flatnonzero(np.arange(256) / CERTAIN >= threshold)[0])
    mask = (probability >= lowest).view(np.uint8)
    np.copyto(mask, NOBODY_LOOKED, where=probability == NOBODY_LOOKED)
    return mask


def view_of(result: TileResult, part: Window) -> TileView:
    """What a tile says of `part`, a window_scene_px within the tile's own."""
    return _view(result, part, _reaches(result, part))


def _claimed_views(result: TileResult, part: Window) -> Iterator[tuple[Window, TileView]]:
    """Views of areas of `part` that share no pixel; in the rest of it the tile clearly sees nothing."""
    reaches = _reaches(result, part)
    if reaches:
        view = _view(result, part, reaches)
        for box in _apart(np.array([area for _, area in reaches])).tolist():
            area = Window(*box)
            yield area, view.within(area.slices_in(part))


def _apart(boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(m, 4) XYXY: boxes that share no pixel and together cover `boxes`, (n, 4) XYXY."""
    while True:
        starts_before_end = (boxes[:, np.newaxis, :2] < boxes[:, 2:]).all(axis=2)
        first_met = (starts_before_end & starts_before_end.T).argmax(axis=1)
        kept, group = np.unique(first_met, return_inverse=True)
        if len(kept) == len(boxes):
            return boxes
        merged = boxes[kept]
        np.minimum.at(merged[:, :2], group, boxes[:, :2])
        np.maximum.at(merged[:, 2:], group, boxes[:, 2:])
        boxes = merged


def _view(result: TileResult, part: Window, reaches: Iterable[tuple[int, Window]]) -> TileView:
    shape = (part.height, part.width)
    units, speaker = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
    trust = np.full(shape, _FULL_TRUST, np.uint8)
    for number, area in reaches:
        mask, inside = result.masks[number - 1], area.slices_in(part)
        known = units[inside]
        instance_units = _instance_units(mask, result.window_scene_px, area)
        # Where instances compete the likelier one speaks; of equals the first.
        speaks = instance_units > known
        np.copyto(speaker[inside], number, where=speaks)
        np.copyto(known, instance_units, where=speaks)
        # Less than full is only the trust in what is as likely as not. Who outdoes that is so too, and sets its own.
        speaks &= instance_units >= _CERTAIN_UNITS // 2
        np.copyto(trust[inside], _trust(mask), where=speaks)
    looked = np.ones(shape, np.bool_) if result.valid is None else result.valid[part.slices_in(result.window_scene_px)]
    return TileView(units, trust, looked, speaker)


def weight_of(result: TileResult, view: TileView, grid: TileGrid, part: Window) -> NDArray[np.int32]:
    """(height, width) of `part`: how much the tile's word counts there, 0 where it has no data. `grid`: its level's."""
    return _trusted(taper_of(grid, result.tile.row, result.tile.col).over(part), result, view)


def _trusted(taper: NDArray[np.int32], result: TileResult, view: TileView) -> NDArray[np.int32]:
    weight = taper * view.trust
    if result.valid is not None:
        weight *= view.looked
    return weight


def finer_side_px(grids: Mapping[int, TileGrid], level: int) -> int:
    """Side of the tiles of the next finer level, in scene pixels; 0 where `level` is the finest."""
    return max((grid.side for factor, grid in grids.items() if factor < level), default=0)


def small_instances(result: TileResult, finer_side_px: int) -> NDArray[np.bool_]:
    """(1 + masks,), by `TileView.speaker`: True for an instance that fits in a tile of side `finer_side_px`."""
    return np.array([False, *(_longest_px(mask, result.window_scene_px) <= finer_side_px for mask in result.masks)])


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


def _reaches(result: TileResult, part: Window) -> list[tuple[int, Window]]:
    """(1 + place among the masks, the area of `part` that it can touch) of the instances that touch it."""
    areas = ((number, _reach(mask, result.window_scene_px, part)) for number, mask in enumerate(result.masks, start=1))
    return [(number, area) for number, area in areas if area is not None]


def _reach(mask: MaskRecord, tile: Window, part: Window) -> Window | None:
    """The piece of `part` that the instance's cropped logits can touch: the crop and what interpolation adds around."""
    (row, col), (height, width) = mask.logits.offset, mask.logits.codes.shape
    if mask.logits.codes.size == 0:
        return None
    x0, x1 = _reach_along(col, col + width, tile.width / mask.logits.shape[1])
    y0, y1 = _reach_along(row, row + height, tile.height / mask.logits.shape[0])
    return part.intersection(Window(tile.x0 + x0, tile.y0 + y0, tile.x0 + x1, tile.y0 + y1))


def _reach_along(start: int, end: int, scale: float) -> tuple[int, int]:
    """Half a pixel of the logits around where they are enlarged; where they are reduced, about one of the scene."""
    if scale >= 1:
        return math.floor((start - 0.5) * scale), math.ceil((end + 0.5) * scale)
    return math.floor((start - 1) * scale) - 1, math.ceil((end + 1) * scale) + 1


def _instance_units(mask: MaskRecord, tile: Window, area: Window) -> NDArray[np.uint16]:
    codes = masks.fine_codes(mask.logits, (tile.height, tile.width), area.slices_in(tile))
    return _units_by_fine_code().take(codes)


@lru_cache(maxsize=1)
def _units_by_fine_code() -> NDArray[np.uint16]:
    """(254 * 64 + 1,): the logistic function of what a code stands for; 0 for code 0, as outside of crops."""
    codes = np.arange(masks.CODE_MAX * masks.FINE_PER_CODE + 1) / masks.FINE_PER_CODE
    logits = codes * (2 * masks.LOGIT_LIMIT) / masks.CODE_MAX - masks.LOGIT_LIMIT
    units = np.rint(_CERTAIN_UNITS / (1 + np.exp(-logits))).astype(np.uint16)
    units[0] = 0
    return units


def _weighted_mean(weighted: NDArray[np.float64], weights: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Rounded half up to codes; 255 where no weight is."""
    unseen = weights == 0
    some_unseen = unseen.any()
    mean = weights.astype(np.float64)
    mean *= _UNITS_PER_CODE
    if some_unseen:
        np.copyto(mean, 1, where=unseen)
    # Of whole numbers so small that a quotient just below a half is not rounded up to it.
    np.divide(weighted, mean, out=mean)
    mean += 0.5
    codes = mean.astype(np.uint8)
    if some_unseen:
        np.copyto(codes, NOBODY_LOOKED, where=unseen)
    return codes
