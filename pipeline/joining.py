"""Pieces of objects that block borders cut, made whole again as the blocks come in.

An object is handed on as soon as no block that is still to come can add to it, so memory holds what crosses the front
between the blocks that came and those that did not, and never the scene.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from pipeline.link import Instance
from pipeline.tiling import Window
from pipeline.vectorise import BlockPieces, Piece


class Joiner(Protocol):
    """Takes the blocks of a scene, each once, in any order."""

    def add(self, block: BlockPieces) -> list[Piece]:
        """The objects that this block completes. After the last block none is left."""
        ...


class ByBorder:
    """Pieces are one object where pixels of theirs lie side by side across a border: the semantic mode."""

    def __init__(self, windows: Iterable[Window]) -> None:
        """`windows`: of all blocks that will come."""
        self._shared = Counter(line for window in windows for line in _lines(window))
        self._half_seen: dict[tuple[str, int, int], NDArray[np.int64]] = {}
        """By border of which one side came: the piece of each pixel along it, 0 where none is."""
        self._pieces: dict[int, list[tuple[int, Piece]]] = {}
        """By the number of an object's first piece, all its pieces with their numbers."""
        self._borders: Counter[int] = Counter()
        """By object: how many borders it touches whose other side is to come, as often as pieces of it touch one."""
        self._first: dict[int, int] = {}
        """By piece, an earlier one of the same object, or itself."""
        self._n = 0

    def add(self, block: BlockPieces) -> list[Piece]:
        """See `Joiner.add`."""
        offset, self._n = self._n, self._n + len(block.pieces)
        numbers = range(offset + 1, self._n + 1)
        for number, piece in zip(numbers, block.pieces, strict=True):
            self._first[number], self._pieces[number] = number, [(number, piece)]
        touched = set(numbers)
        sides = block.sides or (np.zeros(0, np.int32),) * 4
        for line, side in zip(_lines(block.window_scene_px), sides, strict=True):
            if self._shared[line] > 1:
                touched |= self._meet(line, np.where(side > 0, side.astype(np.int64) + offset, 0))
        complete = sorted({first for first in map(self._find, touched) if not self._borders[first]})
        return [self._take(first) for first in complete]

    def _meet(self, line: tuple[str, int, int], mine: NDArray[np.int64]) -> set[int]:
        """Returns the pieces of the other side, where that came before."""
        if line not in self._half_seen:
            self._half_seen[line] = mine
            self._borders.update(map(self._find, np.unique(mine[mine > 0]).tolist()))
            return set()
        theirs = self._half_seen.pop(line)
        waited = set(np.unique(theirs[theirs > 0]).tolist())
        for number in waited:
            self._borders[self._find(number)] -= 1
        if len(theirs) and len(mine):
            meeting = (mine > 0) & (theirs > 0)
            for one, other in np.unique(np.column_stack([mine, theirs])[meeting], axis=0).tolist():
                self._unite(one, other)
        return waited

    def _unite(self, one: int, other: int) -> None:
        first, second = sorted((self._find(one), self._find(other)))
        if first != second:
            self._first[second] = first
            self._pieces[first] += self._pieces.pop(second)
            self._borders[first] += self._borders.pop(second, 0)

    def _find(self, number: int) -> int:
        while self._first[number] != number:
            self._first[number] = self._first[self._first[number]]
            number = self._first[number]
        return number

    def _take(self, first: int) -> Piece:
        del self._borders[first]
        numbered = self._pieces.pop(first)
        for number, _ in numbered:
            del self._first[number]
        return joined([piece for _, piece in numbered])


class ByOwner:
    """Pieces are one object where they have one owner: the instance mode."""

    def __init__(self, windows: Sequence[Window], reach: Callable[[Instance], Iterable[Window]]) -> None:
        """`windows`: of all blocks that will come. `reach`: the windows of the tiles that an owner has a mask in."""
        self._blocks = shapely.STRtree([shapely.box(*window) for window in windows])
        self._number = {window: i for i, window in enumerate(windows)}
        self._to_come = set(self._number.values())
        self._reach = reach
        self._pieces: dict[Instance, list[Piece]] = {}
        self._blocks_left: dict[Instance, set[int]] = {}
        self._waiting: dict[int, list[Instance]] = {}
        """By block to come, the owners that it may add to."""

    def add(self, block: BlockPieces) -> list[Piece]:
        """See `Joiner.add`."""
        here = self._number[block.window_scene_px]
        self._to_come.remove(here)
        for piece in block.pieces:
            assert piece.owner is not None
            if piece.owner not in self._pieces:
                self._expect(piece.owner, here)
            self._pieces[piece.owner].append(piece)
        complete = []
        for owner in self._waiting.pop(here, []):
            self._blocks_left[owner].remove(here)
            if not self._blocks_left[owner]:
                del self._blocks_left[owner]
                complete.append(joined(self._pieces.pop(owner)))
        return complete

    def _expect(self, owner: Instance, here: int) -> None:
        windows = [shapely.box(*window) for window in self._reach(owner)]
        left = {here} | (set(np.unique(self._blocks.query(windows)[1]).tolist()) & self._to_come)
        self._pieces[owner], self._blocks_left[owner] = [], left
        for block in left:
            self._waiting.setdefault(block, []).append(owner)


def joined(pieces: Sequence[Piece]) -> Piece:
    """One piece of all. Corners are whole numbers, so the union is exact."""
    if len(pieces) == 1:
        return pieces[0]
    claims = sum((piece.claims_px for piece in pieces), Counter())
    united = shapely.union_all([piece.polygon_scene_px for piece in pieces])
    parts = [_without_straight_vertices(part) for part in shapely.get_parts(united)]
    return Piece(
        polygon_scene_px=parts[0] if len(parts) == 1 else MultiPolygon(parts),
        n_px=sum(piece.n_px for piece in pieces),
        probability_codes=sum(piece.probability_codes for piece in pieces),
        claims_px=claims,
        owner=pieces[0].owner,
    )


def _lines(window: Window) -> tuple[tuple[str, int, int], ...]:
    """The left, right, upper and lower border, each named alike by both blocks that share it."""
    x0, y0, x1, y1 = window
    return ("x", x0, y0), ("x", x1, y0), ("y", y0, x0), ("y", y1, x0)


def _without_straight_vertices(polygon: Polygon) -> Polygon:
    """The same polygon without the vertices that a union leaves where a block border crossed an edge."""
    return Polygon(_corners(polygon.exterior.coords), [_corners(ring.coords) for ring in polygon.interiors])


def _corners(ring: Iterable[tuple[float, ...]]) -> NDArray[np.float64]:
    points = np.asarray(ring, np.float64)[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    corners: NDArray[np.float64] = points[turns != 0]
    return corners
