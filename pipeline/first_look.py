"""The first look: coarse tiles are asked before fine ones, which are then asked only where something may be.

It trusts the prompter at the coarse level to say that something is not there. What is too small to be seen there is
lost, so it is for queries whose objects are large or rare; `docs/explanation/performance.md` says what it cost.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.committed import Committed
from pipeline.plan import IsIrrelevant, ScenePlan
from pipeline.results import TileStatus
from pipeline.scenes import Problem
from pipeline.tiling import TileKey

_NOTHING_THERE = (TileStatus.NO_TARGET.value, TileStatus.SKIPPED_NODATA.value)
"""What alone settles a question: a failed or unusable answer leaves it open."""


def irrelevant_by(looked: Committed, plan: ScenePlan) -> IsIrrelevant:
    """A tile's query is irrelevant if every coarse tile that touches the tile says that it is not there."""
    grid = plan.first_look
    assert grid is not None
    absent = _absent(looked.index, (grid.rows, grid.cols))

    def is_irrelevant(tile: TileKey, query_id: str) -> bool:
        if query_id not in absent:
            return False
        window = plan.grids[tile.level].window(tile.row, tile.col)
        return all(absent[query_id][row, col] for row, col in grid.over(window))

    return is_irrelevant


def first_look_problems(factor: int | None, levels: tuple[int, ...], max_level: int) -> list[Problem]:
    """Of the factor that a user asks for."""
    if factor is None:
        return []
    finest = min(levels, default=1)
    if factor <= finest or factor > max_level or factor & (factor - 1):
        text = f"{factor} is no coarser level; use a power of two above {finest} and at most {max_level}, e.g. 4."
        return [Problem("--first-look", text)]
    return []


def _absent(index: pa.Table, shape: tuple[int, int]) -> Mapping[str, NDArray[np.bool_]]:
    """By query id: (tile rows, tile columns), True where the query is not there."""
    absent: dict[str, NDArray[np.bool_]] = {}
    status, query_ids = (np.asarray(index[name]) for name in ("status", "query_id"))
    rows, cols = (np.asarray(index[name]) for name in ("row", "col"))
    settled: NDArray[Any] = np.isin(status, _NOTHING_THERE)
    for query_id in np.unique(query_ids).tolist():
        here = settled & (query_ids == query_id)
        absent[query_id] = np.zeros(shape, np.bool_)
        absent[query_id][rows[here], cols[here]] = True
    return absent
