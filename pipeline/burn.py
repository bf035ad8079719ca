"""A partition of features as pixels again, window by window: what vectorising did, undone."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pyarrow.parquet as pq
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.features import rasterize
from shapely.affinity import translate

from pipeline.geodesy import geographic_crs
from pipeline.georef import proj_crs
from pipeline.storage import Store
from pipeline.tiling import Window

_GROUPS_IN_MEMORY = 2


class BurntFeatures:
    """One partition. Memory is bounded by two row groups and a window."""

    def __init__(self, store: Store, name: str, geobox: GeoBox) -> None:
        """Reads every geometry once, to know where each row group lies: bboxes may be wrong, and are not believed."""
        self._store, self._name, self._geobox = store, name, geobox
        self._polygons = lru_cache(_GROUPS_IN_MEMORY)(self._read)
        with store.fs.open(store.path(name), "rb") as file:
            n_groups = pq.read_metadata(file).num_row_groups
        self._bounds = [shapely.total_bounds(self._polygons(i)) for i in range(n_groups)]

    def window(self, window_scene_px: Window) -> NDArray[np.bool_]:
        """(height, width), True where the middle of a pixel lies in a feature."""
        shapes = list(self._touching(window_scene_px))
        shape = (window_scene_px.height, window_scene_px.width)
        if not shapes:
            return np.zeros(shape, np.bool_)
        corner = Affine.translation(window_scene_px.x0, window_scene_px.y0)
        burnt: NDArray[np.bool_] = rasterize(shapes, out_shape=shape, transform=corner, dtype=np.uint8) == 1
        return burnt

    def _touching(self, window: Window) -> Iterator[shapely.Polygon]:
        for i, bounds in enumerate(self._bounds):
            if not _meet(bounds, window):
                continue
            polygons = self._polygons(i)
            x0, y0, x1, y1 = shapely.bounds(polygons).T
            inside = (x0 < window.x1) & (x1 > window.x0) & (y0 < window.y1) & (y1 > window.y0)
            yield from polygons[inside]

    def _read(self, i: int) -> NDArray[np.object_]:
        """The polygons of a row group in scene pixels, parts of MultiPolygons apart."""
        with self._store.fs.open(self._store.path(self._name), "rb") as file:
            table = pq.ParquetFile(file).read_row_group(i, columns=["geometry"])
        parts = shapely.get_parts(shapely.from_wkb(np.asarray(table["geometry"].to_pylist(), object)))
        return in_scene_px(parts, self._geobox)


def in_scene_px(parts: NDArray[np.object_], geobox: GeoBox) -> NDArray[np.object_]:
    """Polygons in degrees (longitude, latitude) on the scene's grid; none of them crosses the antimeridian."""
    crs = proj_crs(geobox)
    to_map = Transformer.from_crs(geographic_crs(crs), crs, always_xy=True)

    def placed(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        lon, lat = lonlat.T
        return np.column_stack(to_map.transform(lon, lat, errcheck=True))

    on_map = shapely.transform(parts, placed)
    if crs.is_geographic:
        on_map = _on_this_side(on_map, geobox, period=2 * np.pi / crs.axis_info[0].unit_conversion_factor)
    a, b, c, d, e, f = (~geobox.affine)[:6]
    return np.asarray(shapely.transform(on_map, lambda xy: xy @ np.array([[a, d], [b, e]]) + (c, f)), object)


def _on_this_side(parts: NDArray[np.object_], geobox: GeoBox, *, period: float) -> NDArray[np.object_]:
    """Where a scene in degrees goes on beyond the antimeridian, features were brought back by a whole turn."""
    west = float(geobox.extent.boundingbox.left)
    middles = shapely.bounds(parts)[:, [0, 2]].mean(axis=1)
    turns = -np.floor((middles - west) / period)
    shifted = [translate(part, turn * period) if turn else part for part, turn in zip(parts, turns, strict=True)]
    return np.asarray(shifted, object)


def _meet(bounds: NDArray[np.float64], window: Window) -> bool:
    x0, y0, x1, y1 = bounds
    return bool(x0 < window.x1 and x1 > window.x0 and y0 < window.y1 and y1 > window.y0)
