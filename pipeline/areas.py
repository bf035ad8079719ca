"""Places in degrees, as STAC and GeoJSON write them: bounding boxes, and an area that items are held against."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.transform import Affine
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from pipeline.geodesy import to_geographic
from t2s_core.errors import BadInput

_SIDE_PX = 1024
"""Of the grid that an area is drawn on to bring it to degrees: edges stray by a tenth of such a pixel at most."""
_SPARE = 0.01
"""Of its size, that an item's box is given beyond its edges: boxes are rounded, and written by strangers."""
_ALL_AROUND = 360.0


@dataclass(frozen=True, slots=True)
class Area:
    """An area of interest in degrees."""

    polygons: BaseGeometry
    """Longitude and latitude, within -180 to 180: split where it crosses the antimeridian."""
    stray: float = 0.0
    """Degrees by which its edges may lie elsewhere."""

    @classmethod
    def of(cls, geometry: BaseGeometry, crs: str) -> "Area | None":
        """From polygons in any CRS; None where a part has no place in degrees: then only scenes can be asked."""
        west, south, east, north = geometry.bounds
        pixel = max(east - west, north - south) / _SIDE_PX
        shape = (max(1, round((north - south) / pixel)), max(1, round((east - west) / pixel)))
        to_ground = Affine(pixel, 0, west, 0, -pixel, north)
        parts = shapely.transform(
            shapely.get_parts(geometry), lambda xy: np.column_stack([xy[:, 0] - west, north - xy[:, 1]]) / pixel
        )
        try:
            placed = to_geographic(parts, GeoBox(shape, to_ground, CRS(crs)), along_pixels=False)
        except BadInput:
            return None
        united = shapely.union_all(placed)
        shapely.prepare(united)  # a hundred thousand items may be held against it
        bounds = shapely.bounds(shapely.get_parts(united))
        return cls(united, float((bounds[:, 2:] - bounds[:, :2]).max()) / _SIDE_PX)

    @property
    def bbox(self) -> tuple[float, float, float, float]:
        """As `bbox_of`."""
        west, south, east, north = bbox_of([self.polygons])
        return west, south, east, north

    def misses(self, bbox: Sequence[float]) -> bool:
        """Whether a box (west, south, east, north; west greater than east across the antimeridian) lies all outside."""
        west, south, east, north = bbox
        east += _ALL_AROUND if east < west else 0.0
        spare = max(_SPARE * max(east - west, north - south), self.stray)
        box = shapely.box(west - spare, south - spare, east + spare, north + spare)
        return not any(self.polygons.intersects(translate(box, by)) for by in (-_ALL_AROUND, 0.0, _ALL_AROUND))


def bbox_of(footprints: Sequence[BaseGeometry]) -> list[float]:
    """West, south, east, north of polygons in degrees, each part of them on one side of the antimeridian.

    West is greater than east where the shortest box spans the antimeridian (RFC 7946).
    """
    bounds = shapely.bounds([part for footprint in footprints for part in shapely.get_parts(footprint)])
    south, north = float(bounds[:, 1].min()), float(bounds[:, 3].max())
    west, east = _shortest_span(sorted((float(b[0]), float(b[2])) for b in bounds))
    return [west, south, east, north]


def _shortest_span(spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Around the globe, what lies opposite the widest gap between the sorted `spans` (west, east)."""
    reach, gaps = spans[0][1], []
    for west, east in spans[1:]:
        gaps.append((west - reach, west, reach))
        reach = max(reach, east)
    around = spans[0][0] + _ALL_AROUND - reach
    widest = max(gaps, default=(0.0, 0.0, 0.0))
    return (spans[0][0], reach) if widest[0] <= around else (widest[1], widest[2])
