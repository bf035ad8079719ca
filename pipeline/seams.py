"""Do masks show where tiles end? How often they change exactly there, against elsewhere.

A *line* lies between two neighbouring columns (or rows) of pixels, at x (or y) = the second of them; a *change* is a
pair of pixels across it of which one is target and the other background. Along the lines at which a window of a tile
begins or ends, changes should be as frequent as along others.

The test: pixels along a line are no independent draws (one straight roof on a line makes a hundred changes), so the
lines of the tile grid are compared with themselves moved: by every shift of less than a tile's stride, in x and in y,
the same pattern of lines is counted where no tile ends. `p` is the share of the shifts (the true place among them) that
show changes at least as frequent as the true place does. A mosaic is flagged where p is at most `FLAG_P`: by chance
alone that happens to one mosaic in 200. With fewer than 200 shifts, as where tiles lie side by side in one direction
only and are small, nothing can be flagged.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch import NOBODY_LOOKED
from pipeline.tiling import TileGrid, Window

FLAG_P = 0.005
MAX_SHIFTS = 255
"""In each direction, evenly spread over the stride; they bound the work, which grows with their product."""

_ROWS_IN_A_BYTE = 255

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LineCounts:
    """Changes and pairs of looked-at pixels, by line: of a block, or of a whole scene. Line 0 is the edge: no pair."""

    changes_x: Ints
    pairs_x: Ints
    changes_y: Ints
    pairs_y: Ints


@dataclass(frozen=True, slots=True)
class BlockSeams:
    """What a block knows: its inner lines, and its outermost pixels for the lines that it shares with others."""

    window_scene_px: Window
    counts: LineCounts
    sides: tuple[NDArray[np.uint8], ...]
    """Mask along the left, right, upper and lower side."""


def block_seams(window: Window, mask: NDArray[np.uint8]) -> BlockSeams:
    """`mask`: (height, width) of `window`: 0, 1, or 255 where nobody looked."""
    changes_y, pairs_y = _between(mask[:-1], mask[1:], axis=1)
    changes_x, pairs_x = _between(mask[:, :-1], mask[:, 1:], axis=0)
    counts = LineCounts(*(np.concatenate(([0], n)) for n in (changes_x, pairs_x, changes_y, pairs_y)))
    sides = (mask[:, 0], mask[:, -1], mask[0], mask[-1])
    return BlockSeams(window, counts, tuple(np.ascontiguousarray(side) for side in sides))


def _between(one: NDArray[np.uint8], other: NDArray[np.uint8], axis: int) -> tuple[Ints, Ints]:
    """(changes, pairs) between masks, summed along the axis."""
    changed = one != other
    if max(one.max(initial=0), other.max(initial=0)) != NOBODY_LOOKED:
        return _sum_along(changed, axis), np.full(one.shape[1 - axis], one.shape[axis], np.int64)
    looked = (one != NOBODY_LOOKED) & (other != NOBODY_LOOKED)
    changed &= looked
    return _sum_along(changed, axis), _sum_along(looked, axis)


def _sum_along(flags: NDArray[np.bool_], axis: int) -> Ints:
    """How many are True."""
    ones = flags.view(np.uint8)
    if axis == 1:
        total: Ints = ones.sum(axis=1, dtype=np.int64)
        return total
    total = np.zeros(ones.shape[1], np.int64)
    for y in range(0, len(ones), _ROWS_IN_A_BYTE):  # by far the fastest, as bytes
        total += ones[y : y + _ROWS_IN_A_BYTE].sum(axis=0, dtype=np.uint8)
    return total


class SeamCount:
    """Adds up blocks, which come in any order. Memory is for a few numbers by line and the sides at the front."""

    def __init__(self, shape: tuple[int, int]) -> None:
        """`shape`: (height, width) of the scene."""
        height, width = shape
        self.counts = LineCounts(*(np.zeros(n, np.int64) for n in (width, width, height, height)))
        self._half_seen: dict[tuple[str, int, int], NDArray[np.uint8]] = {}

    def add(self, block: BlockSeams) -> None:
        """Each block once."""
        (x0, y0, x1, y1), total = block.window_scene_px, self.counts
        for mine, whole, start in (
            (block.counts.changes_x, total.changes_x, x0), (block.counts.pairs_x, total.pairs_x, x0),
            (block.counts.changes_y, total.changes_y, y0), (block.counts.pairs_y, total.pairs_y, y0),
        ):  # fmt: skip
            whole[start : start + len(mine)] += mine
        lines = (("x", x0, y0), ("x", x1, y0), ("y", y0, x0), ("y", y1, x0))
        for line, side in zip(lines, block.sides, strict=True):
            if line not in self._half_seen:
                self._half_seen[line] = side
                continue
            changes, pairs = _between(side[np.newaxis], self._half_seen.pop(line)[np.newaxis], axis=1)
            axis, at, _ = line
            (total.changes_x if axis == "x" else total.changes_y)[at] += changes[0]
            (total.pairs_x if axis == "x" else total.pairs_y)[at] += pairs[0]


def tile_lines(grids: Iterable[TileGrid], *, axis: str) -> Ints:
    """Where along an axis (`x` or `y`) a tile's window begins or ends, the scene's own edges left out; sorted."""
    lines: set[int] = set()
    for grid in grids:
        size = grid.width if axis == "x" else grid.height
        windows = (grid.window(0, i) if axis == "x" else grid.window(i, 0) for i in range(_count(grid, axis)))
        ends = {end for w in windows for end in ((w.x0, w.x1) if axis == "x" else (w.y0, w.y1))}
        lines |= {end for end in ends if 0 < end < size}
    return np.array(sorted(lines), np.int64)


def _count(grid: TileGrid, axis: str) -> int:
    return grid.cols if axis == "x" else grid.rows


def seam_check(counts: LineCounts, grids: Mapping[int, TileGrid]) -> dict[str, Any]:
    """What run.json says of a mosaic: see the module's docstring. Where no tile ends inside, `p` is 1.

    `changes`, `pairs`: at tile borders. `rate` and `rate_elsewhere`: changes per pair, 0 where there is no pair.
    `ratio`: of the two, None where it has no value.
    """
    stride = min((grid.stride for grid in grids.values()), default=1)
    lines_x, lines_y = (tile_lines(grids.values(), axis=axis) for axis in ("x", "y"))
    changes_x, pairs_x = _moved(counts.changes_x, counts.pairs_x, lines_x, stride)
    changes_y, pairs_y = _moved(counts.changes_y, counts.pairs_y, lines_y, stride)
    changes, pairs = int(changes_x[0] + changes_y[0]), int(pairs_x[0] + pairs_y[0])
    rate = changes / pairs if pairs else 0.0
    all_changes = int(counts.changes_x.sum() + counts.changes_y.sum())
    all_pairs = int(counts.pairs_x.sum() + counts.pairs_y.sum())
    elsewhere = (all_changes - changes) / (all_pairs - pairs) if all_pairs > pairs else 0.0
    # In a direction without lines there is nothing to move; in the other, the true place is no shift.
    moved_changes = (changes_x[1:] if len(lines_x) else changes_x)[:, None] + (
        changes_y[1:] if len(lines_y) else changes_y
    )
    moved_pairs = (pairs_x[1:] if len(lines_x) else pairs_x)[:, None] + (pairs_y[1:] if len(lines_y) else pairs_y)
    comparable = moved_pairs > 0
    as_frequent = int((moved_changes[comparable] >= rate * moved_pairs[comparable]).sum())
    some = pairs > 0 and (len(lines_x) or len(lines_y))
    p = (1 + as_frequent) / (1 + int(comparable.sum())) if some and changes else 1.0
    return {
        "changes": changes, "pairs": pairs, "rate": rate, "rate_elsewhere": elsewhere,
        "ratio": rate / elsewhere if elsewhere else None, "p": p, "flagged": p <= FLAG_P,
    }  # fmt: skip


def _moved(changes: Ints, pairs: Ints, lines: Ints, stride: int) -> tuple[Ints, Ints]:
    """(1 + shifts,) changes and pairs at the lines, first where they are, then moved, without tile borders."""
    size = len(changes)
    is_line = np.zeros(size, np.bool_)
    is_line[lines] = True
    shifts = np.unique(np.linspace(1, max(stride - 1, 1), min(max(stride - 1, 1), MAX_SHIFTS)).astype(np.int64))
    sums = [(int(changes[lines].sum()), int(pairs[lines].sum()))]
    for shift in shifts.tolist():
        places = (lines + shift) % size
        places = places[(places > 0) & ~is_line[places]]
        sums.append((int(changes[places].sum()), int(pairs[places].sum())))
    both = np.array(sums, np.int64)
    return both[:, 0], both[:, 1]
