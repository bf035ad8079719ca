"""What of a plan is committed: the truth about progress, read from the objects themselves."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.plan import ScenePlan
from pipeline.queries import Query
from pipeline.results import TileStatus, batch_names, read_index
from pipeline.storage import Store
from pipeline.tiling import TileKey


@dataclass(frozen=True)
class Committed:
    """The committed results that a scene's plan wants, and how many it wants."""

    index: pa.Table
    """One row per wanted and committed result: columns of `results.read_index`; `query_id` is the plan's."""
    n_wanted: int

    def of_query(self, query: Query) -> pa.Table:
        """The rows of one query."""
        return self.index.filter(pc.equal(self.index["query_id"], query.query_id))

    def done(self, *, retry_failed: bool) -> frozenset[str]:
        """Keys that need no computing."""
        index = self.index
        if retry_failed:
            index = index.filter(pc.not_equal(index["status"], TileStatus.FAILED.value))
        return frozenset(index["key"].to_pylist())

    def counts(self) -> Counter[str]:
        """Tile-queries by status, `pending` and `total` included."""
        counts = Counter({status.value: 0 for status in TileStatus})
        counts.update(self.index["status"].to_pylist())
        counts["pending"] = self.n_wanted - self.index.num_rows
        counts["total"] = self.n_wanted
        return counts

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


def committed(store: Store, plan: ScenePlan, queries: Sequence[Query]) -> Committed:
    """Compare a scene's plan with what lies in the run's directory."""
    wanted = {ask.key: ask.query_id for tile in plan.tiles() for ask in plan.asks(tile, queries)}
    index = read_index(store, batch_names(store, plan.scene.scene_id))
    keys = index["key"].to_pylist()
    failed = pc.equal(index["status"], TileStatus.FAILED.value).to_pylist()
    best: dict[str, int] = {}
    for i, key in enumerate(keys):
        # A retried failure leaves two rows under one key: the one that is no failure counts.
        if key in wanted and (key not in best or (failed[best[key]] and not failed[i])):
            best[key] = i
    chosen = index.take(pa.array(sorted(best.values()), pa.int64()))
    # A query may have been renamed since: its text, and so its key, is the same.
    ids = pa.array([wanted[k] for k in chosen["key"].to_pylist()], pa.string())
    return Committed(chosen.set_column(chosen.schema.get_field_index("query_id"), "query_id", ids), len(wanted))
