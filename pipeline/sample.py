"""A spread of a run's tiles, to look at before a region is paid for."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from pipeline.plan import Chosen, ScenePlan
from pipeline.storage import Store

FOLDER = "sample"
"""Of a run's directory: where its sample is a run of its own."""

_STEPS = 0.7548776662466927, 0.5698402909980532
"""Roberts's R2 sequence: whatever is taken of it from the start lies evenly in the unit square."""
_TRIES = 50
"""Squared, how many places are tried before tiles are taken as they come."""


def spread(plans: Sequence[ScenePlan], n: int) -> dict[str, Chosen]:
    """By scene, `n` tiles of the finest level in all, or all there are, and what lies over them at other levels.

    Each scene has its share of them, by its tiles; the same inputs give the same sample. Scenes without any are left
    out. Which pixels are data is not looked at: at the edge of a swath a tile may be empty.
    """
    counts = [plan.counts()[min(plan.grids)] for plan in plans]
    chosen = {}
    for plan, share in zip(plans, _shares(counts, n), strict=True):
        if share:
            chosen[plan.scene.scene_id] = _with_what_lies_over(plan, list(islice(_places(plan), share)))
    return chosen


def keep(sample: Store, store: Store) -> int:
    """Give a sample's tile results to the run that it is a sample of; returns how many objects that were new to it."""
    new = [name for name in sample.names("tiles", ".parquet") if not store.exists(name)]
    for name in new:
        store.write(name, sample.read(name))
    return len(new)


def _shares(counts: Sequence[int], n: int) -> list[int]:
    """Whole numbers in proportion to `counts`, `n` in all or all there are: cuts at equal distances."""
    ends = np.cumsum([0, *counts])
    cuts = np.round(ends * (min(n, int(ends[-1])) / max(1, int(ends[-1])))).astype(np.int64)
    return [int(share) for share in np.diff(cuts)]


def _places(plan: ScenePlan) -> Iterator[tuple[int, int, int]]:
    """(level, row, col) of the finest level's tiles, each once, the most evenly spread first."""
    level = min(plan.grids)
    grid = plan.grids[level]
    seen = set()
    for i in range(1, _TRIES**2):
        row, col = (int((0.5 + i * step) % 1 * size) for step, size in zip(_STEPS, (grid.rows, grid.cols), strict=True))
        if (row, col) not in seen and plan.tile(level, row, col) is not None:
            seen.add((row, col))
            yield level, row, col
    for tile in plan.tiles():
        if tile.key.level == level and (tile.key.row, tile.key.col) not in seen:
            yield level, tile.key.row, tile.key.col


def _with_what_lies_over(plan: ScenePlan, tiles: Sequence[tuple[int, int, int]]) -> Chosen:
    chosen = set(tiles)
    plans = [plan] if plan.first_look is None else [plan, plan.look()]
    for level, row, col in tiles:
        core = plan.grids[level].core(row, col)
        over = (tile.key for some in plans for tile in some.tiles_over(core))
        chosen |= {(key.level, key.row, key.col) for key in over if key.level != level}
    return frozenset(chosen)
