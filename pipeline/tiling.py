"""Where tiles lie. Pure arithmetic: a grid is computed, never stored."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, Self

from t2s_core.errors import BadInput


class Window(NamedTuple):
    """Half-open rectangle of scene pixels; x to the right, y down."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Pixels along x."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Pixels along y."""
        return self.y1 - self.y0

    def intersection(self, other: Self) -> Self | None:
        """The common rectangle, or None where there is none."""
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        x1, y1 = min(self.x1, other.x1), min(self.y1, other.y1)
        return type(self)(x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None

    def slices_in(self, outer: Self) -> tuple[slice, slice]:
        """(rows, columns) that pick this window out of an array that covers `outer`."""
        return slice(self.y0 - outer.y0, self.y1 - outer.y0), slice(self.x0 - outer.x0, self.x1 - outer.x0)


class TileKey(NamedTuple):
    """Names a tile. As text, `scene_id/level/row/col`."""

    scene_id: str
    level: int
    """Overview factor: a tile of level 4 covers 4 x 4 times the ground of a tile of level 1."""
    row: int
    col: int

    def __str__(self) -> str:
        return f"{self.scene_id}/{self.level}/{self.row}/{self.col}"


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Square tiles over a scene, at one level.

    All tiles have the same side. The last of a row or column is moved inward to end with the scene, which gives the
    model real context instead of padding; only a scene smaller than a tile is padded.
    """

    width: int
    """Scene width in scene pixels."""
    height: int
    """Scene height in scene pixels."""
    tile_px: int
    """Tile side in pixels of the level."""
    overlap_px: int
    """What two neighbours share, in pixels of the level; at most half a tile."""
    level: int = 1
    """Overview factor."""

    def __post_init__(self) -> None:
        """Raises `BadInput` where tiles would have no core."""
        if not 0 <= self.overlap_px <= self.tile_px // 2:
            raise BadInput(
                f"overlap_px={self.overlap_px} is more than half a {self.tile_px} px tile; "
                f"use at most {self.tile_px // 2}."
                if self.overlap_px > 0
                else f"overlap_px={self.overlap_px} is negative; use 0 to {self.tile_px // 2}."
            )

    @property
    def side(self) -> int:
        """Tile side in scene pixels."""
        return self.tile_px * self.level

    @property
    def stride(self) -> int:
        """Scene pixels from one tile's start to the next."""
        return (self.tile_px - self.overlap_px) * self.level

    @property
    def rows(self) -> int:
        """How many tile rows there are."""
        return _count(self.height, self.side, self.stride)

    @property
    def cols(self) -> int:
        """How many tile columns there are."""
        return _count(self.width, self.side, self.stride)

    def window(self, row: int, col: int) -> Window:
        """The tile's window_scene_px; it leaves the scene only where that is smaller than the tile."""
        y0, x0 = _start(row, self.height, self.side, self.stride), _start(col, self.width, self.side, self.stride)
        return Window(x0, y0, x0 + self.side, y0 + self.side)

    def core(self, row: int, col: int) -> Window:
        """The part that is this tile's own: bounded by the middles of its overlaps. Cores partition the scene."""
        y0, y1 = _core(row, self.rows, self.height, self.side, self.stride)
        x0, x1 = _core(col, self.cols, self.width, self.side, self.stride)
        return Window(x0, y0, x1, y1)

    def over(self, area: Window) -> Iterator[tuple[int, int]]:
        """(row, col) of every tile whose window touches `area`, in row-major order."""
        return product(*self.spans(area))

    def spans(self, area: Window) -> tuple[range, range]:
        """Rows and columns of the tiles whose windows touch `area`."""
        return (
            _touching(area.y0, area.y1, count=self.rows, size=self.height, side=self.side, stride=self.stride),
            _touching(area.x0, area.x1, count=self.cols, size=self.width, side=self.side, stride=self.stride),
        )


def _count(size: int, side: int, stride: int) -> int:
    return 1 if size <= side else 1 + -(-(size - side) // stride)


def _start(index: int, size: int, side: int, stride: int) -> int:
    return min(index * stride, max(0, size - side))


def _core(index: int, count: int, size: int, side: int, stride: int) -> tuple[int, int]:
    def border(left: int) -> int:  # between tile `left` and the next: the middle of what they share
        return (_start(left, size, side, stride) + side + _start(left + 1, size, side, stride)) // 2

    return (0 if index == 0 else border(index - 1)), (size if index == count - 1 else border(index))


def _touching(low: int, high: int, *, count: int, size: int, side: int, stride: int) -> range:
    # Starts grow with the index, so the touching tiles are one run; the last may start early, hence its own check.
    first = max(0, min(count - 1, (low - side) // stride + 1))
    last = max(0, min(count - 1, -(-high // stride) - 1))
    if last == count - 2 and _start(count - 1, size, side, stride) < high:
        last = count - 1
    while first < last and _start(first, size, side, stride) + side <= low:
        first += 1
    return range(first, last + 1)
