"""Where a mosaic lies on the ground, said in every way that readers look for: CF and the GeoZarr conventions."""

from typing import Any

import numpy as np
import zarr
import zarr_cm
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS

from t2s_core.errors import BadInput

YX = ("y", "x")


def overview_geobox(geobox: GeoBox, factor: int) -> GeoBox:
    """The grid of an overview: pixels `factor` times as large; the last row and column may stick out."""
    height, width = geobox.shape
    return GeoBox((-(-height // factor), -(-width // factor)), geobox.affine @ Affine.scale(factor), geobox.crs)


def overview_dims(factor: int) -> tuple[str, str]:
    """`y_2`, `x_2`: xarray's DataTree hands `y` and `x` down to child groups, so theirs need names of their own."""
    return f"y_{factor}", f"x_{factor}"


def shape_yx(geobox: GeoBox) -> tuple[int, int]:
    """(height, width) in pixels."""
    shape = geobox.shape
    return int(shape[0]), int(shape[1])


def proj_crs(geobox: GeoBox) -> CRS:
    """The grid's CRS as pyproj has it. Raises `BadInput` where there is none."""
    if geobox.crs is None:
        raise BadInput("a grid without coordinate reference system cannot be placed on the ground; assign one.")
    return geobox.crs.proj


def add_coordinates(group: zarr.Group, geobox: GeoBox, dims: tuple[str, str] = YX) -> None:
    """Add `spatial_ref` (CF grid mapping with GDAL's GeoTransform) and, on an upright grid, the pixel centres."""
    transform = geobox.affine
    crs = proj_crs(geobox)
    gdal_order = (transform.c, transform.a, transform.b, transform.f, transform.d, transform.e)
    attributes = {**crs.to_cf(), "GeoTransform": " ".join(repr(float(v)) for v in gdal_order)}
    group.create_array("spatial_ref", shape=(), dtype="int64", fill_value=0, dimension_names=(), attributes=attributes)
    if transform.b or transform.d:
        return  # rotated or sheared: no 1-D coordinates exist, the transform says it all
    height, width = geobox.shape
    centres = {
        "Y": transform.f + transform.e * (np.arange(height) + 0.5),
        "X": transform.c + transform.a * (np.arange(width) + 0.5),
    }
    axes = {axis["axis"]: axis for axis in crs.cs_to_cf() if "axis" in axis}
    for name, (axis, values) in zip(dims, centres.items(), strict=True):
        group.create_array(name, data=values, dimension_names=(name,), attributes=axes.get(axis, {}))


def georeference(geobox: GeoBox, dims: tuple[str, str] = YX) -> dict[str, Any]:
    """Attributes of a group under the `proj:` and `spatial:` conventions."""
    return dict(zarr_cm.create_many({"proj": _proj(geobox), "spatial": _spatial(geobox, dims)}))


def pyramid(geobox: GeoBox, factors: tuple[int, ...]) -> dict[str, Any]:
    """`georeference` and `multiscales`: the group itself is the finest level, each overview derives from the last."""
    finer = (".", *map(str, factors))
    halving = {"scale": [2.0, 2.0], "translation": [0.0, 0.0]}
    layout: list[dict[str, Any]] = [{"asset": "."}]
    layout += [
        {"asset": str(factor), "derived_from": source, "transform": halving}
        for factor, source in zip(factors, finer, strict=False)
    ]
    multiscales = {"layout": layout}
    return dict(
        zarr_cm.create_many({"proj": _proj(geobox), "spatial": _spatial(geobox, YX), "multiscales": multiscales})
    )


def _proj(geobox: GeoBox) -> dict[str, Any]:
    crs = proj_crs(geobox)
    authority = crs.to_authority(min_confidence=100)
    wkt2 = {"proj:wkt2": crs.to_wkt()}
    return wkt2 if authority is None else {"proj:code": ":".join(authority), **wkt2}


def _spatial(geobox: GeoBox, dims: tuple[str, str]) -> dict[str, Any]:
    box = geobox.extent.boundingbox
    return {
        "spatial:dimensions": list(dims),
        "spatial:transform_type": "affine",
        "spatial:transform": [float(v) for v in geobox.affine[:6]],
        "spatial:shape": list(shape_yx(geobox)),
        "spatial:bbox": [float(box.left), float(box.bottom), float(box.right), float(box.top)],
        "spatial:registration": "pixel",
    }
