"""Features as one file, for people who want a file: GeoPackage, GeoJSON or FlatGeobuf, through GDAL."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS

from pipeline.features import SCHEMA, partition_name
from pipeline.geodesy import CRS84
from pipeline.manifest import read_run
from pipeline.rasters import is_url
from pipeline.storage import Store
from t2s_core.errors import BadInput, MachineFault

LAYER = "features"
ROWS_PER_BATCH = 10_000
"""What is in memory at a time."""


@dataclass(frozen=True, slots=True)
class Format:
    """How GDAL is told to write one kind of file."""

    driver: str
    options: dict[str, str]


FORMATS = {
    "gpkg": Format("GPKG", {}),
    # RFC 7946 means longitude and latitude and no other CRS; nine decimals are a tenth of a millimetre.
    "geojson": Format("GeoJSON", {"RFC7946": "YES", "COORDINATE_PRECISION": "9"}),
    "fgb": Format("FlatGeobuf", {}),
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    href: str
    """Absolute path or URL."""
    n_features: int


@dataclass(frozen=True, slots=True)
class _Partition:
    query_id: str
    scene_id: str
    path: str
    """As the filesystem spells it."""


def export_features(
    out_url: str,
    file_format: str,
    *,
    query_ids: Sequence[str] = (),
    target: str | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write the features of a finished run to one file: of all its queries, or of `query_ids` alone.

    Every column of the dataset is kept but `bbox`, which such files have an index for; `query_id` and `scene_id` are
    columns too. All geometries become MultiPolygons, for a layer has one type. `target`: a path or URL;
    `features.<format>` in the working directory if None. Memory is bounded by a batch of rows, and nobody sees a
    half-written file. Raises `BadInput`; `MachineFault` where GDAL cannot write.
    """
    if file_format not in FORMATS:
        raise BadInput(f"--format {file_format!r} is none of {', '.join(FORMATS)}")
    store = Store.at(out_url)
    partitions = _partitions(store, query_ids)
    folder, name = _place(target or f"features.{file_format}", file_format)
    if folder.exists(name) and not overwrite:
        raise BadInput(f"{folder.href(name)} is there already; give --overwrite to replace it, or another --out")
    crs = _crs(store, partitions[0])
    if file_format == "geojson" and crs != CRS84:
        raise BadInput(f"GeoJSON knows only the Earth's WGS 84 and these are in {crs.name}; use --format gpkg")
    # GDAL keeps journals and indices beside what it writes, so it gets a folder of its own, on the target's disk.
    with tempfile.TemporaryDirectory(dir=folder.root if folder.is_local else None, prefix=".t2s-export-") as scratch:
        written = Path(scratch, name)
        _write(written, FORMATS[file_format], store, partitions, crs)
        if folder.is_local:
            written.replace(folder.path(name))
        else:
            folder.upload(written, name)
    return Exported(folder.href(name), sum(_n_rows(store, partition) for partition in partitions))


def _partitions(store: Store, query_ids: Sequence[str]) -> list[_Partition]:
    """What the run must have. Raises `BadInput` where it is no run, knows no such query, or is not finished."""
    manifest = read_run(store)
    known = [query["query_id"] for query in manifest["queries"]]
    unknown = [query_id for query_id in query_ids if query_id not in known]
    if unknown:
        raise BadInput(*(f"--query {q!r} is no query id of this run; it has {', '.join(known)}" for q in unknown))
    names = {
        (query_id, scene["scene_id"]): partition_name(scene["scene_id"], query_id)
        for query_id in known
        if query_id in query_ids or not query_ids
        for scene in manifest["scenes"]
    }
    missing = [name for name in names.values() if not store.exists(name)]
    if missing:
        way = "the run is not finished; run the same command again"
        raise BadInput(f"{store.href(missing[0])} is not there ({len(missing)} of {len(names)} such): {way}")
    return [_Partition(*ids, store.path(name)) for ids, name in names.items()]


def _place(target: str, file_format: str) -> tuple[Store, str]:
    """The folder, which is made where it is local, and the file's name in it."""
    if not target.endswith(f".{file_format}"):
        raise BadInput(f"--out {target} does not end with .{file_format}; readers go by it")
    if is_url(target) and not target.startswith("file://"):
        parent, name = target.rsplit("/", 1)
        try:
            fsspec.core.url_to_fs(parent)
        except (ValueError, ImportError) as error:
            raise BadInput(f"--out {target} cannot be written: {error}") from error
        return Store.at(parent), name
    path = Path(target.removeprefix("file://")).absolute()
    if path.is_dir():
        raise BadInput(f"--out {path} is a folder; name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {path} cannot be written: {error.strerror}; choose another place") from error
    return Store.at(str(path.parent)), path.name


def _crs(store: Store, partition: _Partition) -> CRS:
    """The one CRS of the dataset: a run never mixes bodies."""
    with store.fs.open(partition.path, "rb") as file:
        geo = json.loads(pq.read_schema(file).metadata[b"geo"])
    return CRS.from_json_dict(geo["columns"]["geometry"]["crs"])


def _n_rows(store: Store, partition: _Partition) -> int:
    with store.fs.open(partition.path, "rb") as file:
        return int(pq.read_metadata(file).num_rows)


def _write(path: Path, chosen: Format, store: Store, partitions: Sequence[_Partition], crs: CRS) -> None:
    # As all software knows it. GDAL keeps longitude first in files of either name.
    known_crs = "EPSG:4326" if crs == CRS84 else crs.to_wkt()
    schema = _flat(SCHEMA.empty_table(), partitions[0]).schema
    causes: list[Exception] = []
    try:
        pyogrio.write_arrow(
            pa.RecordBatchReader.from_batches(schema, _batches(store, partitions, schema, causes)),
            path,
            layer=LAYER,
            driver=chosen.driver,
            geometry_name="geometry",
            geometry_type="MultiPolygon",
            crs=known_crs,
            layer_options=chosen.options,
        )
    except (DataSourceError, DataLayerError, RuntimeError) as error:
        if causes:  # GDAL knows only that its input broke off
            raise causes[0] from error
        raise MachineFault(f"GDAL cannot write {path}: {error}; is the disk full?") from error


def _batches(
    store: Store, partitions: Sequence[_Partition], schema: pa.Schema, causes: list[Exception]
) -> Iterator[pa.RecordBatch]:
    try:
        for partition, table in _tables(store, partitions):
            yield from _flat(table, partition).cast(schema).to_batches()
    except Exception as error:
        causes.append(error)
        raise


def _tables(store: Store, partitions: Sequence[_Partition]) -> Iterator[tuple[_Partition, pa.Table]]:
    for partition in partitions:
        with store.fs.open(partition.path, "rb") as file:
            for batch in pq.ParquetFile(file).iter_batches(ROWS_PER_BATCH):
                yield partition, pa.Table.from_batches([batch])


def _flat(table: pa.Table, partition: _Partition) -> pa.Table:
    """Columns that any vector file can hold, with the partition's names in front."""
    geometries = shapely.from_wkb(np.asarray(table["geometry"].to_pylist(), object))
    multi = [shapely.to_wkb(shapely.multipolygons(shapely.get_parts(geometry))) for geometry in geometries]
    flat = table.drop_columns(["bbox", "geometry"]).replace_schema_metadata(None)
    for place, (name, value) in enumerate((("query_id", partition.query_id), ("scene_id", partition.scene_id))):
        flat = flat.add_column(place, pa.field(name, pa.string()), pa.repeat(value, table.num_rows))
    return flat.append_column(pa.field("geometry", pa.binary()), pa.array(multi, pa.binary()))
