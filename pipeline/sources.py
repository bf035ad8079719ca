"""Which committed tile results a block of a scene needs, and how they are read."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.results import TileResult, TileStatus, read_results
from pipeline.storage import Store
from pipeline.tiling import TileGrid, TileKey, Window


@dataclass(frozen=True, slots=True)
class Sources:
    """The usable results of one query that touch one block. Small, so that it can travel to a worker."""

    store: Store
    scene_id: str
    window_scene_px: Window
    grids: Mapping[int, TileGrid]
    """By level."""
    keys_by_batch: tuple[tuple[str, frozenset[str]], ...]
    """(object name, keys of its rows), in order of the names."""
    clear: tuple[TileKey, ...] = ()
    """Tiles that saw nothing in the whole of their windows: all that could be read of them is known."""

    @property
    def digest(self) -> int:
        """What tells the results of a block from others, in this process."""
        return hash((self.keys_by_batch, self.clear))


def sources_touching(
    store: Store, scene_id: str, index: pa.Table, grids: Mapping[int, TileGrid], windows: Iterable[Window]
) -> Iterator[Sources]:
    """Each window's sources, without results that saw nothing. `index`: `results.read_index` of one scene and query."""
    places = {level: np.full((grid.rows, grid.cols), -1, np.int64) for level, grid in grids.items()}
    seen = pa.array([status.value for status in TileStatus if status.seen])
    index = index.filter(pc.is_in(index["status"], seen))
    levels, rows, cols = (np.asarray(index[name]) for name in ("level", "row", "col"))
    for level in grids:
        here = np.flatnonzero(levels == level)
        places[level][rows[here], cols[here]] = here
    batches, result_keys = index["batch"], index["key"]
    without = pc.not_equal(index["status"], TileStatus.OK.value)
    is_clear = np.asarray(pc.and_(without, index["all_valid"]))
    for window in windows:
        keys: dict[str, set[str]] = {}
        clear: list[TileKey] = []
        for level, grid in grids.items():
            for row, col in grid.over(window):
                place = places[level][row, col]
                if place >= 0 and is_clear[place]:
                    clear.append(TileKey(scene_id, level, row, col))
                elif place >= 0:
                    keys.setdefault(batches[place].as_py(), set()).add(result_keys[place].as_py())
        by_batch = tuple((batch, frozenset(keys[batch])) for batch in sorted(keys))
        yield Sources(store, scene_id, window, dict(grids), by_batch, tuple(clear))


def read_sources(sources: Sources) -> Iterator[TileResult]:
    """The results but for `Sources.clear`, one batch in memory at a time."""
    for batch, keys in sources.keys_by_batch:
        yield from read_results(sources.store, batch, keys=keys, scene_id=sources.scene_id)
