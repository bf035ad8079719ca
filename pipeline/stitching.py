"""From a scene's tile results to the mosaic of one query: block by block on the workers, each block written once."""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.blocks import blocks, check_single_writer
from pipeline.mosaics import COVERAGE, FINGERPRINT, Layout, create, finish, finished, group_path, write_block
from pipeline.queries import Query
from pipeline.results import TileResult
from pipeline.scenes import Scene
from pipeline.seams import BlockSeams, SeamCount, block_seams, seam_check
from pipeline.sources import Sources, read_sources, sources_touching
from pipeline.stitch import Block, stitch_window, threshold_mask
from pipeline.storage import Store
from pipeline.threads import ahead, behind
from pipeline.tiling import TileGrid, TileKey
from pipeline.work import Workers

_BLOCKS_AT_ONCE = 4
"""Blocks that a worker makes in one task, at most."""


@dataclass(frozen=True, slots=True)
class StitchReceipt:
    """What came of stitching one query of one scene."""

    scene_id: str
    query_id: str
    reused: bool
    """True where a finished mosaic of the same inputs was found and nothing was done."""
    target_px: int
    background_px: int
    unseen_px: int
    """Scene pixels that nobody looked at."""
    seams: Mapping[str, Any]
    """How often the mask changes at tile borders: see `seams.seam_check`."""


def stitch_scene_query(
    store: Store,
    scene: Scene,
    query: Query,
    *,
    threshold: float,
    index: pa.Table,
    grids: Mapping[int, TileGrid],
    workers: Workers,
    planned: Mapping[int, NDArray[np.bool_]],
    fingerprint: str,
    trace: Mapping[str, str] = MappingProxyType({}),
    layout: Layout = Layout(),
) -> StitchReceipt:
    """Make the mosaic of one query of one scene, unless it is there already.

    `threshold`: probability (0 to 1) from which a pixel is target. `index`: `results.read_index` of the results that
    are wanted of this scene and query, and of no others. `grids`: by level. `planned`: see `planned_tiles`.
    `fingerprint`: hash of all inputs; a complete mosaic with the same one is left as it is. `trace`: kept on the group.

    Memory is bounded by the block, here and on the workers.
    """
    found = finished(store, scene.scene_id, query.query_id)
    if found is not None and found[FINGERPRINT] == fingerprint:
        return StitchReceipt(
            scene.scene_id, query.query_id, reused=True, seams=found["t2s:seams"], **found["t2s:pixels"]
        )
    windows = list(blocks(scene.shape, layout.writer_px, layout.block_px))
    check_single_writer(windows, layout.writer_px)
    facts = {"t2s:query": query.text, "t2s:threshold": threshold, "t2s:block_px": layout.block_px, **trace}
    coverage = coverage_codes(index, planned)
    create(store, scene, query.query_id, coverage, attributes=facts, fingerprint=fingerprint, layout=layout)
    sources = sources_touching(store, scene.scene_id, index, grids, windows)
    seam_count = SeamCount(scene.shape)
    path = group_path(scene.scene_id, query.query_id)
    # few enough that every worker gets some
    at_once = max(1, min(_BLOCKS_AT_ONCE, len(windows) // (2 * workers.threads)))
    counts = _stitch_blocks(sources, path, threshold, workers, seam_count, at_once=at_once)
    seams = seam_check(seam_count.counts, grids)
    unseen_px = scene.shape[0] * scene.shape[1] - counts.target_px - counts.background_px
    pixels = {**asdict(counts), "unseen_px": unseen_px}
    attributes = {"t2s:pixels": pixels, "t2s:seams": seams}
    finish(store, scene, query.query_id, workers, attributes=attributes, layout=layout)
    return StitchReceipt(scene.scene_id, query.query_id, reused=False, seams=seams, **pixels)


def planned_tiles(grids: Mapping[int, TileGrid], tiles: Iterable[TileKey]) -> dict[int, NDArray[np.bool_]]:
    """By level, (tile rows, tile columns): True where a tile is among `tiles`."""
    planned = {level: np.zeros((grid.rows, grid.cols), np.bool_) for level, grid in grids.items()}
    for tile in tiles:
        planned[tile.level][tile.row, tile.col] = True
    return planned


def coverage_codes(index: pa.Table, planned: Mapping[int, NDArray[np.bool_]]) -> dict[int, NDArray[np.uint8]]:
    """By level, (tile rows, tile columns) of codes into `COVERAGE`. A planned tile without a result is pending."""
    codes = {
        level: np.where(tiles, COVERAGE.index("pending"), COVERAGE.index("not_planned")).astype(np.uint8)
        for level, tiles in planned.items()
    }
    level, row, col = (np.asarray(index[name]) for name in ("level", "row", "col"))
    found = pc.index_in(index["status"], pa.array(COVERAGE))
    code = np.asarray(found).astype(np.uint8)
    for factor, of_level in codes.items():
        here = level == factor
        of_level[row[here], col[here]] = code[here]
    return codes


@dataclass(frozen=True, slots=True)
class _Counts:
    target_px: int
    background_px: int


@dataclass(frozen=True, slots=True)
class _StitchTask:
    sources: tuple[Sources, ...]
    """Of blocks that one worker makes one after the other."""
    path: str
    threshold: float


def _stitch_blocks(
    sources: Iterable[Sources], path: str, threshold: float, workers: Workers, seam_count: SeamCount, *, at_once: int
) -> _Counts:
    # A block that no usable result touches keeps its fill value: nobody looked.
    wanted = (s for s in sources if s.keys_by_batch or s.clear)
    tasks = (_StitchTask(some, path, threshold) for some in iter(lambda: tuple(islice(wanted, at_once)), ()))
    target_px = background_px = 0
    for made in workers.map(_stitch, tasks):
        for counts, seams in made:
            seam_count.add(seams)
            target_px += counts.target_px
            background_px += counts.background_px
    return _Counts(target_px, background_px)


def _stitch(task: _StitchTask) -> list[tuple[_Counts, BlockSeams]]:
    """Each block in turn, while the results of the next are read and the one before is written."""
    made = []

    def write(done: tuple[Store, Block, NDArray[np.uint8]]) -> None:
        store, block, mask = done
        write_block(store, task.path, block.window_scene_px, block.probability, mask)

    with ahead(_read(task.sources), 1) as read, behind(write, 1) as put:
        for sources, results in read:
            block = stitch_window(sources.window_scene_px, results, sources.grids, clear=sources.clear)
            mask = threshold_mask(block.probability, task.threshold)
            put((sources.store, block, mask))
            counts = _Counts(target_px=int(np.count_nonzero(mask == 1)), background_px=int(np.count_nonzero(mask == 0)))
            made.append((counts, block_seams(block.window_scene_px, mask)))
    return made


def _read(blocks_sources: Iterable[Sources]) -> Generator[tuple[Sources, list[TileResult]], None, None]:
    for sources in blocks_sources:
        yield sources, list(read_sources(sources))
