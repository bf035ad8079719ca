"""Labels as files hold them: outlines with their queries, or a raster of class values, and where they are complete."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from pipeline.aoi import Aoi
from pipeline.curate_spec import CurationSpec
from pipeline.curate_words import cell_text, filled, is_missing, key_of, template_fields
from pipeline.queries import text_of_query
from pipeline.rasters import RASTER_ERRORS, is_url, open_raster, version_of
from pipeline.texts import one_line
from pipeline.vectors import read_vector
from t2s_core.errors import BadInput

_RASTER_SUFFIXES = {".tif", ".tiff", ".vrt", ".jp2"}
_HALF_GLOBE = 180.0


@dataclass(frozen=True)
class VectorLayer:
    """Outlines of one file."""

    href: str
    etag: str
    """32 hex digits of the layer's contents."""
    crs: str
    areas: Mapping[str, BaseGeometry]
    """By key of the query (see `curate_words.key_of`): all its outlines united, in `crs`; may be empty."""
    named: Mapping[str, str]
    """Text of each query, with its category."""
    cover: Aoi
    """Where the layer is complete: inside, what has no outline is no target; outside, nothing is known."""
    notes: Sequence[str] = ()
    """What a person should know."""


@dataclass(frozen=True)
class RasterLayer:
    """A raster of class values. Complete wherever it has data."""

    href: str
    etag: str
    cover: Aoi
    """Its footprint."""
    values: Mapping[str, frozenset[int] | None]
    """By key of the query: the values that are its targets; None means every value above 0."""
    named: Mapping[str, str]
    """Text of each query, with its category."""
    notes: Sequence[str] = ()


@dataclass
class _Outlines:
    areas: dict[str, list[BaseGeometry]] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)
    n_unnamed: int = 0

    def add(self, text: str, category: str, outline: BaseGeometry | None) -> None:
        key = key_of(text)
        if key not in self.areas:
            self.areas[key], self.named[text] = [], category
        if outline is not None:
            self.areas[key].append(outline)


def read_labels(
    href: str, spec: CurationSpec, class_values: Mapping[str, str] | None, cover: Aoi | None
) -> VectorLayer | RasterLayer:
    """Read one file of `spec.labels`. Of a raster only the header is read.

    Args:
        href: Path or URL; `.tif`, `.tiff`, `.vrt` and `.jp2` are rasters, all else is what geopandas reads.
        spec: Says which column, template or text names the queries.
        class_values: What `spec.class_values` holds.
        cover: Where the file is complete; the bounds of its outlines if None. Rasters say it themselves.

    Raises:
        BadInput: All that is wrong with the file.

    """
    if Path(href).suffix.lower() in _RASTER_SUFFIXES:
        return _read_raster(href, spec, class_values)
    table, outlines, mended = read_outlines(href)
    found = _queries_of_rows(href, table, outlines, spec, class_values)
    notes = [f"{href}: {n} {what}" for n, what in ((mended, "outlines were invalid and were mended"),
             (found.n_unnamed, "outlines have no query and are nobody's target")) if n]  # fmt: skip
    if not any(found.areas.values()):
        raise BadInput(f"{href}: none of its {len(table)} rows has a query; check the column and --class-values")
    crs = crs_text(table.crs)
    areas = {key: shapely.union_all(parts) for key, parts in found.areas.items()}
    return VectorLayer(
        href, digest_of(areas, crs), crs, areas, found.named, cover or _bounds(href, outlines, table.crs), notes
    )


def read_outlines(href: str) -> tuple[gpd.GeoDataFrame, list[BaseGeometry], int]:
    """The table of a vector file, each row's valid 2-D polygons, and how many were mended.

    Rows without geometry are left out: an edited layer is full of them. Raises `BadInput`.
    """
    try:
        table = read_vector(href, parquet=_is_parquet(href))
        if not isinstance(table, gpd.GeoDataFrame):
            raise ValueError("it holds a table without geometry")  # noqa: TRY004, TRY301 -- the user's data
    except (DataSourceError, DataLayerError, OSError, ValueError, ImportError) as error:
        raise BadInput(f"{href}: cannot be read: {one_line(error)}; give a vector file") from error
    problems = []
    if table.crs is None:
        problems.append(f"{href}: has no coordinate reference system; assign one")
    table = table[~(table.geometry.isna() | table.geometry.is_empty)].reset_index(drop=True)
    kinds = table.geometry.geom_type
    for kind in sorted(set(kinds) - {"Polygon", "MultiPolygon"}):
        first = int(np.argmax((kinds == kind).to_numpy())) + 1
        problems.append(f"{href}: row {first} is a {kind}; only polygons have an area, buffer it")
    if not len(table):
        problems.append(f"{href}: holds no outline; label something")
    if problems:
        raise BadInput(*problems)
    flat = shapely.force_2d(table.geometry.to_numpy())
    invalid = ~shapely.is_valid(flat)
    flat[invalid] = shapely.make_valid(flat[invalid], method="structure", keep_collapsed=False)
    return table, list(flat), int(invalid.sum())


def _is_parquet(href: str) -> bool:
    """Whether it is a file, or a directory of files (a run's features, edited in place)."""
    is_dataset = not is_url(href) and Path(href).is_dir() and next(Path(href).rglob("*.parquet"), None) is not None
    return is_dataset or href.lower().endswith(".parquet")


def crs_text(crs: Any) -> str:  # noqa: ANN401 -- pyproj ships no types
    """`EPSG:32633`; WKT for a CRS that no authority knows exactly so."""
    authority = CRS(crs).to_authority(min_confidence=100)
    return ":".join(authority) if authority else str(CRS(crs).to_wkt())


def digest_of(areas: Mapping[Any, BaseGeometry], crs: str) -> str:
    """32 hex digits of what is outlined, whatever the order and the format of the file."""
    lines = sorted(f"{key}={shapely.to_wkb(shapely.normalize(area), hex=True)}" for key, area in areas.items())
    return hashlib.sha256("\n".join([crs, *lines]).encode()).hexdigest()[:32]


def _queries_of_rows(
    href: str,
    table: gpd.GeoDataFrame,
    outlines: Sequence[BaseGeometry],
    spec: CurationSpec,
    class_values: Mapping[str, str] | None,
) -> _Outlines:
    wanted = template_fields(spec.query_template) if spec.query_template is not None else []
    wanted += [spec.query_column] if spec.query_column is not None else []
    lacking = [name for name in wanted if name not in table.columns]
    if lacking:
        there = ", ".join(str(c) for c in table.columns if c != table.geometry.name)
        raise BadInput(f"{href}: has no column {lacking[0]!r}; it has {there or 'none'}")
    if spec.query is None and not wanted:
        raise BadInput(f"{href}: class values of outlines lie in a column; name it with --query-column")
    found = _Outlines()
    for text in (class_values or {}).values() if spec.query_column is not None else ():
        found.add(text, text, None)  # what the legend names and no row has was looked for, and is not there
    rows = table[wanted].to_dict("records") if wanted else [{}] * len(table)
    for row, outline in zip(rows, outlines, strict=True):
        named = _named(row, spec, class_values)
        if named is None:
            found.n_unnamed += 1
        else:
            found.add(*named, outline)
    return found


def _named(
    row: Mapping[Any, Any], spec: CurationSpec, class_values: Mapping[str, str] | None
) -> tuple[str, str] | None:
    """Text and category of a row's query; None where the row says none."""
    if spec.query is not None:
        return text_of_query(spec.query), text_of_query(spec.query)
    if spec.query_template is not None:
        text = filled(spec.query_template, row)
        fields = template_fields(spec.query_template)
        return None if text is None else (text, " ".join(cell_text(row[name]) for name in fields))
    value = row[spec.query_column]
    if is_missing(value):
        return None
    text = text_of_query(cell_text(value)) if class_values is None else class_values.get(cell_text(value))
    return None if text is None else (text, text)


def _bounds(href: str, outlines: Sequence[BaseGeometry], crs: Any) -> Aoi:  # noqa: ANN401
    west, south, east, north = shapely.total_bounds(outlines)
    if CRS(crs).is_geographic and east - west > _HALF_GLOBE:
        text = "reaches more than half around the globe, and is hardly complete there; say where with --labels-cover"
        raise BadInput(f"{href}: {text}")
    return Aoi(href, shapely.box(west, south, east, north), crs_text(crs))


def _read_raster(href: str, spec: CurationSpec, class_values: Mapping[str, str] | None) -> RasterLayer:
    problems = []
    try:
        with open_raster(href) as dataset:
            etag, dtype, count, crs = version_of(href, dataset), dataset.dtypes[0], dataset.count, dataset.crs
            nodata = dataset.nodata
            corners = [(0, 0), (dataset.width, 0), (dataset.width, dataset.height), (0, dataset.height)]
            footprint = shapely.Polygon([dataset.transform @ corner for corner in corners])
    except (*RASTER_ERRORS, ImportError) as error:
        raise BadInput(f"{href}: cannot be read: {one_line(error)}; give a raster of values") from error
    if crs is None:
        problems.append(f"{href}: has no coordinate reference system; assign one: `gdal_edit.py -a_srs EPSG:CODE FILE`")
    if count != 1:
        problems.append(f"{href}: has {count} bands; give one band of class values")
    if np.dtype(dtype).kind not in "ui":
        problems.append(f"{href}: dtype {dtype} holds no class values; convert it: `gdal_translate -ot Byte`")
    if spec.query is None and class_values is None:
        problems.append(f"{href}: what are its values called? add --query, or --class-values for several")
    if class_values is None and nodata == 0:
        text = "0 is its nodata value, so nothing in it is background; `gdal_edit.py -unsetnodata FILE` makes 0 a value"
        problems.append(f"{href}: {text}")
    values: dict[str, frozenset[int] | None] = {}
    if class_values is not None:
        odd = [value for value in class_values if not value.lstrip("-").isdigit()]
        problems += [f"{href}: class value {odd[0]!r} is no whole number; a raster holds numbers"] if odd else []
        by_text: dict[str, set[int]] = {}
        for value, text in class_values.items():
            by_text.setdefault(key_of(text), set()).update([] if odd else [int(value)])
        values = {key: frozenset(numbers) for key, numbers in by_text.items()}
        named = {text: text for text in class_values.values()}
    else:
        text = text_of_query(spec.query or "")
        values, named = {key_of(text): None}, {text: text}
    if problems:
        raise BadInput(*problems)
    return RasterLayer(href, etag, Aoi(href, footprint, _raster_crs_text(crs)), values, named)


def _raster_crs_text(crs: Any) -> str:  # noqa: ANN401 -- rasterio ships no types
    authority = crs.to_authority(confidence_threshold=100)
    return ":".join(authority) if authority else str(crs.to_wkt())
