"""Features in GeoParquet: `features/query_id=<slug>/scene_id=<slug>/part-0.parquet`, each put atomically."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from types import MappingProxyType

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from pipeline.blocks import blocks
from pipeline.geodesy import CRS84, areas_m2, geographic_crs, gsd_m, to_geographic
from pipeline.geoparquet import GEOMETRY_FIELDS, ROWS_PER_GROUP, created, geometry_columns, hilbert_order
from pipeline.georef import proj_crs
from pipeline.joining import ByBorder, ByOwner, Joiner
from pipeline.link import Ground, Instance, add_ground, link, owners_of, shared_ground
from pipeline.mosaics import finished, group_path, read_window
from pipeline.queries import EXACT, FeatureRules, Query
from pipeline.scenes import Scene
from pipeline.sources import Sources, read_sources, sources_touching
from pipeline.storage import Store
from pipeline.tiling import TileGrid, TileKey, Window
from pipeline.vectorise import BlockPieces, Piece, pieces_of_block
from pipeline.work import Workers
from t2s_core.errors import BadInput

FOLDER = "features"
SCHEMA_VERSION = "1"

_FINGERPRINT = "t2s:fingerprint"
SCHEMA = pa.schema(
    [
        pa.field("feature_id", pa.string(), nullable=False),
        pa.field("query", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("datetime", pa.timestamp("us", tz="UTC")),
        *GEOMETRY_FIELDS,
        pa.field("area_m2", pa.float64(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("n_tiles", pa.int32(), nullable=False),
        pa.field("touches_scene_edge", pa.bool_(), nullable=False),
        pa.field("reasoning", pa.string(), nullable=False),
        pa.field("prompter", pa.string(), nullable=False),
        pa.field("segmenter", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
    ]
)
"""Columns of every partition; `query_id` and `scene_id` live in the path alone. Each file adds its own metadata."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who made the features of a partition."""

    prompter: str
    """name@version"""
    segmenter: str
    """name@version"""
    run_id: str
    """The invocation that computed it."""


@dataclass(frozen=True, slots=True)
class VectoriseReceipt:
    """What came of vectorising one query of one scene."""

    scene_id: str
    query_id: str
    reused: bool
    """True where a finished partition of the same inputs was found and nothing was done."""
    n_features: int
    area_m2: float
    """Geodesic area of all features together."""


def partition_name(scene_id: str, query_id: str) -> str:
    """The object that holds the features of one query of one scene."""
    return f"{FOLDER}/query_id={query_id}/scene_id={scene_id}/part-0.parquet"


def vectorise_scene_query(
    store: Store,
    scene: Scene,
    query: Query,
    *,
    index: pa.Table,
    grids: Mapping[int, TileGrid],
    workers: Workers,
    provenance: Provenance,
    fingerprint: str,
    rules: FeatureRules = EXACT,
    trace: Mapping[str, str] = MappingProxyType({}),
) -> VectoriseReceipt:
    """Turn a finished mosaic into its partition of features, unless that is there already.

    `index`: `results.read_index` of the results that the mosaic was stitched from. `grids`: by level. `fingerprint`:
    hash of all inputs; a partition with the same one is left as it is. `trace`: kept in the file's metadata. Raises
    `BadInput` where the mosaic is not finished.

    Pixels stay on the workers, a block at a time. Here are the objects that cross the front between blocks that came
    and blocks to come, and the rows of one row group; with simplification, which must see neighbours together, all
    polygons of the scene.
    """
    found = _finished(store, scene.scene_id, query.query_id, fingerprint)
    if found is not None:
        return found
    facts = finished(store, scene.scene_id, query.query_id)
    if facts is None:
        raise BadInput(f"{scene.scene_id}/{query.query_id}: no finished mosaic to vectorise; stitch it first.")
    # The blocks are those of stitching, so that every target pixel is claimed by a tile (see `pieces_of_block`).
    windows = list(blocks(scene.shape, 1, facts["t2s:block_px"]))
    windows = [windows[i] for i in hilbert_order([shapely.box(*window) for window in windows])]
    sources = [s for s in sources_touching(store, scene.scene_id, index, grids, windows) if s.keys_by_batch]
    path, threshold = group_path(scene.scene_id, query.query_id), facts["t2s:threshold"]
    tasks = [_Task(s, path, threshold) for s in sources]
    joiner: Joiner = ByBorder([s.window_scene_px for s in sources])
    if rules.mode == "instance":
        tasks, joiner = _by_instance(tasks, grids, workers)
    shown = _in_order(workers.map(_pieces_of_block, tasks), [s.window_scene_px for s in sources])
    metadata = {_FINGERPRINT: fingerprint, "t2s:threshold": str(threshold), **trace}
    return write_features(store, scene, query, shown, joiner, provenance=provenance, rules=rules, metadata=metadata)


def write_features(
    store: Store,
    scene: Scene,
    query: Query,
    shown: Iterable[BlockPieces],
    joiner: Joiner,
    *,
    provenance: Provenance,
    rules: FeatureRules = EXACT,
    metadata: Mapping[str, str],
) -> VectoriseReceipt:
    """Put a partition in one atomic write; what was there before is replaced.

    `shown`: all blocks that `joiner` waits for. Memory: see `vectorise_scene_query`.
    """
    ours = {
        "t2s:schema_version": SCHEMA_VERSION, "t2s:rules": json.dumps(asdict(rules)), "t2s:scene_etag": scene.etag,
    }  # fmt: skip
    name, crs = partition_name(scene.scene_id, query.query_id), geographic_crs(proj_crs(scene.geobox))
    n_features, area_m2 = 0, 0.0
    with created(store, name, SCHEMA, crs, {**ours, **metadata}) as file:
        for pieces, reasoning in _groups(shown, joiner, None if rules.simplify_m else ROWS_PER_GROUP):
            table = feature_table(scene, query, pieces, reasoning, provenance, rules=rules)
            file.add(table)
            n_features, area_m2 = n_features + table.num_rows, area_m2 + float(np.asarray(table["area_m2"]).sum())
    return VectoriseReceipt(scene.scene_id, query.query_id, reused=False, n_features=n_features, area_m2=area_m2)


def feature_table(
    scene: Scene,
    query: Query,
    pieces: Sequence[Piece],
    reasoning: Mapping[TileKey, str],
    provenance: Provenance,
    *,
    rules: FeatureRules = EXACT,
) -> pa.Table:
    """One row per object as `rules` want it, with the columns of `SCHEMA`, along the Hilbert curve."""
    outlines = shapely.normalize(np.array([piece.polygon_scene_px for piece in pieces], object))
    drawn = outlines
    if rules.simplify_m and len(outlines):
        # Together, so that borders that two objects share stay shared.
        drawn = shapely.coverage_simplify(outlines, rules.simplify_m / gsd_m(scene.geobox))
    geometries = to_geographic(drawn, scene.geobox, along_pixels=not rules.simplify_m)
    areas = areas_m2(geometries, geographic_crs(proj_crs(scene.geobox)))
    kept = np.flatnonzero(areas >= rules.min_area_m2)
    order = kept[hilbert_order(geometries[kept])]
    chosen, n = [pieces[i] for i in order], len(order)
    taken = None if scene.datetime is None else datetime.fromisoformat(scene.datetime)
    same_for_all = {"query": query.text, "label": query.label, "datetime": taken, **asdict(provenance)}
    x0, y0, x1, y1 = shapely.bounds(outlines[order]).T
    height, width = scene.shape
    columns = {
        "feature_id": feature_ids(scene.scene_id, query.text, outlines[order]),
        **geometry_columns(geometries[order]),
        "area_m2": areas[order],
        "score": [piece.score for piece in chosen],
        "n_tiles": [len(piece.claims_px) for piece in chosen],
        "touches_scene_edge": (x0 <= 0) | (y0 <= 0) | (x1 >= width) | (y1 >= height),
        "reasoning": ["" if piece.main_tile is None else reasoning[piece.main_tile] for piece in chosen],
        **{name: pa.repeat(pa.scalar(value, SCHEMA.field(name).type), n) for name, value in same_for_all.items()},
    }
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def feature_ids(scene_id: str, query: str, outlines_scene_px: NDArray[np.object_]) -> list[str]:
    """(n,): 16 hex digits of a 64-bit hash of the scene, the query's text and the normalized outline in scene pixels.

    The outline is that of the mask, so that simplifying a feature does not rename it.
    """
    asked = json.dumps([scene_id, query]).encode()
    outlines = shapely.to_wkb(outlines_scene_px, byte_order=1).tolist()
    return [hashlib.blake2b(asked + outline, digest_size=8).hexdigest() for outline in outlines]


def read_features(store: Store) -> gpd.GeoDataFrame:
    """All features of a run, with `query_id` and `scene_id` as columns of text. No partition at all gives no row."""
    if not store.names(FOLDER, ".parquet"):
        columns = [*SCHEMA.names, "query_id", "scene_id"]
        return gpd.GeoDataFrame({name: [] for name in columns}, geometry="geometry", crs=CRS84)
    frame = gpd.read_parquet(store.path(FOLDER), filesystem=store.fs)
    return frame.astype({"query_id": "str", "scene_id": "str"})


@dataclass(frozen=True, slots=True)
class _Task:
    sources: Sources
    path: str
    threshold: float
    linked: Mapping[Instance, Instance] | None = None
    """In instance mode, what `link.link` says of the block's instances."""


def _pieces_of_block(task: _Task) -> BlockPieces:
    window = task.sources.window_scene_px
    probability, mask = read_window(task.sources.store, task.path, window)
    if not (mask == 1).any():
        return BlockPieces(window, (), {})
    results = list(read_sources(task.sources))
    owners = None
    if task.linked is not None:
        owners = owners_of(window, mask, results, task.linked, task.sources.grids, threshold=task.threshold)
    return pieces_of_block(window, probability, mask, results, task.threshold, owners=owners)


@dataclass(frozen=True, slots=True)
class _BlockGround:
    """Wrapped, for Dask takes bare dicts apart on their way, and their keys come out as plain tuples."""

    ground: Ground


def _ground_of_block(task: _Task) -> _BlockGround:
    return _BlockGround(shared_ground(task.sources.window_scene_px, read_sources(task.sources), task.threshold))


def _by_instance(
    tasks: Sequence[_Task], grids: Mapping[int, TileGrid], workers: Workers
) -> tuple[list[_Task], ByOwner]:
    """The same tasks, each with the links that it needs, and who joins what comes of them."""
    ground: Ground = {}
    for block in workers.map(_ground_of_block, tasks):
        add_ground(ground, block.ground)
    linked = link(ground)
    members: dict[Instance, list[Instance]] = {}
    by_tile: dict[TileKey, dict[Instance, Instance]] = {}
    for instance, first in linked.items():
        members.setdefault(first, []).append(instance)
        by_tile.setdefault(instance.tile, {})[instance] = first

    def reach(owner: Instance) -> Iterator[Window]:
        for tile, _ in members.get(owner, [owner]):
            yield grids[tile.level].window(tile.row, tile.col)

    def of_block(window: Window, scene_id: str) -> dict[Instance, Instance]:
        tiles = (TileKey(scene_id, level, row, col) for level in grids for row, col in grids[level].over(window))
        return {instance: first for tile in tiles for instance, first in by_tile.get(tile, {}).items()}

    with_links = [replace(t, linked=of_block(t.sources.window_scene_px, t.sources.scene_id)) for t in tasks]
    return with_links, ByOwner([t.sources.window_scene_px for t in tasks], reach)


def _in_order(shown: Iterable[BlockPieces], windows: Iterable[Window]) -> Iterator[BlockPieces]:
    """Workers answer in any order; a repeated run must give the same bytes."""
    early: dict[Window, BlockPieces] = {}
    arriving = iter(shown)
    for window in windows:
        while window not in early:
            block = next(arriving)
            early[block.window_scene_px] = block
        yield early.pop(window)


def _groups(
    shown: Iterable[BlockPieces], joiner: Joiner, n_rows: int | None
) -> Iterator[tuple[list[Piece], dict[TileKey, str]]]:
    """Whole objects, `n_rows` at a time (None: all at once), with the reasoning of the tiles so far."""
    pieces: list[Piece] = []
    reasoning: dict[TileKey, str] = {}
    for block in shown:
        reasoning |= block.reasoning
        pieces += joiner.add(block)
        while n_rows is not None and len(pieces) >= n_rows:
            yield pieces[:n_rows], reasoning
            del pieces[:n_rows]
    yield pieces, reasoning


def _finished(store: Store, scene_id: str, query_id: str, fingerprint: str) -> VectoriseReceipt | None:
    name = partition_name(scene_id, query_id)
    if not store.exists(name):
        return None
    with store.fs.open(store.path(name), "rb") as file:
        partition = pq.ParquetFile(file)
        if (partition.schema_arrow.metadata or {}).get(_FINGERPRINT.encode()) != fingerprint.encode():
            return None
        areas = np.asarray(partition.read(columns=["area_m2"])["area_m2"])
    return VectoriseReceipt(scene_id, query_id, reused=True, n_features=len(areas), area_m2=float(areas.sum()))
