"""From scene pixels to the ground: geographic coordinates and geodesic areas, on Earth and on other bodies."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer
from pyproj.enums import TransformDirection
from pyproj.exceptions import ProjError
from shapely.affinity import translate
from shapely.geometry import LinearRing, MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry

from pipeline.georef import proj_crs, shape_yx
from t2s_core.errors import BadInput

CRS84 = CRS.from_user_input("OGC:CRS84")
"""Longitude and latitude in degrees, in this order."""

_EARTH_RADII_M = (6.3e6, 6.4e6)  # of every ellipsoid of the Earth that is in use; no other body comes near
_STRAY_PX = 0.1
"""How far a straight edge may stray, on the ground, from the straight pixel edge that it stands for."""

_TRIED_PER_SIDE = 9

Polygonal = Polygon | MultiPolygon


def geographic_crs(crs: CRS) -> CRS:
    """OGC:CRS84 on Earth, elsewhere the body's own geographic CRS. Raises `BadInput` where there is neither."""
    if crs.ellipsoid is None or crs.geodetic_crs is None:
        raise BadInput(f"{crs.name} has no ellipsoid, so its pixels lie nowhere on a body; give a CRS that has one.")
    lowest, highest = _EARTH_RADII_M
    return CRS84 if lowest < crs.ellipsoid.semi_major_metre < highest else crs.geodetic_crs


def placement_problem(geobox: GeoBox) -> str:
    """What keeps a grid from its place on the ground, and the way out; empty where nothing does.

    Looks at points all over the grid, so that this is known before anything is spent. A geographic grid may end up to a
    pixel beyond a pole: global grids have pixel centres on the poles.
    """
    crs = proj_crs(geobox)
    geographic = geographic_crs(crs)
    problems = [problem for frame in (crs, geographic) if (problem := _axis_problem(frame))]
    if problems:
        return problems[0]
    height, width = geobox.shape
    cols, rows = np.meshgrid(np.linspace(0, width, _TRIED_PER_SIDE), np.linspace(0, height, _TRIED_PER_SIDE))
    tried_scene_px = np.column_stack([cols.ravel(), rows.ravel()])
    x, y = _on_map(tried_scene_px, geobox)
    if crs.is_geographic:
        nowhere = np.abs(y) > _pole(crs) + float(np.hypot(geobox.affine.d, geobox.affine.e))
    else:
        longitude, _ = Transformer.from_crs(crs, geographic, always_xy=True).transform(x, y)
        nowhere = ~np.isfinite(longitude)
    if not nowhere.any():
        return ""
    first = int(np.argmax(nowhere))
    col, row = tried_scene_px[first].tolist()
    what = f"pixel ({col:.0f}, {row:.0f}), at {x[first]:.6g}, {y[first]:.6g}"
    return f"{what}, is nowhere in {crs.name}; mend its transform, or cut it to what shows ground."


def _axis_problem(crs: CRS) -> str:
    if {axis.direction for axis in crs.axis_info} >= {"west", "north"}:
        return f"{crs.name} counts to the west, where GDAL and PROJ mix up axes; warp it to one that counts east."
    on_ellipsoid = crs.ellipsoid is not None and crs.ellipsoid.inverse_flattening != 0
    if on_ellipsoid and any("planetocentric" in axis.name.lower() for axis in crs.axis_info):
        return f"{crs.name} has planetocentric latitudes, which GDAL takes for geodetic; warp it to the sphere's."
    return ""


def to_geographic(polygons_scene_px: Sequence[Polygon], geobox: GeoBox) -> list[Polygonal]:
    """The polygons in degrees (longitude, latitude): valid, counterclockwise, split where they cross the antimeridian.

    Long edges get vertices, so that no edge strays by more than about a tenth of a pixel. Raises `BadInput` where a
    pixel has no place on the body.
    """
    if not polygons_scene_px:
        return []
    source = proj_crs(geobox)
    dense = shapely.segmentize(np.asarray(polygons_scene_px, object), _longest_edge_px(geobox))
    transformer = Transformer.from_crs(source, geographic_crs(source), always_xy=True)
    try:
        placed = shapely.transform(dense, lambda xy: _placed(xy, geobox, transformer))
    except ProjError as error:
        raise BadInput(f"pixels of the scene have no place in {source.name} ({error}); check its transform.") from error
    return [_tidy(polygon) for polygon in placed]


def areas_m2(polygons: Sequence[Polygonal], crs: CRS) -> NDArray[np.float64]:
    """(n,): geodesic areas on the ellipsoid of the geographic `crs`, in square metres. `polygons` in degrees."""
    geod = _geod(crs)
    return np.array([abs(geod.geometry_area_perimeter(polygon)[0]) for polygon in polygons], np.float64)


def gsd_m(geobox: GeoBox) -> float:
    """Side in metres of a square as large as the scene's middle pixel. Raises `BadInput` as `to_geographic`."""
    height, width = shape_yx(geobox)
    pixel = box(width // 2, height // 2, width // 2 + 1, height // 2 + 1)
    area = areas_m2(to_geographic([pixel], geobox), geographic_crs(proj_crs(geobox)))[0]
    return float(np.sqrt(area))


def _geod(crs: CRS) -> Geod:
    geod = crs.get_geod()
    if geod is None:
        raise BadInput(f"{crs.name} has no ellipsoid, so nothing in it has an area; give a CRS that has one.")
    return geod


def _placed(points_scene_px: NDArray[np.float64], geobox: GeoBox, transformer: Transformer) -> NDArray[np.float64]:
    x, y = _on_map(points_scene_px, geobox)
    crs = proj_crs(geobox)
    if crs.is_geographic:  # a global grid's pixels may reach beyond a pole, where there is nothing
        y = np.clip(y, -_pole(crs), _pole(crs))
    lon, lat = transformer.transform(x, y, errcheck=True)
    return np.column_stack([lon, lat])


def _on_map(points_scene_px: NDArray[np.float64], geobox: GeoBox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """X and y in the grid's CRS."""
    a, b, c, d, e, f = geobox.affine[:6]
    cols, rows = points_scene_px.T
    return a * cols + b * rows + c, d * cols + e * rows + f


def _pole(crs: CRS) -> float:
    """The latitude of the north pole in the unit of a geographic CRS: 90 degrees, 100 grads."""
    return float(np.pi / 2 / crs.axis_info[0].unit_conversion_factor)


def _longest_edge_px(geobox: GeoBox) -> float:
    """An edge of length L strays from a curve of radius R by L * L / 8 R.

    R is the body's radius for what is straight on the map, and at most the distance to a pole, around which the
    parallels bend.
    """
    crs = proj_crs(geobox)
    a, b, _, d, e, _ = geobox.affine[:6]
    unit_m = crs.axis_info[0].unit_conversion_factor * (_geod(crs).a if crs.is_geographic else 1.0)
    pixel_m = float(np.sqrt(abs(a * e - b * d))) * unit_m
    radius_px = min(_geod(crs).a / pixel_m, _nearest_pole_px(geobox))
    return max(1.0, float(np.sqrt(8 * radius_px * _STRAY_PX)))


def _nearest_pole_px(geobox: GeoBox) -> float:
    """Distance from the scene to the nearer pole that its map can show; infinite where it shows neither."""
    crs = proj_crs(geobox)
    to_map = Transformer.from_crs(geographic_crs(crs), crs, always_xy=True)
    height, width = geobox.shape
    a, b, c, d, e, f = (~geobox.affine)[:6]
    middle_x, middle_y = geobox.affine @ (width / 2, height / 2)
    longitude, _ = to_map.transform(middle_x, middle_y, direction=TransformDirection.INVERSE)
    distances_px = [np.inf]
    for latitude in (-90, 90):
        x, y = to_map.transform(longitude, latitude)
        if np.isfinite(x) and np.isfinite(y):
            pole = shapely.Point(a * x + b * y + c, d * x + e * y + f)
            distances_px.append(shapely.distance(box(0, 0, width, height), pole))
    return float(min(distances_px))


def _tidy(polygon: Polygon) -> Polygonal:
    placed: Any = polygon  # what shapely returns here is polygonal, which its types cannot say
    west, _, east, _ = polygon.bounds
    if west < -180 or east > 180 or east - west > 180:  # noqa: PLR2004 -- degrees
        placed = _split(polygon)
    if not placed.is_valid:
        placed = shapely.make_valid(placed, method="structure", keep_collapsed=False)
    if placed.is_empty:
        raise BadInput(
            f"an object near {west:.4f} degrees east has no area on the ground; check the scene's transform."
        )
    oriented: Polygonal = shapely.orient_polygons(placed, exterior_cw=False)
    return oriented


def _split(polygon: Polygon) -> BaseGeometry:
    """Cut along the antimeridian: what lies beyond it comes back on the other side."""
    outside = _ring_on_map(polygon.exterior)
    holes = shapely.union_all([_ring_on_map(ring) for ring in polygon.interiors])
    return shapely.difference(outside, holes)


def _ring_on_map(ring: LinearRing) -> BaseGeometry:
    points = shapely.get_coordinates(ring)
    # PROJ turns some longitudes into its own range and leaves others; edges are short, so neighbours tell
    points[:, 0] = np.unwrap(points[:, 0], period=360)
    turn = points[-1, 0] - points[0, 0]
    if abs(turn) > 180:  # noqa: PLR2004 -- it goes once around the body: it encloses the pole, which is a line on a map
        return _cap_on_map(points, np.copysign(360, turn))
    area = shapely.make_valid(Polygon(points), method="structure", keep_collapsed=False)
    turns = range(int(np.floor((points[:, 0].min() + 180) / 360)), int(np.ceil((points[:, 0].max() + 180) / 360)))
    worlds = [shapely.intersection(area, box(-180 + 360 * k, -90, 180 + 360 * k, 90)) for k in turns]
    united = shapely.union_all([translate(world, -360 * k) for k, world in zip(turns, worlds, strict=True)])
    areas = [part for part in shapely.get_parts(united) if isinstance(part, Polygon)]
    return MultiPolygon(areas)


def _cap_on_map(points: NDArray[np.float64], turn: float) -> MultiPolygon:
    """What lies between a ring around a pole and the pole, from -180 to 180 degrees.

    The ring may run back and forth over the meridian where it begins. So it is laid out three times in a row, is closed
    along the pole, and is looked at in the middle, far from where it was closed.
    """
    pole = float(np.copysign(90, points[:, 1].mean()))
    laid = np.vstack([points[:-1] + np.array([turn * k, 0]) for k in (-1, 0, 1)])
    closed = Polygon(np.vstack([laid, [laid[-1, 0], pole], [laid[0, 0], pole]]))
    area = shapely.make_valid(closed, method="structure", keep_collapsed=False)
    world = 360 * round((laid[0, 0] + laid[-1, 0]) / 2 / 360)
    cap = translate(shapely.intersection(area, box(world - 180, -90, world + 180, 90)), -world)
    return MultiPolygon([part for part in shapely.get_parts(cap) if isinstance(part, Polygon)])
