"""What of a plan is committed: the truth about progress, read from the objects themselves."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.plan import IsDone, PlannedTile, ScenePlan
from pipeline.queries import Query
from pipeline.results import TileStatus, batch_names, read_index
from pipeline.storage import Store
from pipeline.tiling import TileKey

_TILES_AT_ONCE = 4096
"""Tiles whose keys are in memory together."""


@dataclass(frozen=True)
class Committed:
    """The committed results that a scene's plan wants, and how many it wants."""

    index: pa.Table
    """One row per wanted and committed result: columns of `results.read_index`; `query_id` is the plan's."""
    n_wanted: int
    batches: frozenset[str] = field(repr=False)
    """Names of all committed batches that were looked at, but for damaged ones."""
    damaged: frozenset[str] = frozenset()
    """Names of objects that are no whole tile results: what they held counts as not computed."""

    def of_query(self, query: Query) -> pa.Table:
        """The rows of one query."""
        return self.index.filter(pc.equal(self.index["query_id"], query.query_id))

    def is_done(self, *, retry_failed: bool) -> IsDone:
        """What needs no computing."""
        done: dict[tuple[str, int], NDArray[np.bool_]] = {}
        index = self.index
        if retry_failed:
            index = index.filter(pc.not_equal(index["status"], TileStatus.FAILED.value))
        query_ids = np.asarray(index["query_id"])
        level, row, col = (np.asarray(index[name]) for name in ("level", "row", "col"))
        for query_id, factor in set(zip(query_ids.tolist(), level.tolist(), strict=True)):
            here = (query_ids == query_id) & (level == factor)
            done[query_id, factor] = np.zeros((row[here].max() + 1, col[here].max() + 1), np.bool_)
            done[query_id, factor][row[here], col[here]] = True

        def is_done(tile: TileKey, query_id: str) -> bool:
            found = done.get((query_id, tile.level))
            if found is None or tile.row >= found.shape[0] or tile.col >= found.shape[1]:
                return False
            return bool(found[tile.row, tile.col])

        return is_done

    def n_open(self, *, retry_failed: bool) -> int:
        """How many tile-queries need computing."""
        counts = self.counts()
        return counts["pending"] + (counts[TileStatus.FAILED.value] if retry_failed else 0)

    def counts(self) -> Counter[str]:
        """Tile-queries by status, `pending` and `total` included."""
        counts = Counter({status.value: 0 for status in TileStatus})
        found = pc.value_counts(self.index["status"]).to_pylist()
        counts.update({entry["values"]: entry["counts"] for entry in found})
        counts["pending"] = self.n_wanted - self.index.num_rows
        counts["total"] = self.n_wanted
        return counts

    def tally(self, scene_id: str) -> "Tally":
        """What the manifest says of it, without the rows."""
        failed, unparsable = (self.reasons(scene_id, status) for status in (TileStatus.FAILED, TileStatus.UNPARSABLE))
        return Tally(self.counts(), failed, unparsable)

    def reasons(self, scene_id: str, status: TileStatus) -> list[dict[str, str]]:
        """One entry per tile-query of that status: scene_id, tile, query_id, reason."""
        rows = self.index.filter(pc.equal(self.index["status"], status.value)).to_pylist()
        return [
            {
                "scene_id": scene_id,
                "tile": str(TileKey(scene_id, r["level"], r["row"], r["col"])),
                "query_id": r["query_id"],
                "reason": r["reason"],
            }
            for r in rows
        ]


@dataclass(frozen=True, slots=True)
class Tally:
    """What a scene's tile-queries came to."""

    counts: Counter[str]
    """By status; see `Committed.counts`."""
    failures: Sequence[Mapping[str, str]]
    """See `Committed.reasons`."""
    unparsable: Sequence[Mapping[str, str]]


def total_counts(tallies: Sequence[Tally]) -> dict[str, int]:
    """Tile-queries by status over all scenes."""
    counts: Counter[str] = Counter(dict.fromkeys([*(s.value for s in TileStatus), "pending", "total"], 0))
    for tally in tallies:
        counts.update(tally.counts)
    return dict(counts)


def committed(
    store: Store, plan: ScenePlan, queries: Sequence[Query], *, earlier: Committed | None = None
) -> Committed:
    """Compare a scene's plan with what lies in the run's directory.

    `earlier`: the same comparison of before; batches that it looked at are not read again. Not for a run that computes
    failures anew, which may put other results into a batch of the same name.
    """
    names = frozenset(batch_names(store, plan.scene.scene_id))
    index, damaged = read_index(store, sorted(names if earlier is None else names - earlier.batches))
    if earlier is not None:
        index = pa.concat_tables([earlier.index, index]).unify_dictionaries()
    # Of each result that counts, its row and its query: numbers, for a region has millions.
    chosen, asked = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
    ids = [query.query_id for query in queries]
    place = {query_id: i for i, query_id in enumerate(ids)}
    rows_of = _RowsOfTiles(plan, index)
    tiles = rows_of.tiles()
    while some := tuple(islice(tiles, _TILES_AT_ONCE)):
        wanted = [(ask, keys) for tile in some for ask, keys in _keys(plan, tile, queries)]
        rows = rows_of(some)
        best = _best(index.select(["key", "status"]).take(pa.array(rows)), {key for _, keys in wanted for key in keys})
        found = [
            (best[key], place[query_id])
            for query_id, keys in wanted
            if (key := next((key for key in keys if key in best), None)) is not None
        ]
        chosen.append(rows[[row for row, _ in found]])
        asked.append(np.array([query for _, query in found], np.int32))
    of_rows = np.concatenate(chosen)
    order = np.argsort(of_rows)
    taken = index.take(pa.array(of_rows[order]))
    # A query may have been renamed since: its text, and so its key, is the same.
    renamed = pa.DictionaryArray.from_arrays(np.concatenate(asked)[order], pa.array(ids, pa.string()))
    index = taken.set_column(taken.schema.get_field_index("query_id"), "query_id", renamed)
    return Committed(index, sum(plan.counts().values()) * len(queries), names - damaged, damaged)


def _keys(plan: ScenePlan, tile: PlannedTile, queries: Sequence[Query]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Of each query, its id and the keys of results that settle it, the best first."""
    if plan.first_look is None:
        for ask in plan.asks(tile, queries):
            yield ask.query_id, (ask.key,)
        return
    # An answer counts, however irrelevant the question.
    for ask, skipped in zip(plan.asks(tile, queries), plan.asks(tile, queries, irrelevant=True), strict=True):
        yield ask.query_id, (ask.key, skipped.key)


def _best(rows: pa.Table, wanted: set[str]) -> dict[str, int]:
    """By wanted key, the row that counts."""
    failed = pc.equal(rows["status"], TileStatus.FAILED.value).to_pylist()
    best: dict[str, int] = {}
    for i, key in enumerate(rows["key"].to_pylist()):
        # A retried failure leaves two rows under one key: the one that is no failure counts.
        if key in wanted and (key not in best or (failed[best[key]] and not failed[i])):
            best[key] = i
    return best


class _RowsOfTiles:
    """The rows of an index by tile, found without a Python object for each."""

    def __init__(self, plan: ScenePlan, index: pa.Table) -> None:
        self._plan = plan
        level, row, col = (np.asarray(index[name], dtype=np.int64) for name in ("level", "row", "col"))
        self._sorted: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        for factor, grid in plan.grids.items():
            # Another plan's tiles may lie beyond this grid; they are not wanted anyway.
            here = np.flatnonzero((level == factor) & (row < grid.rows) & (col < grid.cols))
            places = row[here] * grid.cols + col[here]
            order = np.argsort(places, kind="stable")
            self._sorted[factor] = places[order], here[order]

    def tiles(self) -> Iterator[PlannedTile]:
        """The plan's tiles that have rows."""
        for factor, grid in self._plan.grids.items():
            for place in np.unique(self._sorted[factor][0]).tolist():
                if (tile := self._plan.tile(factor, *divmod(place, grid.cols))) is not None:
                    yield tile

    def __call__(self, tiles: Sequence[PlannedTile]) -> NDArray[np.int64]:
        return np.concatenate([np.empty(0, np.int64), *self._of_levels(tiles)])

    def _of_levels(self, tiles: Sequence[PlannedTile]) -> Iterator[NDArray[np.int64]]:
        for factor, grid in self._plan.grids.items():
            wanted = np.array([t.key.row * grid.cols + t.key.col for t in tiles if t.key.level == factor], np.int64)
            places, rows = self._sorted[factor]
            first, last = np.searchsorted(places, wanted, "left"), np.searchsorted(places, wanted, "right")
            counts = last - first
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            yield rows[np.repeat(first, counts) + within]
