"""Small labelled scenes to curate, and what came of it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from regions import NORTH_UP
from shapely.geometry.base import BaseGeometry

from pipeline.curate import run_curation
from pipeline.curate_prepare import prepare_curation
from pipeline.curate_spec import CurationSpec
from pipeline.progress import Silent

TILE_PX = 64

Rows = list[dict[str, Any]]


def curate(out: Path, *, fresh: bool = False, **options: Any) -> tuple[dict[str, Any], Rows]:
    """dataset.json and samples.parquet of a data set of 64 px chips; one block holds everything unless told."""
    spec = CurationSpec(**{"tile_px": TILE_PX, "block_m": 100_000.0, "val": 0.0, "test": 0.0, **options})
    document = run_curation(prepare_curation(spec, str(out), fresh=fresh), Silent(), fresh=fresh)
    assert document == json.loads((out / "dataset.json").read_text())
    return document, pq.read_table(out / "samples.parquet").to_pylist()


def ground(*window_px: float, transform: Affine = NORTH_UP) -> BaseGeometry:
    """A rectangle of scene pixels (x0, y0, x1, y1) in the scene's CRS."""
    a, b, c, d, e, f = transform[:6]
    return shapely.affinity.affine_transform(shapely.box(*window_px), [a, b, d, e, c, f])


def write_labels(path: Path, rows: Sequence[dict[str, Any]], crs: str = "EPSG:32633", to: str | None = None) -> Path:
    """Rows with a `geometry` in `crs`, saved in `to`."""
    frame = gpd.GeoDataFrame(list(rows), geometry="geometry", crs=crs)
    frame = frame if to is None else frame.to_crs(to)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    return path


def pixels(path: Path) -> NDArray[Any]:
    """(bands, height, width)."""
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read())


def window_of(row: dict[str, Any]) -> tuple[slice, slice]:
    """(rows, columns) of the scene."""
    return slice(row["y0"], row["y1"]), slice(row["x0"], row["x1"])
