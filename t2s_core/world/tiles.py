"""What a tile of the world holds: its visible objects with a box and two points each, as a prompter should answer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2s_core.world.classes import Kind
from t2s_core.world.draw import Region

MIN_VISIBLE_PX = 60
"""Slivers below this many pixels are no objects: a reply need not name them."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One visible object of a tile."""

    kind: Kind
    box_tile_px: tuple[int, int, int, int]
    """XYXY, half-open, of the visible pixels."""
    points_tile_px: tuple[tuple[int, int], tuple[int, int]]
    """(x, y) of two visible pixels well inside: one in each half along the longer side of the box."""
    mask: NDArray[np.bool_]
    """(height, width) of the tile. True where this object is visible."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A window of a region with its truth."""

    image: NDArray[np.uint8]
    """(height, width, 3), RGB."""
    kinds: NDArray[np.uint8]
    """(height, width) of `Kind` values."""
    instances: tuple[Instance, ...]
    """Objects of at least `MIN_VISIBLE_PX`, in reading order of their boxes' upper left corners."""

    def area_px(self, kinds: frozenset[Kind]) -> int:
        """Visible pixels of these classes, slivers included."""
        return int(self.mask(kinds).sum())

    def mask(self, kinds: frozenset[Kind]) -> NDArray[np.bool_]:
        """(height, width). True where something of one of these classes is visible."""
        return np.isin(self.kinds, [int(kind) for kind in kinds])


def cut_tile(region: Region, x_px: int, y_px: int, side_px: int = 256) -> Tile:
    """The square of `side_px` whose upper left corner is at (x, y) of the region."""
    window = (slice(y_px, y_px + side_px), slice(x_px, x_px + side_px))
    numbers = region.instances[window]
    kind_of = region.kind_of()
    found: list[Instance] = []
    counts = np.bincount(numbers.ravel(), minlength=len(kind_of))
    for number in np.nonzero(counts >= MIN_VISIBLE_PX)[0]:
        if number:
            mask = numbers == number
            box = bounding_box(mask)
            found.append(Instance(Kind(int(kind_of[number])), box, two_points(mask, box), mask))
    found.sort(key=reading_order)
    return Tile(region.image[window], kind_of[numbers], tuple(found))


def reading_order(one: Instance) -> tuple[int, int, int]:
    """Sorts a tile's instances line by line, a line being 32 px, by their boxes' upper left corners."""
    x, y = one.box_tile_px[:2]
    return y // 32, x, y


def bounding_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """XYXY, half-open, of the True pixels. Raises `IndexError` on an empty mask."""
    columns, rows = np.nonzero(mask.any(axis=0))[0], np.nonzero(mask.any(axis=1))[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def two_points(mask: NDArray[np.bool_], box: tuple[int, int, int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """A pixel near the middle of each half of the mask, cut across its box's longer side, off the edge if it can be."""
    x0, y0, x1, y1 = box
    inner = _inside(mask[y0:y1, x0:x1])
    ys, xs = np.nonzero(inner)
    along = xs if x1 - x0 >= y1 - y0 else ys
    middle = np.median(along)
    halves = (along <= middle, along > middle)
    first, second = (_nearest_to_mean(xs, ys, half if half.any() else ~half) for half in halves)
    return (first[0] + x0, first[1] + y0), (second[0] + x0, second[1] + y0)


def _inside(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without its rim of 3 px, or of less where nothing would be left."""
    best = mask
    for _ in range(3):
        padded = np.pad(best, 1)
        shrunk = best & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        if not shrunk.any():
            break
        best = shrunk
    return best


def _nearest_to_mean(xs: NDArray[np.intp], ys: NDArray[np.intp], keep: NDArray[np.bool_]) -> tuple[int, int]:
    xs, ys = xs[keep], ys[keep]
    # Sums of whole numbers, scaled: no rounding of a mean can move the choice.
    off = (xs * len(xs) - xs.sum()) ** 2 + (ys * len(ys) - ys.sum()) ** 2
    at = int(np.argmin(off))
    return int(xs[at]), int(ys[at])
