"""Stitching a scene's finished areas while the rest of it is segmented, on workers that ask no models.

It is done in rounds of an eighth of the scene, so that what is left when its last tile is answered is small, and the
GPUs wait for no more than that. Where models share their workers with all else nothing is stitched early, for nothing
would be gained. Nothing depends on it: blocks that were made early are kept if they are what they would be at the end,
and what goes wrong here is met again, or not, when the scene is stitched.
"""

import logging
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from queue import SimpleQueue

import numpy as np
import pyarrow as pa

from pipeline.committed import Committed
from pipeline.mosaics import Layout, finished
from pipeline.plan import Batch, ScenePlan
from pipeline.queries import Query
from pipeline.results import read_index
from pipeline.sources import sources_touching
from pipeline.spec import RunSpec
from pipeline.stitching import MosaicBlocks, begin_mosaic, windows_of
from pipeline.storage import Store
from pipeline.texts import one_line
from pipeline.tiling import TileKey, Window
from pipeline.work import Stopped, Timed, Workers
from pipeline.worker import SegmentTask

log = logging.getLogger(__name__)

_ROUNDS = 8
"""Times that a scene is stitched early, at most: each goes through all that is known of its results by then."""
_FEWEST_BLOCKS = 8
"""Blocks that are worth a round: about half a second of one worker for each query."""
_LEAVE_AFTER_S = 5.0
"""How long a stage that ends by an error waits for blocks that are being made."""

Answered = list[tuple[TileKey, int]]
"""Tiles, and how many more of its queries are answered on each."""


class EarlyStitching:
    """Of one scene. What one thread makes another one takes once the first has ended."""

    def __init__(self, plan: ScenePlan, store: Store, spec: RunSpec, trace: dict[str, str], workers: Workers) -> None:
        """`trace`: kept on the mosaics' groups."""
        self._plan, self._store, self._spec, self._trace = plan, store, spec, trace
        self._workers, self._layout = workers, Layout.sharded(spec.shard_px)
        self._made: dict[str, MosaicBlocks] = {}
        self._thread: threading.Thread | None = None
        self.seen: Committed | None = None
        """What was committed by the last round, for `committed(earlier=)`: its index is not yet chosen from."""
        self.busy_s = 0.0
        """Seconds that all workers together were at work for it."""
        self.workers: frozenset[str] = frozenset()
        """Names of the workers that were."""

    def of(self, query: Query) -> MosaicBlocks | None:
        """The blocks of a query that were made early."""
        return self._made.get(query.query_id)

    def forget(self, query: Query) -> None:
        """A query's mosaic is finished."""
        self._made.pop(query.query_id, None)

    @contextmanager
    def beside(self, state: Committed) -> Iterator["Watch"]:
        """Stitch beside whoever segments and reports to the `Watch`; at the end wait for the round that is at work.

        `state`: what is committed at the start. Only a segmentation that ends well leaves blocks.
        """
        n_blocks = math.prod(-(-side_px // self._layout.block_px) for side_px in self._plan.scene.shape)
        if n_blocks < _FEWEST_BLOCKS or (self._thread is not None and self._thread.is_alive()):  # of an earlier attempt
            yield Watch(None)
            return
        watch, stop = Watch(SimpleQueue()), threading.Event()
        self._made, self.seen = {}, None
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._stitch, state, watch, stop), name="t2s-early", daemon=True
        )
        self._thread.start()
        try:
            yield watch
            watch.end()
            self._thread.join()
        except BaseException:
            stop.set()
            watch.end()
            self._thread.join(_LEAVE_AFTER_S)
            raise

    def _stitch(self, state: Committed, watch: "Watch", stop: threading.Event) -> None:
        timed, made = Timed(self._workers, stop), dict[str, MosaicBlocks]()
        try:
            for seen, windows in _rounds(self._plan, state, self._store, watch, self._layout, timed):
                state, made = seen, made or self._begun()
                if not made:
                    return
                for query in self._spec.queries:
                    if blocks := made.get(query.query_id):
                        index, scene_id = state.of_query(query), self._plan.scene.scene_id
                        sources = sources_touching(self._store, scene_id, index, self._plan.grids, windows)
                        blocks.add(sources, timed, n_blocks=len(windows))
        except Stopped:
            return
        except Exception as error:  # noqa: BLE001 -- no model waits for it: it passes, or is met again at the end
            said = "a scene cannot be stitched early, so that all of it is stitched at the end: %s: %s"
            log.warning(said, type(error).__name__, one_line(error))
            return
        finally:
            self.busy_s += timed.busy_s
            self.workers |= timed.names
        if not stop.is_set():
            self._made, self.seen = made, state

    def _begun(self) -> dict[str, MosaicBlocks]:
        """Mosaics of the queries that have none: a finished one stands until all is there that takes its place."""
        scene = self._plan.scene
        return {
            query.query_id: begin_mosaic(
                self._store,
                scene,
                query,
                threshold=self._spec.threshold_of(query),
                trace=self._trace,
                layout=self._layout,
            )
            for query in self._spec.queries
            if finished(self._store, scene.scene_id, query.query_id) is None
        }


class Watch:
    """Sees which batches are given to workers, and is told which of them are committed; by one thread."""

    def __init__(self, reports: "SimpleQueue[tuple[str, Answered] | None] | None") -> None:
        """`reports`: for another thread to take; None where nobody does."""
        self._reports, self._is_over = reports, False
        self._given: dict[str, Answered] = {}

    def given(self, tasks: Iterable[SegmentTask]) -> Iterator[SegmentTask]:
        """The tasks, as they are given to workers."""
        for task in tasks:
            if self._reports is not None:
                self._given.update((batch.name, _answered_by(batch)) for batch in task.batches)
            yield task

    def committed(self, name: str) -> None:
        """A batch that was given is committed."""
        if self._reports is not None:
            self._reports.put((name, self._given.pop(name)))

    def end(self) -> None:
        """Nothing more is given; what was reported is not looked at any more."""
        if self._reports is not None:
            self._is_over = True
            self._reports.put(None)

    def reports(self) -> Iterator[tuple[str, Answered]]:
        """Names of committed batches, and what they answer, until the end. For the other thread."""
        assert self._reports is not None
        while (report := self._reports.get()) is not None and not self._is_over:
            yield report


def _rounds(  # noqa: PLR0917 -- called once
    plan: ScenePlan, state: Committed, store: Store, watch: Watch, layout: Layout, workers: Workers
) -> Iterator[tuple[Committed, list[Window]]]:
    """Blocks that became ready, and what was committed by then."""
    unsettled: Unsettled | None = None
    names: list[str] = []
    for name, answered in watch.reports():
        names.append(name)
        if unsettled is not None:
            unsettled.settle(answered)
        if not workers.models_apart:
            continue
        if unsettled is None:
            state, names = _extended(store, state, names), []
            unsettled = Unsettled(plan, state, windows_of(plan.scene, layout), layout.block_px)
            if unsettled.n_blocks < _FEWEST_BLOCKS:
                return
        if len(unsettled.ready) >= max(_FEWEST_BLOCKS, -(-unsettled.n_blocks // _ROUNDS)):
            state, names = _extended(store, state, names), []
            windows, unsettled.ready = unsettled.ready, []
            yield state, windows


class Unsettled:
    """The tiles of a scene that lack an answer, and the blocks of its mosaics that wait for them."""

    def __init__(self, plan: ScenePlan, state: Committed, windows: Sequence[Window], block_px: int) -> None:
        """`windows`: of all blocks, whose sides are `block_px`, in row-major order."""
        self._grids, self._windows, self._block_px = plan.grids, windows, block_px
        self._cols = -(-plan.scene.shape[1] // block_px)
        levels, rows, cols = (np.asarray(state.index[name]) for name in ("level", "row", "col"))
        planned = {level: plan.planned(level) for level in plan.grids}
        n_queries = state.n_wanted // max(1, sum(np.count_nonzero(tiles) for tiles in planned.values()))
        self._lacks = {level: n_queries * tiles.astype(np.int32) for level, tiles in planned.items()}
        """By level, (tile rows, tile columns): how many queries are not answered yet."""
        self._waits_for = np.zeros(len(windows), np.int64)
        """Of each block: tiles."""
        is_touched = np.zeros(len(windows), np.bool_)
        for level, grid in plan.grids.items():
            here = levels == level
            np.subtract.at(self._lacks[level], (rows[here], cols[here]), 1)
            for block, window in enumerate(windows):
                of_rows, of_cols = grid.spans(window)
                part = slice(of_rows.start, of_rows.stop), slice(of_cols.start, of_cols.stop)
                is_touched[block] |= planned[level][part].any()
                self._waits_for[block] += np.count_nonzero(self._lacks[level][part])
        self.n_blocks = int(np.count_nonzero(is_touched))
        """Of those that a planned tile touches; nothing is ever written of the others."""
        self.ready = [windows[block] for block in np.flatnonzero(is_touched & (self._waits_for == 0)).tolist()]
        """Blocks that wait for nothing; whoever takes them leaves an empty list."""

    def settle(self, answered: Answered) -> None:
        """So many more queries are answered, on each of these tiles."""
        for tile, n in answered:
            lacks = self._lacks[tile.level]
            lacks[tile.row, tile.col] -= n
            if lacks[tile.row, tile.col] == 0:
                self._is_done(self._grids[tile.level].window(tile.row, tile.col))

    def _is_done(self, tile: Window) -> None:
        last_row, last_col = len(self._windows) // self._cols - 1, self._cols - 1
        for row in range(tile.y0 // self._block_px, min((tile.y1 - 1) // self._block_px, last_row) + 1):
            for col in range(tile.x0 // self._block_px, min((tile.x1 - 1) // self._block_px, last_col) + 1):
                block = row * self._cols + col
                self._waits_for[block] -= 1
                if self._waits_for[block] == 0:
                    self.ready.append(self._windows[block])


def _answered_by(batch: Batch) -> Answered:
    return [(tile.key, len(asks)) for tile, asks in zip(batch.tiles, batch.asks, strict=True)]


def _extended(store: Store, state: Committed, names: Sequence[str]) -> Committed:
    """With batches that were committed since. Damaged ones are left to who looks at all of them at the end."""
    index, damaged = read_index(store, names)
    both = pa.concat_tables([state.index, index]).unify_dictionaries()
    return replace(state, index=both, batches=state.batches | (frozenset(names) - damaged))
