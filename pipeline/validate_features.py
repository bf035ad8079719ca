"""Laws of the GeoParquet dataset, looked at a row group at a time."""

import json
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from pipeline.burn import BurntFeatures
from pipeline.features import FOLDER, SCHEMA, SCHEMA_VERSION, partition_name
from pipeline.findings import Findings, Published
from pipeline.geodesy import areas_m2, geographic_crs
from pipeline.georef import proj_crs
from pipeline.mosaics import group_path, read_window
from pipeline.queries import Query
from pipeline.storage import Store
from pipeline.validate_masks import say_pixels, windows_of

ROWS_AT_ONCE = 10_000

_ID = re.compile(r"[0-9a-f]{16}")
_BOX = ("xmin", "ymin", "xmax", "ymax")
_AREA_TOLERANCE = 1e-6
_TARGET = 1
_GLOBE = (180, 90, 180, 90)
_POLYGONAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


def check_partitions(run: Published, found: Findings) -> None:
    """Every scene and query has its file, of our schema and of GeoParquet's rules."""
    expected = set()
    for plan, query in run.mosaics():
        name = partition_name(plan.scene.scene_id, query.query_id)
        expected.add(name)
        with found.reading(name):
            with run.store.fs.open(run.store.path(name), "rb") as file:
                crs = geographic_crs(proj_crs(plan.scene.geobox))
                check_schema(pq.read_schema(file), SCHEMA, name, found, version=SCHEMA_VERSION, crs=crs)
            check_by_others(run.store, name, found)
            _check_constants(run.store, name, query, found)
    others = set(run.store.names(FOLDER)) - expected
    if others:
        found.note(f"{len(others)} files that run.json knows nothing of, e.g. {min(others)}; readers see their rows")


def check_schema(schema: pa.Schema, expected: pa.Schema, name: str, found: Findings, *, version: str, crs: CRS) -> None:
    """A file's columns and metadata are those of a version of our schema, its geometries of a CRS."""
    metadata = schema.metadata or {}
    stated_version = metadata.get(b"t2s:schema_version", b"").decode()
    found.expect(name, "schema version", found=stated_version, expected=version)
    for field in expected:
        if field.name not in schema.names or not schema.field(field.name).equals(field):
            found.problem(name, f"has no column {field.name} of {field.type}")
    extra = set(schema.names) - set(expected.names)
    if extra:
        found.problem(name, f"has columns of no schema: {', '.join(sorted(extra))}")
    stated = CRS.from_json_dict(json.loads(metadata[b"geo"])["columns"]["geometry"]["crs"])
    if stated != crs:
        found.problem(name, f"is in {stated.name}, not in its body's longitude and latitude")


def check_by_others(store: Store, name: str, found: Findings) -> None:
    """geoparquet-validator has no complaint, where it is installed."""
    try:
        import geoparquet_validator
    except ModuleNotFoundError:
        found.note("geoparquet-validator is not installed, so only our own laws hold (pip install t2s[validate])")
        return
    if not store.is_local:
        found.note("geoparquet-validator looks at local files only")
        return
    failed = geoparquet_validator.failed(geoparquet_validator.check(store.path(name)))
    if failed:
        found.problem(name, f"geoparquet-validator: {', '.join(failed)}")


def _check_constants(store: Store, name: str, query: Query, found: Findings) -> None:
    for rows in read_rows(store, name, ["query", "label"]):
        for column, expected in (("query", query.text), ("label", query.label)):
            others = set(rows[column].to_pylist()) - {expected}
            if others:
                found.problem(name, f"{column} is {min(map(str, others))!r} in some rows, not {expected!r}")


def check_bboxes(run: Published, found: Findings) -> None:
    """The covering is the geometry's bounds, to the bit: readers skip what it does not touch."""
    for name in _partitions(run):
        with found.reading(name):
            for rows in read_rows(run.store, name, ["feature_id", "geometry", "bbox"]):
                say_rows(wrong_boxes(rows), rows, name, "bbox is not the geometry's bounds", found)


def wrong_boxes(rows: pa.Table) -> NDArray[np.bool_]:
    """(n,): True where `bbox` is not the bounds of `geometry`."""
    boxes = rows["bbox"].combine_chunks()
    stated = np.column_stack([boxes.field(side).to_numpy(zero_copy_only=False) for side in _BOX])
    return np.asarray((stated != shapely.bounds(geometries_of(rows))).any(axis=1), np.bool_)


def check_geometries(run: Published, found: Findings) -> None:
    """Valid, not empty, polygonal, on the globe; areas, scores and tile counts are possible and true."""
    columns = ["feature_id", "geometry", "area_m2", "score", "n_tiles"]
    for plan, query in run.mosaics():
        name, crs = partition_name(plan.scene.scene_id, query.query_id), geographic_crs(proj_crs(plan.scene.geobox))
        with found.reading(name):
            for rows in read_rows(run.store, name, columns):
                for what, wrong in wrong_geometries(rows, crs).items():
                    say_rows(wrong, rows, name, what, found)
                say_rows(rows["n_tiles"].to_numpy() < 1, rows, name, "n_tiles is less than 1", found)


def wrong_geometries(rows: pa.Table, crs: CRS) -> dict[str, NDArray[np.bool_]]:
    """By what is wrong with geometries, areas and scores, (n,): True where it is."""
    geometries = geometries_of(rows)
    polygonal = np.isin(shapely.get_type_id(geometries), _POLYGONAL)
    stated, score = rows["area_m2"].to_numpy()[polygonal], rows["score"].to_numpy()
    areas = areas_m2(list(geometries[polygonal]), crs)
    off = np.zeros(len(rows), np.bool_)
    off[polygonal] = np.abs(areas - stated) > _AREA_TOLERANCE * areas
    return {
        "geometry is not valid, or empty": ~shapely.is_valid(geometries) | shapely.is_empty(geometries),
        "geometry is no Polygon or MultiPolygon": ~polygonal,
        "geometry is beyond the globe": (np.abs(shapely.bounds(geometries)) > _GLOBE).any(axis=1),
        "area_m2 is not the geodesic area": off,
        "score is not within 0 to 1": ~((score >= 0) & (score <= 1)),
    }


def check_ids(run: Published, found: Findings) -> None:
    """16 hex digits, and no two features share them. Eight bytes of memory per feature."""
    ids = [np.empty(0, np.uint64)]
    for name in _partitions(run):
        with found.reading(name):
            for rows in read_rows(run.store, name, ["feature_id"]):
                texts = rows["feature_id"].to_pylist()
                malformed = np.array([text is None or _ID.fullmatch(text) is None for text in texts], np.bool_)
                say_rows(malformed, rows, name, "feature_id is not 16 hex digits", found)
                good = [int(text, 16) for text, bad in zip(texts, malformed, strict=True) if not bad]
                ids.append(np.array(good, np.uint64))
    values, counts = np.unique(np.concatenate(ids), return_counts=True)
    for value, count in zip(values[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True):
        found.problem(f"feature {value:016x}", f"{count} rows have this id")


def check_against_masks(run: Published, found: Findings) -> None:
    """Features burned back into the scene's grid are the mask, pixel by pixel, but for what was left out on purpose."""
    for plan, query in run.mosaics():
        name, rules = partition_name(plan.scene.scene_id, query.query_id), run.query_entry(query.query_id)
        if rules.get("simplify_m", 0) > 0:
            found.note(f"{query.query_id} is simplified, so its outlines are not the mask's")
            continue
        none_left_out = rules.get("min_area_m2", 0) == 0
        with found.reading(name):
            features = BurntFeatures(run.store, name, plan.scene.geobox)
            for window in windows_of(plan.scene.shape):
                _, mask = read_window(run.store, group_path(plan.scene.scene_id, query.query_id), window)
                burnt = features.window(window)
                say_pixels(burnt & (mask != _TARGET), window, name, "a feature where the mask has none", found)
                missed = ~burnt & (mask == _TARGET) & none_left_out
                say_pixels(missed, window, name, "no feature where the mask has one", found)


def _partitions(run: Published) -> Iterator[str]:
    for plan, query in run.mosaics():
        yield partition_name(plan.scene.scene_id, query.query_id)


def read_rows(store: Store, name: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of a file, `ROWS_AT_ONCE`, with the named columns."""
    with store.fs.open(store.path(name), "rb") as file:
        for batch in pq.ParquetFile(file).iter_batches(ROWS_AT_ONCE, columns=list(columns)):
            yield pa.Table.from_batches([batch])


def geometries_of(rows: pa.Table) -> NDArray[np.object_]:
    """(n,) the column `geometry`, read."""
    return np.asarray(shapely.from_wkb(np.asarray(rows["geometry"].to_pylist(), object)), object)


def say_rows(
    wrong: NDArray[np.bool_], rows: pa.Table, name: str, what: str, found: Findings, *, of: str = "feature"
) -> None:
    """One problem for each of the `wrong` rows, which are of features or of objects."""
    for i in np.flatnonzero(wrong).tolist():
        found.problem(f"{name} {of} {rows[f'{of}_id'][i]}", what)
