"""The plane that all scenes of a run are drawn in, so that one map shows them together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.crs import ProjectedCRS
from pyproj.crs.coordinate_operation import StereographicConversion

from pipeline.geodesy import geographic_crs, to_crs
from pipeline.georef import proj_crs
from pipeline.scenes import Scene

Floats = NDArray[np.float64]

_PER_SIDE = 9
"""Points along a scene's side: a side that is bent in the map's plane is drawn bent."""
NEAR_M = 2_000_000.0
"""How wide a region may be for the plane of most of its scenes to do for the others, and for one scale to hold in all
of it, in metres."""


@dataclass(frozen=True)
class MapFrame:
    """A projected CRS, and the point of it that is the map's origin: small numbers take less of a page."""

    crs: CRS
    origin: tuple[float, float]
    """x, y in the CRS."""

    def of_scene(self, scene: Scene, xy_scene_px: Floats) -> Floats:
        """(n, 2): points of a scene, in its pixels, on the map. What is nowhere on the map is infinite."""
        a, b, c, d, e, f = scene.geobox.affine[:6]
        x, y = xy_scene_px[:, 0], xy_scene_px[:, 1]
        own = a * x + b * y + c, d * x + e * y + f
        return self._placed(proj_crs(scene.geobox), *own)

    def of_frame(self, frame: gpd.GeoDataFrame) -> NDArray[np.object_]:
        """(n,): a table's geometries on the map."""
        if frame.empty:
            return np.empty(0, object)
        crs = CRS.from_user_input(frame.crs)
        placed: Any = shapely.transform(frame.geometry.to_numpy(), lambda xy: self._placed(crs, xy[:, 0], xy[:, 1]))
        return np.asarray(placed, object)

    def outline(self, scene: Scene) -> Floats:
        """(n, 2): a scene's border, without points that are nowhere on the map."""
        height, width = scene.shape
        along = np.linspace(0, 1, _PER_SIDE)[:-1]
        top, bottom, zeros, ones = along, 1 - along, np.zeros_like(along), np.ones_like(along)
        share = np.column_stack(
            [np.concatenate([top, ones, bottom, zeros]), np.concatenate([zeros, top, ones, bottom])]
        )
        points = self.of_scene(scene, share * [width, height])
        return points[np.isfinite(points).all(axis=1)]

    def is_upright(self, scene: Scene) -> bool:
        """Whether a scene's rows run to the right and its columns down, so that its picture needs no warping."""
        affine = scene.geobox.affine
        straight = affine.b == affine.d == 0 and affine.a > 0 > affine.e
        return straight and proj_crs(scene.geobox) == self.crs

    def _placed(self, crs: CRS, x: Floats, y: Floats) -> Floats:
        if crs != self.crs:
            x, y = to_crs(crs, self.crs).transform(x, y)
        return np.column_stack([np.asarray(x) - self.origin[0], np.asarray(y) - self.origin[1]])


def frame_of(scenes: Sequence[Scene]) -> MapFrame:
    """The CRS of most scenes where that shows all of them well, else a stereographic plane around their middle.

    `scenes`: at least one. North is up in the middle of such a plane, wherever on a body that is, poles and
    antimeridian included; shapes are right everywhere, sizes near the middle.
    """
    crs_of = [proj_crs(scene.geobox) for scene in scenes]
    names = Counter(crs.to_wkt() for crs in crs_of)
    usual = crs_of[next(i for i, crs in enumerate(crs_of) if crs.to_wkt() == names.most_common(1)[0][0])]
    if usual.is_projected:
        frame, middles = _around(usual, scenes)
        span = float(np.ptp(middles, axis=0).max()) if np.isfinite(middles).all() else np.inf
        if len(names) == 1 or span < NEAR_M:
            return frame
    return _around(_stereographic(scenes, geographic_crs(usual)), scenes)[0]


def _around(crs: CRS, scenes: Sequence[Scene]) -> tuple[MapFrame, Floats]:
    """The frame, and (n, 2) the middles of all scenes in it."""
    plane = MapFrame(crs, (0.0, 0.0))
    middles = np.concatenate([plane.of_scene(s, np.array([[s.shape[1] / 2, s.shape[0] / 2]])) for s in scenes])
    finite = middles[np.isfinite(middles).all(axis=1)]
    x, y = finite.mean(axis=0).tolist() if len(finite) else (0.0, 0.0)
    return MapFrame(crs, (float(round(x)), float(round(y)))), middles - [round(x), round(y)]


def _stereographic(scenes: Sequence[Scene], geographic: CRS) -> CRS:
    """Azimuthal, around the mean direction of the scenes' middles."""
    plane = MapFrame(geographic, (0.0, 0.0))
    middles = np.concatenate([plane.of_scene(s, np.array([[s.shape[1] / 2, s.shape[0] / 2]])) for s in scenes])
    lon, lat = np.radians(middles[np.isfinite(middles).all(axis=1)]).T
    x, y, z = (np.cos(lat) * np.cos(lon)).sum(), (np.cos(lat) * np.sin(lon)).sum(), np.sin(lat).sum()
    conversion = StereographicConversion(
        float(np.degrees(np.arctan2(z, np.hypot(x, y)))), float(np.degrees(np.arctan2(y, x)))
    )
    return ProjectedCRS(conversion, geodetic_crs=geographic)
