"""Features in GeoParquet: `features/query_id=<slug>/scene_id=<slug>/part-0.parquet`, each put atomically."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from shapely.geometry import Polygon

from pipeline.geodesy import CRS84, Polygonal, areas_m2, geographic_crs, to_geographic
from pipeline.georef import proj_crs
from pipeline.mosaics import blocks, finished, group_path, read_window
from pipeline.queries import Query
from pipeline.scenes import Scene
from pipeline.sources import Sources, read_sources, sources_touching
from pipeline.storage import Store
from pipeline.tiling import TileGrid, TileKey
from pipeline.vectorise import BlockPieces, Piece, merge_pieces, pieces_of_block
from pipeline.work import Workers
from t2s_core.errors import BadInput

FOLDER = "features"
SCHEMA_VERSION = "1"
ROWS_PER_GROUP = 25_000

_FINGERPRINT = b"t2s:fingerprint"
_BOX = ("xmin", "ymin", "xmax", "ymax")
SCHEMA = pa.schema(
    [
        pa.field("feature_id", pa.string(), nullable=False),
        pa.field("query", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("datetime", pa.timestamp("us", tz="UTC")),
        pa.field("geometry", pa.binary(), nullable=False),
        pa.field("bbox", pa.struct([pa.field(name, pa.float64(), nullable=False) for name in _BOX]), nullable=False),
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
    trace: Mapping[str, str] = MappingProxyType({}),
    min_area_m2: float = 0.0,
) -> VectoriseReceipt:
    """Turn a finished mosaic into its partition of features, unless that is there already.

    `index`: `results.read_index` of the results that the mosaic was stitched from. `grids`: by level. `fingerprint`:
    hash of all inputs; a partition with the same one is left as it is. `trace`: kept in the file's metadata.

    Pixels stay on the workers, a block at a time; polygons come back here. Raises `BadInput` where the mosaic is not
    finished.
    """
    found = _finished(store, scene.scene_id, query.query_id, fingerprint)
    if found is not None:
        return found
    facts = finished(store, scene.scene_id, query.query_id)
    if facts is None:
        raise BadInput(f"{scene.scene_id}/{query.query_id}: no finished mosaic to vectorise; stitch it first.")
    # The blocks are those of stitching, so that every target pixel is claimed by a tile (see `pieces_of_block`).
    windows = list(blocks(scene.shape, 1, facts["t2s:block_px"]))
    path, threshold = group_path(scene.scene_id, query.query_id), facts["t2s:threshold"]
    sources = sources_touching(store, scene.scene_id, index, grids, windows)
    tasks = (_Task(s, path, threshold) for s in sources if s.keys_by_batch)
    shown = sorted(workers.map(_pieces_of_block, tasks), key=_place)
    reasoning = {tile: text for block in shown for tile, text in block.reasoning.items()}
    pieces = merge_pieces(shown, scene.shape)
    table = feature_table(scene, query, pieces, reasoning, provenance, min_area_m2=min_area_m2)
    write_partition(store, scene, query.query_id, table, fingerprint, trace=trace)
    return _receipt(scene.scene_id, query.query_id, table["area_m2"], reused=False)


def feature_table(
    scene: Scene,
    query: Query,
    pieces: Sequence[Piece],
    reasoning: Mapping[TileKey, str],
    provenance: Provenance,
    *,
    min_area_m2: float = 0.0,
) -> pa.Table:
    """One row per polygon of at least `min_area_m2`, with the columns of `SCHEMA`, along the Hilbert curve."""
    outlines = list(shapely.normalize([piece.polygon_scene_px for piece in pieces]))
    geometries = to_geographic(outlines, scene.geobox)
    areas = areas_m2(geometries, geographic_crs(proj_crs(scene.geobox)))
    same_for_all = {
        "query": query.text,
        "label": query.label,
        "datetime": None if scene.datetime is None else datetime.fromisoformat(scene.datetime),
        **asdict(provenance),
    }
    rows = [
        {
            "feature_id": feature_id(scene.scene_id, query.text, outlines[i]),
            "geometry": shapely.to_wkb(geometries[i]),
            "bbox": dict(zip(_BOX, geometries[i].bounds, strict=True)),
            "area_m2": areas[i],
            "score": pieces[i].score,
            "n_tiles": len(pieces[i].claims_px),
            "touches_scene_edge": pieces[i].touches_edge(scene.shape),
            "reasoning": reasoning[pieces[i].main_tile],
            **same_for_all,
        }
        for i in _hilbert_order(geometries)
        if areas[i] >= min_area_m2
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def feature_id(scene_id: str, query: str, outline_scene_px: Polygon) -> str:
    """16 hex digits of a 64-bit hash of the scene, the query's text and the polygon in scene pixels."""
    outline = shapely.to_wkb(shapely.normalize(outline_scene_px), byte_order=1)
    return hashlib.blake2b(json.dumps([scene_id, query]).encode() + outline, digest_size=8).hexdigest()


def write_partition(
    store: Store, scene: Scene, query_id: str, table: pa.Table, fingerprint: str, *, trace: Mapping[str, str]
) -> None:
    """Put a partition in one atomic write; what was there before is replaced."""
    geometry_metadata = {"geo": json.dumps(geo_metadata(table, geographic_crs(proj_crs(scene.geobox))))}
    ours = {"t2s:schema_version": SCHEMA_VERSION, _FINGERPRINT.decode(): fingerprint, **trace}
    metadata = {**geometry_metadata, **ours}
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, SCHEMA.with_metadata(metadata), compression="zstd") as writer:
        if table.num_rows:  # a row group without rows has no statistics, which readers and validators stumble over
            writer.write_table(table.replace_schema_metadata(metadata), row_group_size=ROWS_PER_GROUP)
    store.write(partition_name(scene.scene_id, query_id), sink.getvalue())


def geo_metadata(table: pa.Table, crs: CRS) -> dict[str, Any]:
    """The `geo` entry of GeoParquet 1.1.0."""
    geometries = shapely.from_wkb(np.asarray(table["geometry"].to_pylist(), object))
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted({str(geometry.geom_type) for geometry in geometries}),
        "crs": crs.to_json_dict(),
        "orientation": "counterclockwise",
        "covering": {"bbox": {name: ["bbox", name] for name in _BOX}},
    }
    if len(geometries):
        column["bbox"] = [float(v) for v in shapely.total_bounds(geometries)]
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


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


def _pieces_of_block(task: _Task) -> BlockPieces:
    window = task.sources.window_scene_px
    probability, mask = read_window(task.sources.store, task.path, window)
    return pieces_of_block(window, probability, mask, read_sources(task.sources), task.threshold)


def _finished(store: Store, scene_id: str, query_id: str, fingerprint: str) -> VectoriseReceipt | None:
    name = partition_name(scene_id, query_id)
    if not store.exists(name):
        return None
    with store.fs.open(store.path(name), "rb") as file:
        partition = pq.ParquetFile(file)
        if (partition.schema_arrow.metadata or {}).get(_FINGERPRINT) != fingerprint.encode():
            return None
        areas = partition.read(columns=["area_m2"])["area_m2"]
    return _receipt(scene_id, query_id, areas, reused=True)


def _receipt(scene_id: str, query_id: str, areas: pa.ChunkedArray, *, reused: bool) -> VectoriseReceipt:
    return VectoriseReceipt(scene_id, query_id, reused, len(areas), float(np.asarray(areas).sum()))


def _place(block: BlockPieces) -> tuple[int, int]:
    # Workers answer in any order; a repeated run must give the same bytes.
    return block.window_scene_px.y0, block.window_scene_px.x0


def _hilbert_order(geometries: Sequence[Polygonal]) -> NDArray[np.int64]:
    if not geometries:
        return np.empty(0, np.int64)
    series = gpd.GeoSeries(list(geometries))
    return np.argsort(series.hilbert_distance().to_numpy(), kind="stable")
