"""What became of a scene's tiles, as few rectangles: neighbours that came to the same are one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.mosaics import COVERAGE, group_path, open_group
from pipeline.scenes import Scene
from pipeline.storage import Store
from pipeline.tiling import TileGrid, Window

Codes = NDArray[np.uint8]

WORST_FIRST = (
    "failed",
    "unparsable",
    "pending",
    "ok",
    "no_target",
    "skipped_irrelevant",
    "skipped_nodata",
    "not_planned",
)
ALONE = ("failed", "unparsable")
"""Statuses whose tiles are not joined, for each has its reason."""
_NOT_PLANNED = len(WORST_FIRST) - 1
_READERS = 8


class Cover(NamedTuple):
    """Tiles that came to the same, as a rectangle of scene pixels."""

    window_scene_px: Window
    status: str
    """The worst over all queries, and over the tiles where they differ."""
    tile: str
    """`level/row/col` where it is one tile, else how many these are."""


Kind = Callable[[TileGrid, Codes, int], Iterator[Cover]]
"""`covers` or `faults`."""


def coverage(store: Store, scene: Scene, query_ids: Sequence[str], levels: Sequence[int]) -> dict[int, Codes]:
    """By level, (tile rows, tile columns): the worst status over the queries, as its place in `WORST_FIRST`."""
    rank = np.array([WORST_FIRST.index(status) for status in COVERAGE], np.uint8)

    def ranks(query_id: str) -> list[Codes]:
        group = open_group(store, group_path(scene.scene_id, query_id))
        return [rank[np.asarray(group[f"coverage_l{level}"])] for level in levels]

    worst: list[Codes] = []
    with ThreadPoolExecutor(_READERS) as readers:
        for found in readers.map(ranks, query_ids):
            worst = [np.minimum(a, b) for a, b in zip(worst, found, strict=True)] if worst else found
    return dict(zip(levels, worst, strict=True))


def covers(grid: TileGrid, worst: Codes, factor: int = 1) -> Iterator[Cover]:
    """Rectangles that hold all planned tiles but those of `ALONE`, and no others. `worst`: see `coverage`.

    `factor`: blocks of `factor` x `factor` tiles count as one, which came to the worst of theirs.
    """
    blocks = _blocks(np.where(_alone(worst), _NOT_PLANNED, worst).astype(np.uint8), factor)
    for rectangle in _rectangles(blocks):
        window, rows, cols = _tiles_of(grid, rectangle, factor)
        n = len(rows) * len(cols)
        name = f"{grid.level}/{rows[0]}/{cols[0]}" if n == 1 else f"{n:,} tiles of level {grid.level}"
        yield Cover(window, WORST_FIRST[rectangle.code], name)


def faults(grid: TileGrid, worst: Codes, factor: int = 1) -> Iterator[Cover]:
    """The tiles of `ALONE`, each on its own; where `factor` is more than 1, rectangles of blocks in which some are."""
    alone = _alone(worst)
    if factor == 1:
        for place in np.flatnonzero(alone):  # not as a list: a failed region has millions
            row, col = divmod(int(place), grid.cols)
            yield Cover(grid.core(row, col), WORST_FIRST[worst[row, col]], f"{grid.level}/{row}/{col}")
        return
    for rectangle in _rectangles(_blocks(np.where(alone, worst, _NOT_PLANNED).astype(np.uint8), factor)):
        window, rows, cols = _tiles_of(grid, rectangle, factor)
        n = int(alone[rows.start : rows.stop, cols.start : cols.stop].sum())
        name = f"{n:,} of {len(rows) * len(cols):,} tiles of level {grid.level}"
        yield Cover(window, WORST_FIRST[rectangle.code], name)


def coarseness(every: Sequence[tuple[TileGrid, Codes]], most: int, kind: Kind) -> int:
    """The smallest power of two as `factor` by which `kind` makes at most `most` of all these, or one to a grid."""
    factor, coarsest = 1, max((max(worst.shape) for _, worst in every), default=1)

    def n_up_to_most() -> int:
        made = chain.from_iterable(kind(grid, worst, factor) for grid, worst in every)
        return sum(1 for _ in islice(made, most + 1))

    while factor < coarsest and n_up_to_most() > most:
        factor *= 2
    return factor


class _Rectangle(NamedTuple):
    """Of blocks: first and last row and column, and what they came to."""

    top: int
    bottom: int
    left: int
    right: int
    code: int


def _alone(worst: Codes) -> NDArray[np.bool_]:
    return np.isin(worst, [WORST_FIRST.index(status) for status in ALONE])


def _blocks(worst: Codes, factor: int) -> Codes:
    """(rows / factor, columns / factor), rounded up: the worst of each block."""
    for axis, size in enumerate(worst.shape):
        worst = np.minimum.reduceat(worst, np.arange(0, size, factor), axis=axis)
    return worst


def _tiles_of(grid: TileGrid, rectangle: _Rectangle, factor: int) -> tuple[Window, range, range]:
    """The ground of a rectangle of blocks, and its tiles' rows and columns."""
    rows = range(rectangle.top * factor, min((rectangle.bottom + 1) * factor, grid.rows))
    cols = range(rectangle.left * factor, min((rectangle.right + 1) * factor, grid.cols))
    start, end = grid.core(rows[0], cols[0]), grid.core(rows[-1], cols[-1])
    return Window(start.x0, start.y0, end.x1, end.y1), rows, cols


def _rectangles(codes: Codes) -> Iterator[_Rectangle]:
    """What is planned of it: equal neighbours of a row are a run, equal runs of neighbouring rows a rectangle."""
    starts, ends = np.ones(codes.shape, np.bool_), np.ones(codes.shape, np.bool_)
    starts[:, 1:] = ends[:, :-1] = codes[:, 1:] != codes[:, :-1]
    row, left = np.nonzero(starts)
    runs = np.column_stack([left, np.nonzero(ends)[1], codes[row, left], row])
    runs = runs[runs[:, 2] != _NOT_PLANNED]
    if not len(runs):
        return
    runs = runs[np.lexsort(runs.T[[3, 2, 1, 0]])]  # by column and code, and rows that follow each other together
    is_next = (np.diff(runs[:, :3], axis=0) == 0).all(axis=1) & (np.diff(runs[:, 3]) == 1)
    first = np.flatnonzero(np.concatenate([[True], ~is_next]))
    last = np.append(first[1:], len(runs)) - 1
    for (left_, right, code, top), bottom in zip(runs[first].tolist(), runs[last, 3].tolist(), strict=True):
        yield _Rectangle(top, bottom, left_, right, code)


def reasons_of(manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    """By tile (`scene_id/level/row/col`), what failed in it and why."""
    reasons: dict[str, list[str]] = {}
    for failure in [*manifest["failures"], *manifest["unparsable"]]:
        reasons.setdefault(failure["tile"], []).append(f"{failure['query_id']}: {failure['reason']}")
    return reasons
