"""What became of a scene's tiles, as few rectangles: neighbours that came to the same are one."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.mosaics import COVERAGE, group_path, open_group
from pipeline.scenes import Scene
from pipeline.storage import Store
from pipeline.tiling import TileGrid, Window

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
_READERS = 8


class Cover(NamedTuple):
    """Tiles that came to the same, as a rectangle of scene pixels."""

    window_scene_px: Window
    status: str
    """The worst over all queries."""
    tile: str
    """`level/row/col` where it is one tile, else how many these are."""


def coverage(store: Store, scene: Scene, query_ids: Sequence[str], levels: Sequence[int]) -> dict[int, Any]:
    """By level, (tile rows, tile columns): the worst status over the queries, as its place in `WORST_FIRST`."""

    def codes(place: tuple[str, int]) -> NDArray[np.uint8]:
        query_id, level = place
        return np.asarray(open_group(store, group_path(scene.scene_id, query_id))[f"coverage_l{level}"])

    rank = np.array([WORST_FIRST.index(status) for status in COVERAGE], np.uint8)
    with ThreadPoolExecutor(_READERS) as readers:
        places = [(query_id, level) for level in levels for query_id in query_ids]
        found = list(readers.map(codes, places))
    n = len(query_ids)
    return {level: rank[np.stack(found[i * n : i * n + n])].min(axis=0) for i, level in enumerate(levels)}


def covers(grid: TileGrid, worst: NDArray[np.uint8]) -> Iterator[Cover]:
    """Rectangles that partition the scene. `worst`: see `coverage`."""
    open_runs: dict[tuple[int, int, int], tuple[int, int]] = {}
    for row in range(grid.rows + 1):
        runs = set(_runs(worst[row])) if row < grid.rows else set()
        for run in [run for run in open_runs if run not in runs or WORST_FIRST[run[2]] in ALONE]:
            yield _cover(grid, run, *open_runs.pop(run))
        for run in runs:
            first, _ = open_runs.get(run, (row, row))
            open_runs[run] = first, row


def _runs(codes: NDArray[np.uint8]) -> Iterator[tuple[int, int, int]]:
    """(first column, last column, code) of equal neighbours; those that stay alone, one by one."""
    start = 0
    values = codes.tolist()
    for col in range(1, len(values) + 1):
        if col == len(values) or values[col] != values[start] or WORST_FIRST[values[start]] in ALONE:
            yield start, col - 1, values[start]
            start = col


def _cover(grid: TileGrid, run: tuple[int, int, int], first_row: int, last_row: int) -> Cover:
    left, right, code = run
    start, end = grid.core(first_row, left), grid.core(last_row, right)
    n = (right - left + 1) * (last_row - first_row + 1)
    name = f"{grid.level}/{first_row}/{left}" if n == 1 else f"{n:,} tiles of level {grid.level}"
    return Cover(Window(start.x0, start.y0, end.x1, end.y1), WORST_FIRST[code], name)


def reasons_of(manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    """By tile (`scene_id/level/row/col`), what failed in it and why."""
    reasons: dict[str, list[str]] = {}
    for failure in [*manifest["failures"], *manifest["unparsable"]]:
        reasons.setdefault(failure["tile"], []).append(f"{failure['query_id']}: {failure['reason']}")
    return reasons
