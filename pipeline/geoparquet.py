"""GeoParquet 1.1.0, row group by row group: a table of any length in the memory of one of its groups."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from pipeline.storage import Store

ROWS_PER_GROUP = 10_000
_TYPES = {3: "Polygon", 6: "MultiPolygon"}  # by the second byte of little-endian WKB
_BOX = ("xmin", "ymin", "xmax", "ymax")
GEOMETRY_FIELDS = (
    pa.field("geometry", pa.binary(), nullable=False),
    pa.field("bbox", pa.struct([pa.field(name, pa.float64(), nullable=False) for name in _BOX]), nullable=False),
)
"""WKB and what it covers."""


class GeoParquetWriter:
    """Writes one file; of `created`."""

    def __init__(self, path: Path, schema: pa.Schema, crs: CRS) -> None:
        # Without Arrow's own copy of the schema, so that the metadata that are known at the end are the schema's.
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", store_schema=False)
        self._crs = crs
        self._types: set[str] = set()
        self._bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])

    def add(self, table: pa.Table) -> None:
        """Write rows in groups of at most `ROWS_PER_GROUP`. None gives no group: readers stumble over empty ones."""
        if not table.num_rows:
            return
        self._types |= {_TYPES[wkb[1]] for wkb in table["geometry"].to_pylist()}
        edges = [table["bbox"].combine_chunks().field(i).to_numpy() for i in range(4)]
        self._bounds[:2] = np.minimum(self._bounds[:2], [edge.min() for edge in edges[:2]])
        self._bounds[2:] = np.maximum(self._bounds[2:], [edge.max() for edge in edges[2:]])
        self._writer.write_table(table, row_group_size=ROWS_PER_GROUP)

    def close(self, metadata: Mapping[str, str]) -> None:
        """End the file; `metadata` go beside `geo`."""
        column: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": sorted(self._types),
            "crs": self._crs.to_json_dict(),
            "orientation": "counterclockwise",
            "covering": {"bbox": {name: ["bbox", name] for name in _BOX}},
        }
        if self._types:
            column["bbox"] = self._bounds.tolist()
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
        self._writer.add_key_value_metadata({"geo": json.dumps(geo), **metadata})
        self._writer.close()


@contextmanager
def created(
    store: Store, name: str, schema: pa.Schema, crs: CRS, metadata: Mapping[str, str]
) -> Iterator[GeoParquetWriter]:
    """Put a file in one atomic write when the body ends well; else what was there stays.

    The rows lie on the local disk until then. `crs`: of the geometries. `metadata`: of the schema.
    """
    with tempfile.TemporaryDirectory(prefix="t2s-") as folder:
        path = Path(folder) / "part.parquet"
        writer = GeoParquetWriter(path, schema, crs)
        yield writer
        writer.close(metadata)
        store.upload(path, name)


def geometry_columns(geometries: NDArray[np.object_]) -> dict[str, pa.Array]:
    """`geometry` and `bbox` of polygons, (n,)."""
    boxes = shapely.bounds(geometries).reshape(-1, 4)
    fields = list(GEOMETRY_FIELDS[1].type)
    return {
        "geometry": pa.array(shapely.to_wkb(geometries, byte_order=1).tolist(), pa.binary()),
        "bbox": pa.StructArray.from_arrays([pa.array(boxes[:, i]) for i in range(4)], fields=fields),
    }


def hilbert_order(geometries: Sequence[shapely.Geometry] | NDArray[np.object_]) -> NDArray[np.int64]:
    """(n,): places of the geometries along the Hilbert curve over all of them."""
    if not len(geometries):
        return np.empty(0, np.int64)
    return np.argsort(gpd.GeoSeries(geometries).hilbert_distance().to_numpy(), kind="stable")
