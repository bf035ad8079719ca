"""From scene pixels to the ground: geographic coordinates and geodesic areas, on Earth and on other bodies."""

from collections.abc import Sequence
from functools import lru_cache

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
_SHORT_DEGREES = 0.02
_POLAR_DEGREES = 80.0
_BENT_PX = 0.05
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


@lru_cache(maxsize=64)
def to_crs(source: CRS, target: CRS) -> Transformer:
    """Of x before y. Kept, for to make one takes longer than to use it; threads may share it."""
    return Transformer.from_crs(source, target, always_xy=True)


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
        longitude, _ = to_crs(crs, geographic).transform(x, y)
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


def to_geographic(
    polygons_scene_px: Sequence[Polygonal] | NDArray[np.object_], geobox: GeoBox, *, along_pixels: bool = True
) -> NDArray[np.object_]:
    """(n,) polygons in degrees (longitude, latitude): valid, counterclockwise, split where they cross the antimeridian.

    `along_pixels`: whether all outlines follow pixel edges, which makes checking them cheaper. Long edges get vertices,
    so that no edge strays by more than about a tenth of a pixel. Raises `BadInput` where a pixel has no place on the
    body.
    """
    if not len(polygons_scene_px):
        return np.empty(0, object)
    source = proj_crs(geobox)
    longest_px = _longest_edge_px(geobox)
    dense = np.array(polygons_scene_px, object)
    x0, y0, x1, y1 = shapely.bounds(dense).T
    wide = np.maximum(x1 - x0, y1 - y0) > longest_px  # the others have no edge that is so long
    dense[wide] = shapely.segmentize(dense[wide], longest_px)
    transformer = to_crs(source, geographic_crs(source))
    try:
        placed = shapely.transform(dense, lambda xy: _placed(xy, geobox, transformer))
    except ProjError as error:
        raise BadInput(f"pixels of the scene have no place in {source.name} ({error}); check its transform.") from error
    west, _, east, _ = shapely.bounds(placed).T
    split = (west < -180) | (east > 180) | (east - west > 180)  # noqa: PLR2004 -- degrees
    for i in np.flatnonzero(split):
        placed[i] = shapely.union_all([_split(part) for part in shapely.get_parts(placed[i])])
    # Outlines along pixel edges stay apart where the map is straight over all of them: then there is nothing to check.
    broken = np.ones(len(placed), np.bool_)
    if along_pixels:
        broken = split | _bent(np.column_stack([x0, y0, x1, y1]), geobox, transformer)
    broken[broken] = ~shapely.is_valid(placed[broken])
    placed[broken] = shapely.make_valid(placed[broken], method="structure", keep_collapsed=False)
    empty = np.flatnonzero(shapely.is_empty(placed))
    if len(empty):
        lon = west[empty[0]]
        raise BadInput(f"an object near {lon:.4f} degrees east has no area on the ground; check the scene's transform.")
    oriented: NDArray[np.object_] = shapely.orient_polygons(placed, exterior_cw=False)
    return oriented


def areas_m2(polygons: Sequence[Polygonal] | NDArray[np.object_], crs: CRS) -> NDArray[np.float64]:
    """(n,): geodesic areas on the ellipsoid of the geographic `crs`, in square metres. `polygons` in degrees.

    Polygons of short edges away from the poles are summed up on the authalic sphere, the one on which areas are those
    of the ellipsoid, by the spherical excess below each edge: many times as fast as edge by edge on the ellipsoid, and
    the same to a part in 10^9 and what rounding leaves. The others go edge by edge.
    """
    polygons = np.asarray(polygons, object)
    areas = np.zeros(len(polygons))
    if not len(polygons):
        return areas
    geod = _geod(crs)
    parts, of_part = shapely.get_parts(polygons, return_index=True)
    rings, of_ring = shapely.get_rings(parts, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    inside = np.flatnonzero(ring[1:] == ring[:-1])
    lon, lat = points.T
    step_lon = lon[inside + 1] - lon[inside]
    exact = (np.abs(step_lon) > _SHORT_DEGREES) | (np.abs(lat[inside + 1] - lat[inside]) > _SHORT_DEGREES)
    exact |= np.abs(lat[inside]) > _POLAR_DEGREES
    pole = float(_authalic_q(np.ones(1), geod.es)[0])
    sine = _authalic_q(np.sin(np.radians(lat)), geod.es) / pole
    mean, step, step_lon = (sine[inside] + sine[inside + 1]) / 2, sine[inside + 1] - sine[inside], np.radians(step_lon)
    cosine2 = np.maximum(1 - mean**2, np.finfo(float).tiny)  # 0 at the poles, where `exact` holds
    # tan(excess / 2) = tan(step_lon / 2) sin(mean latitude) / cos(half the step of latitude), to the fifth order
    excess = step_lon * mean * (1 + step**2 / (4 * cosine2) + step_lon**2 * cosine2 / 12)
    owner_of_edge = of_part[of_ring[ring[inside]]]
    # Shells are counterclockwise and holes are not, so that the sum is the area, with its sign turned.
    areas -= np.bincount(owner_of_edge, weights=excess, minlength=len(polygons)) * geod.a**2 * pole / 2
    for i in np.unique(owner_of_edge[exact]):
        areas[i] = abs(geod.geometry_area_perimeter(polygons[i])[0])
    return areas


def _authalic_q(sine: NDArray[np.float64], e2: float) -> NDArray[np.float64]:
    """(n,): what is proportional to the area from the equator to latitudes of that sine; 2 sine on a sphere.

    Snyder, "Map Projections: A Working Manual", 1987, (3-12).
    """
    x2 = e2 * sine**2
    # artanh(x) / x, with x at most 0.1 on any planet
    series = 1 + x2 * (1 / 3 + x2 * (1 / 5 + x2 * (1 / 7 + x2 * (1 / 9 + x2 * (1 / 11 + x2 / 13)))))
    q: NDArray[np.float64] = (1 - e2) * sine * (1 / (1 - x2) + series)
    return q


def area_m2(geobox: GeoBox) -> float:
    """Of all of a scene, data or not. Raises `BadInput` as `to_geographic`."""
    height, width = shape_yx(geobox)
    outline = to_geographic([box(0, 0, width, height)], geobox)
    return float(areas_m2(outline, geographic_crs(proj_crs(geobox)))[0])


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


def _placed(
    points_scene_px: NDArray[np.float64], geobox: GeoBox, transformer: Transformer, *, errcheck: bool = True
) -> NDArray[np.float64]:
    x, y = _on_map(points_scene_px, geobox)
    crs = proj_crs(geobox)
    if crs.is_geographic:  # a global grid's pixels may reach beyond a pole, where there is nothing
        y = np.clip(y, -_pole(crs), _pole(crs))
    lon, lat = transformer.transform(x, y, errcheck=errcheck)
    return np.column_stack([lon, lat])


def _on_map(points_scene_px: NDArray[np.float64], geobox: GeoBox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """X and y in the grid's CRS."""
    a, b, c, d, e, f = geobox.affine[:6]
    cols, rows = points_scene_px.T
    return a * cols + b * rows + c, d * cols + e * rows + f


def _pole(crs: CRS) -> float:
    """The latitude of the north pole in the unit of a geographic CRS: 90 degrees, 100 grads."""
    return float(np.pi / 2 / crs.axis_info[0].unit_conversion_factor)


def _bent(boxes_scene_px: NDArray[np.float64], geobox: GeoBox, transformer: Transformer) -> NDArray[np.bool_]:
    """(n,): True where the map from a box of scene pixels, (n, 4), to the ground is not as good as affine.

    That is, where the middle or the fourth corner lies more than `_BENT_PX` from where the other corners put it. Below,
    no vertex of an outline in the box moves by a quarter of a pixel, and as edges along pixels either meet in a vertex,
    at right angles, or are a pixel apart, none come to cross.
    """
    x0, y0, x1, y1 = boxes_scene_px.T
    points = [(x0, y0), (x1, y0), (x0, y1), (x1, y1), ((x0 + x1) / 2, (y0 + y1) / 2)]
    xy = np.concatenate([np.column_stack(point) for point in points])
    # A corner of the box may lie off the map where the outline does not: then infinity comes out, and True.
    a, b, c, d, middle = _placed(xy, geobox, transformer, errcheck=False).reshape(5, -1, 2)
    with np.errstate(invalid="ignore"):
        along_x, along_y = (b - a) / (x1 - x0)[:, np.newaxis], (c - a) / (y1 - y0)[:, np.newaxis]
        determinant = along_x[:, 0] * along_y[:, 1] - along_x[:, 1] * along_y[:, 0]
        bent: NDArray[np.bool_] = ~np.isfinite(determinant) | (determinant == 0)
        for off in (d - b - c + a, middle - (b + c) / 2):
            px = (
                off[:, 0] * along_y[:, 1] - off[:, 1] * along_y[:, 0],
                along_x[:, 0] * off[:, 1] - along_x[:, 1] * off[:, 0],
            )
            bent |= ~(np.hypot(*px) <= _BENT_PX * np.abs(determinant))  # so written, what is no number is bent
    return bent


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
    to_map = to_crs(geographic_crs(crs), crs)
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
