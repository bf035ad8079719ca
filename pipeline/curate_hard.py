"""Hard examples: tiles of a run that failed, were unparsable or contradict their neighbours. Listed, never labelled."""

import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.committed import committed
from pipeline.curate_files import HARD
from pipeline.geodesy import geographic_crs, to_geographic
from pipeline.georef import proj_crs
from pipeline.plan import ScenePlan
from pipeline.queries import Query
from pipeline.rebuilt import plans_of
from pipeline.results import TileResult, TileStatus, read_results
from pipeline.runs import FinishedRun
from pipeline.stitch import threshold_mask, view_of
from pipeline.storage import Store
from pipeline.tiling import TileGrid, TileKey, Window

DISAGREES = "contradicts its neighbours where they overlap"
COLUMNS = ("scene_id", "tile", "level", "query_id", "query", "status", "reason", "disagreement", "geometry")


@dataclass(frozen=True)
class HardTile:
    """One tile-query that deserves a person's look."""

    tile: TileKey
    window_scene_px: Window
    query: Query
    status: TileStatus
    reason: str
    disagreement: float | None
    """Of the pixels in its overlaps that it or a neighbour claims, the share that only one of the two does. None where
    there is nothing to compare."""


def hard_tiles(run: FinishedRun, *, min_disagreement: float, min_px: int) -> Iterator[HardTile]:
    """By scene, query and tile. A disagreement of fewer than `min_px` scene pixels is none."""
    for plan in plans_of(dict(run.manifest), run.store):
        for query in run.queries:
            threshold = next(q["threshold"] for q in run.manifest["queries"] if q["query_id"] == query.query_id)
            yield from _hard_of(run.store, plan, query, threshold, min_disagreement=min_disagreement, min_px=min_px)


def write_hard(store: Store, run: FinishedRun, tiles: Sequence[HardTile]) -> None:
    """Put `hard.parquet`: GeoParquet of the tiles' footprints, the most contradictory first, then what failed."""
    scenes = {scene.scene_id: scene for scene in run.scenes}
    ordered = sorted(tiles, key=lambda t: (-(t.disagreement or 0.0), str(t.tile), t.query.query_id))
    rows = [
        {
            "scene_id": t.tile.scene_id,
            "tile": str(t.tile),
            "level": t.tile.level,
            "query_id": t.query.query_id,
            "query": t.query.text,
            "status": t.status.value,
            "reason": t.reason,
            "disagreement": t.disagreement,
            "geometry": to_geographic([shapely.box(*t.window_scene_px)], scenes[t.tile.scene_id].geobox)[0],
        }
        for t in ordered
    ]
    crs = geographic_crs(proj_crs(run.scenes[0].geobox))
    frame = gpd.GeoDataFrame(rows, columns=list(COLUMNS), geometry="geometry", crs=crs)
    frame = frame.astype({"level": "int32", "disagreement": "float64"})
    sink = io.BytesIO()
    frame.to_parquet(sink, schema_version="1.1.0", write_covering_bbox=True)
    store.write(HARD, sink.getvalue())


def _hard_of(
    store: Store, plan: ScenePlan, query: Query, threshold: float, *, min_disagreement: float, min_px: int
) -> Iterator[HardTile]:
    rows = committed(store, plan, [query]).of_query(query).to_pylist()
    places = {TileKey(plan.scene.scene_id, r["level"], r["row"], r["col"]): r for r in rows}
    shares = _disagreements(store, plan, places, threshold)
    for key in sorted(places):
        row = places[key]
        status = TileStatus(row["status"])
        window = plan.grids[key.level].window(key.row, key.col)
        if status in {TileStatus.FAILED, TileStatus.UNPARSABLE}:
            yield HardTile(key, window, query, status, row["reason"], None)
            continue
        n_differ, n_claimed = shares[key]
        share = n_differ / n_claimed if n_claimed else 0.0
        if n_differ >= min_px and share >= min_disagreement:
            yield HardTile(key, window, query, status, DISAGREES, share)


def _disagreements(
    store: Store, plan: ScenePlan, places: Mapping[TileKey, dict[str, str]], threshold: float
) -> dict[TileKey, tuple[int, int]]:
    """By tile: (pixels that it and a neighbour differ in, pixels that it or a neighbour claims), over all overlaps."""
    found: dict[TileKey, list[int]] = defaultdict(lambda: [0, 0])
    by_row = groupby(sorted(k for k in places if TileStatus(places[k]["status"]).seen), key=lambda k: (k.level, k.row))
    above: dict[TileKey, TileResult] = {}
    for (level, _), keys in by_row:
        here = _results(store, plan.scene.scene_id, [places[key] for key in keys])
        # two rows in memory at a time: all of a tile's neighbours are in its own and the one above
        for key, result in here.items():
            grid = plan.grids[level]
            for other in _earlier_neighbours(key, grid):
                neighbour = here.get(other) or above.get(other)
                if neighbour is None:
                    continue
                counts = _compare(result, neighbour, threshold)
                for side in (key, other):
                    found[side][0] += counts[0]
                    found[side][1] += counts[1]
        above = here
    return {key: (found[key][0], found[key][1]) for key in places}


def _results(store: Store, scene_id: str, rows: Sequence[Mapping[str, str]]) -> dict[TileKey, TileResult]:
    keys_of: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        keys_of[row["batch"]].add(row["key"])
    return {
        result.tile: result
        for batch in sorted(keys_of)
        for result in read_results(store, batch, keys=frozenset(keys_of[batch]), scene_id=scene_id)
        if result.status.seen  # a retried failure's first row may lie in the same batch
    }


def _earlier_neighbours(key: TileKey, grid: TileGrid) -> list[TileKey]:
    """Left, above left, above, above right: so that each pair of neighbours is met once."""
    steps = ((0, -1), (-1, -1), (-1, 0), (-1, 1))
    return [
        key._replace(row=key.row + dy, col=key.col + dx)
        for dy, dx in steps
        if key.row + dy >= 0 and 0 <= key.col + dx < grid.cols
    ]


def _compare(one: TileResult, other: TileResult, threshold: float) -> tuple[int, int]:
    """(pixels that differ, pixels that either claims) where both looked."""
    shared = one.window_scene_px.intersection(other.window_scene_px)
    if shared is None:
        return 0, 0
    views = [view_of(result, shared) for result in (one, other)]
    both = views[0].looked & views[1].looked
    claims: list[NDArray[np.bool_]] = [(threshold_mask(v.codes, threshold) == 1) & both for v in views]
    return int((claims[0] ^ claims[1]).sum()), int((claims[0] | claims[1]).sum())
