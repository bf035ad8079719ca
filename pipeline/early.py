"""Stitching a scene's finished areas while the rest of it is segmented, on workers that ask no models.

A scene of any size is stitched at most in eighths: what is left when its last tile is answered is small, and the GPUs
wait for no more than that. Where models share their workers with all else nothing is stitched early, for nothing would
be gained.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace

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
from pipeline.tiling import TileKey, Window
from pipeline.work import Timed, Workers
from pipeline.worker import SegmentTask

_ROUNDS = 8
"""Times that a scene is stitched early, at most: each goes through all that is known of its results by then."""
_FEWEST_BLOCKS = 8
"""Blocks that are worth a round: about half a second of one worker for each query."""
_LEAVE_AFTER_S = 5.0
"""How long a run that ends by an error waits for blocks that are being made."""


class EarlyStitching:
    """Of one scene."""

    def __init__(
        self, plan: ScenePlan, store: Store, spec: RunSpec, trace: dict[str, str], workers: Workers,
    ) -> None:  # fmt: skip
        """`trace`: kept on the mosaics' groups."""
        self._plan, self._store, self._spec, self._trace = plan, store, spec, trace
        self._workers = workers
        self._made: dict[str, MosaicBlocks] = {}
        self.seen: Committed | None = None
        """What was committed by the last round: what was before, and more of what this invocation committed."""
        self.busy_s = 0.0
        """Seconds that all workers together were at work for it."""
        self.workers: frozenset[str] = frozenset()
        """Names of the workers that were."""

    def of(self, query: Query) -> MosaicBlocks | None:
        """The blocks of a query that are made by now."""
        return self._made.get(query.query_id)

    @contextmanager
    def beside(self, state: Committed) -> Iterator["Following"]:
        """Stitch what becomes ready as long as the context is open, told of by what it gives.

        `state`: what is committed at its start. It ends with the last round, and raises what that raised.
        """
        layout = Layout.sharded(self._spec.shard_px)
        windows = windows_of(self._plan.scene, layout)
        # A finished mosaic stands until another takes its place in one go, however this invocation ends.
        scene_id, queries = self._plan.scene.scene_id, self._spec.queries
        if len(windows) < _FEWEST_BLOCKS or not (
            unfinished := [q for q in queries if finished(self._store, scene_id, q.query_id) is None]
        ):
            yield Following()
            return
        unsettled = Unsettled(self._plan, state, windows, layout.block_px, n_queries=len(queries))
        following = Following(unsettled, at_least=max(_FEWEST_BLOCKS, -(-len(windows) // _ROUNDS)))
        stop = threading.Event()

        def stitch() -> None:
            timed = Timed(self._workers, stop)
            try:
                self._rounds(state, unfinished, layout, following, timed)
            except BaseException as error:  # noqa: BLE001 -- raised by the thread that follows
                following.error = error
            self.busy_s, self.workers = timed.busy_s, frozenset(timed.names)

        thread = threading.Thread(target=copy_context().run, args=(stitch,), name="t2s-early", daemon=True)
        thread.start()
        try:
            yield following
        except BaseException:
            stop.set()
            following.end()
            thread.join(_LEAVE_AFTER_S)
            raise
        following.end()
        thread.join()
        following.check()

    def _rounds(
        self, state: Committed, queries: Sequence[Query], layout: Layout, following: "Following", workers: Workers
    ) -> None:
        scene, grids = self._plan.scene, self._plan.grids
        for windows, batches in following.rounds(lambda: workers.models_apart):
            state = self.seen = _extended(self._store, state, batches)
            for query in queries:
                made = self._made.get(query.query_id)
                if made is None:
                    threshold = self._spec.threshold_of(query)
                    made = begin_mosaic(
                        self._store, scene, query, threshold=threshold, trace=self._trace, layout=layout
                    )
                    self._made[query.query_id] = made
                sources = sources_touching(self._store, scene.scene_id, state.of_query(query), grids, windows)
                made.add(sources, workers, n_blocks=len(windows))


class Following:
    """Told by the thread that segments of what is settled, and asked for it by the one that stitches."""

    def __init__(self, unsettled: "Unsettled | None" = None, at_least: int = 0) -> None:
        """`unsettled`: None where nothing is stitched early. `at_least`: blocks of a round."""
        self._unsettled, self._at_least = unsettled, at_least
        self._given: dict[str, list[tuple[TileKey, int]]] = {}
        self._batches: list[str] = []
        self._changed, self._news, self._is_over = threading.Condition(), 0, False
        self.error: BaseException | None = None

    def given(self, tasks: Iterable[SegmentTask]) -> Iterator[SegmentTask]:
        """The tasks, as they are given to workers."""
        for task in tasks:
            if self._unsettled is not None:
                self._given.update((batch.name, _tiles_of(batch)) for batch in task.batches)
            yield task

    def settled(self, name: str) -> None:
        """A batch is committed. Raises what stitching raised."""
        if self._unsettled is None:
            return
        self.check()
        with self._changed:
            self._batches.append(name)
            for tile, n_queries in self._given.pop(name):
                self._unsettled.settle(tile, n_queries)
            self._news += 1
            self._changed.notify()

    def end(self) -> None:
        """Nothing more will be settled."""
        with self._changed:
            self._is_over = True
            self._changed.notify()

    def check(self) -> None:
        """Raise what stitching raised."""
        if self.error is not None:
            raise self.error

    def rounds(self, is_worth: Callable[[], bool]) -> Iterator[tuple[list[Window], list[str]]]:
        """Blocks that are ready and the batches that were committed since the last round, until the end."""
        unsettled, heard = self._unsettled, 0
        assert unsettled is not None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over or self._news > heard)  # noqa: B023 -- asked here only
                heard = self._news
                if self._is_over:
                    return
                is_enough = len(unsettled.ready) >= self._at_least
            if is_enough and is_worth():
                with self._changed:
                    windows, unsettled.ready = unsettled.ready, []
                    batches, self._batches = self._batches, []
                yield windows, batches


class Unsettled:
    """Tiles of a scene with a query that is not answered yet, and the blocks of its mosaics that wait for them."""

    def __init__(
        self, plan: ScenePlan, state: Committed, windows: Sequence[Window], block_px: int, *, n_queries: int
    ) -> None:
        """`windows`: of all blocks, whose sides are `block_px`, in row-major order."""
        self._grids, self._windows, self._block_px, self._n_queries = plan.grids, windows, block_px, n_queries
        self._cols = -(-plan.scene.shape[1] // block_px)
        self._answered = {level: np.zeros((grid.rows, grid.cols), np.int32) for level, grid in plan.grids.items()}
        levels, rows, cols = (np.asarray(state.index[name]) for name in ("level", "row", "col"))
        self._left = np.zeros(len(windows), np.int64)
        """Of each block, how many tiles it waits for."""
        for level, grid in plan.grids.items():
            here = levels == level
            np.add.at(self._answered[level], (rows[here], cols[here]), 1)
            is_open = plan.planned(level) & (self._answered[level] < n_queries)
            for block, window in enumerate(windows):
                of_rows, of_cols = grid.spans(window)
                touching = is_open[of_rows.start : of_rows.stop, of_cols.start : of_cols.stop]
                self._left[block] += np.count_nonzero(touching)
        self.ready = [windows[block] for block in np.flatnonzero(self._left == 0).tolist()]
        """Blocks that wait for nothing; whoever takes them leaves an empty list."""

    def settle(self, tile: TileKey, n_queries: int) -> None:
        """So many more queries on a tile are answered."""
        answered = self._answered[tile.level]
        answered[tile.row, tile.col] += n_queries
        if answered[tile.row, tile.col] < self._n_queries:
            return
        x0, y0, x1, y1 = self._grids[tile.level].window(tile.row, tile.col)
        last_row, last_col = len(self._windows) // self._cols - 1, self._cols - 1
        for row in range(y0 // self._block_px, min((y1 - 1) // self._block_px, last_row) + 1):
            for col in range(x0 // self._block_px, min((x1 - 1) // self._block_px, last_col) + 1):
                block = row * self._cols + col
                self._left[block] -= 1
                if self._left[block] == 0:
                    self.ready.append(self._windows[block])


def _tiles_of(batch: Batch) -> list[tuple[TileKey, int]]:
    """With how many queries each."""
    return [(tile.key, len(asks)) for tile, asks in zip(batch.tiles, batch.asks, strict=True)]


def _extended(store: Store, state: Committed, names: Sequence[str]) -> Committed:
    """With batches that were committed since. Damaged ones are left to who looks at all of them at the end."""
    index, damaged = read_index(store, names)
    both = pa.concat_tables([state.index, index]).unify_dictionaries()
    return replace(state, index=both, batches=state.batches | (frozenset(names) - damaged))
