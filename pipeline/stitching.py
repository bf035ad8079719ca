"""From a scene's tile results to the mosaic of one query: block by block on the workers, each block written once."""

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
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
from pipeline.tiling import TileGrid, TileKey, Window
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
    early: "MosaicBlocks | None" = None,
) -> StitchReceipt:
    """Make the mosaic of one query of one scene, unless it is there already.

    `threshold`: probability (0 to 1) from which a pixel is target. `index`: `results.read_index` of the results that
    are wanted of this scene and query, and of no others. `grids`: by level. `planned`: see `planned_tiles`.
    `fingerprint`: hash of all inputs; a complete mosaic with the same one is left as it is. `trace`: kept on the group.
    `early`: blocks that were made while the scene was segmented; made anew where they were made of other results.

    Memory is bounded by the block, here and on the workers.
    """
    found = finished(store, scene.scene_id, query.query_id)
    if found is not None and found[FINGERPRINT] == fingerprint:
        return StitchReceipt(
            scene.scene_id, query.query_id, reused=True, seams=found["t2s:seams"], **found["t2s:pixels"]
        )
    windows = windows_of(scene, layout)

    def sources(of: Iterable[Window]) -> Iterator[Sources]:
        return sources_touching(store, scene.scene_id, index, grids, of)

    if early is not None and early.holds(sources(early.windows)):
        made = early
    else:
        made = begin_mosaic(store, scene, query, threshold=threshold, trace=trace, layout=layout)
    rest = [window for window in windows if window not in made.windows]
    made.add(sources(rest), workers, n_blocks=len(rest))
    seams = seam_check(made.seam_count.counts, grids)
    seen = {"target_px": made.target_px, "background_px": made.background_px}
    pixels = {**seen, "unseen_px": scene.shape[0] * scene.shape[1] - sum(seen.values())}
    attributes = {FINGERPRINT: fingerprint, "t2s:pixels": pixels, "t2s:seams": seams}
    coverage = coverage_codes(index, planned)
    finish(store, scene, query.query_id, coverage, workers, attributes=attributes, layout=layout)
    return StitchReceipt(scene.scene_id, query.query_id, reused=False, seams=seams, **pixels)


def windows_of(scene: Scene, layout: Layout) -> list[Window]:
    """The blocks of a scene's mosaics. Raises `ContractError` where two would write into one chunk."""
    windows = list(blocks(scene.shape, layout.writer_px, layout.block_px))
    check_single_writer(windows, layout.writer_px)
    return windows


def begin_mosaic(
    store: Store, scene: Scene, query: Query, *, threshold: float, trace: Mapping[str, str], layout: Layout
) -> "MosaicBlocks":
    """Make the group of a mosaic anew, without a block. Parameters as of `stitch_scene_query`."""
    facts = {"t2s:query": query.text, "t2s:threshold": threshold, "t2s:block_px": layout.block_px, **trace}
    create(store, scene, query.query_id, attributes=facts, layout=layout)
    return MosaicBlocks(scene, group_path(scene.scene_id, query.query_id), threshold)


class MosaicBlocks:
    """The blocks that are written of a mosaic, and what came of them."""

    def __init__(self, scene: Scene, path: str, threshold: float) -> None:
        """`path`: of the group."""
        self._path, self._threshold = path, threshold
        self._made: dict[Window, int] = {}
        self.seam_count = SeamCount(scene.shape)
        self.target_px = self.background_px = 0

    @property
    def windows(self) -> Collection[Window]:
        """Of the blocks; one that no usable result touches is never written, and is not among them."""
        return self._made.keys()

    def holds(self, sources: Iterable[Sources]) -> bool:
        """Whether the blocks were made of just these."""
        return {s.window_scene_px: s.digest for s in sources} == self._made

    def add(self, sources: Iterable[Sources], workers: Workers, *, n_blocks: int) -> None:
        """Stitch and write more blocks, about `n_blocks`, none of them among `windows`.

        Where it raises, the blocks that were at work are not among `windows`, and may be written again.
        """
        # few enough that every worker gets some
        at_once = max(1, min(_BLOCKS_AT_ONCE, n_blocks // (2 * workers.threads)))
        drawn: dict[Window, int] = {}

        def tasks() -> Iterator[_StitchTask]:
            # A block that no usable result touches keeps its fill value: nobody looked.
            wanted = (s for s in sources if s.keys_by_batch or s.clear)
            while some := tuple(islice(wanted, at_once)):
                drawn.update((s.window_scene_px, s.digest) for s in some)
                yield _StitchTask(some, self._path, self._threshold)

        for made in workers.map(_stitch, tasks()):
            for block in made:
                self.seam_count.add(block.seams)
                self.target_px += block.target_px
                self.background_px += block.background_px
                window = block.seams.window_scene_px
                self._made[window] = drawn.pop(window)


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
class _StitchTask:
    sources: tuple[Sources, ...]
    """Of blocks that one worker makes one after the other."""
    path: str
    threshold: float


@dataclass(frozen=True, slots=True)
class _BlockReceipt:
    target_px: int
    background_px: int
    seams: BlockSeams


def _stitch(task: _StitchTask) -> list[_BlockReceipt]:
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
            target_px, background_px = (int(np.count_nonzero(mask == value)) for value in (1, 0))
            made.append(_BlockReceipt(target_px, background_px, block_seams(block.window_scene_px, mask)))
    return made


def _read(blocks_sources: Iterable[Sources]) -> Generator[tuple[Sources, list[TileResult]], None, None]:
    for sources in blocks_sources:
        yield sources, list(read_sources(sources))
