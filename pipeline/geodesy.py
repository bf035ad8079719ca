"""From scene pixels to the ground: geographic coordinates and geodesic areas, on Earth and on other bodies."""

from collections.abc import Sequence

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

from pipeline.georef import proj_crs
from t2s_core.errors import BadInput

CRS84 = CRS.from_user_input("OGC:CRS84")
"""Longitude and latitude in degrees, in this order."""

_EARTH_RADII_M = (6.3e6, 6.4e6)  # of every ellipsoid of the Earth that is in use; no other body comes near
_DEGREE_M = 111_320.0
_SHORT_DEGREES = 0.02
_POLAR_DEGREES = 80.0
_BENT_PX = 0.05
_STRAY_PX = 0.1
"""How far a straight edge may stray, on the ground, from the straight pixel edge that it stands for."""

Polygonal = Polygon | MultiPolygon


def geographic_crs(crs: CRS) -> CRS:
    """OGC:CRS84 on Earth, elsewhere the body's own geographic CRS. Raises `BadInput` where there is neither."""
    if crs.ellipsoid is None or crs.geodetic_crs is None:
        raise BadInput(f"{crs.name} has no ellipsoid, so its pixels lie nowhere on a body; give a CRS that has one.")
    lowest, highest = _EARTH_RADII_M
    return CRS84 if lowest < crs.ellipsoid.semi_major_metre < highest else crs.geodetic_crs


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
    transformer = Transformer.from_crs(source, geographic_crs(source), always_xy=True)
    try:
        placed = shapely.transform(dense, lambda xy: _placed(xy, geobox, transformer))
    except ProjError as error:
        raise BadInput(f"pixels of the scene have no place in {source.name} ({error}); check its transform.") from error
    unwrap = not source.is_geographic
    west, _, east, _ = shapely.bounds(placed).T
    split = (west < -180) | (east > 180) | (unwrap & (east - west > 180))  # noqa: PLR2004 -- degrees
    for i in np.flatnonzero(split):
        placed[i] = shapely.union_all([_split(part, unwrap=unwrap) for part in shapely.get_parts(placed[i])])
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


def pixel_side_m(geobox: GeoBox) -> float:
    """Side of a square of the area of the pixel in the middle of the scene, in metres on the ground."""
    height, width = geobox.shape
    x, y = width // 2, height // 2
    area = areas_m2(to_geographic([box(x, y, x + 1, y + 1)], geobox), geographic_crs(proj_crs(geobox)))[0]
    return float(np.sqrt(area))


def _authalic_q(sine: NDArray[np.float64], e2: float) -> NDArray[np.float64]:
    """(n,): what is proportional to the area from the equator to latitudes of that sine; 2 sine on a sphere.

    Snyder, "Map Projections: A Working Manual", 1987, (3-12).
    """
    x2 = e2 * sine**2
    # artanh(x) / x, with x at most 0.1 on any planet
    series = 1 + x2 * (1 / 3 + x2 * (1 / 5 + x2 * (1 / 7 + x2 * (1 / 9 + x2 * (1 / 11 + x2 / 13)))))
    q: NDArray[np.float64] = (1 - e2) * sine * (1 / (1 - x2) + series)
    return q


def _geod(crs: CRS) -> Geod:
    geod = crs.get_geod()
    if geod is None:
        raise BadInput(f"{crs.name} has no ellipsoid, so nothing in it has an area; give a CRS that has one.")
    return geod


def _placed(
    points_scene_px: NDArray[np.float64], geobox: GeoBox, transformer: Transformer, *, errcheck: bool = True
) -> NDArray[np.float64]:
    a, b, c, d, e, f = geobox.affine[:6]
    x, y = points_scene_px.T
    lon, lat = transformer.transform(a * x + b * y + c, d * x + e * y + f, errcheck=errcheck)
    return np.column_stack([lon, lat])


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
    unit_m = _DEGREE_M if crs.is_geographic else crs.axis_info[0].unit_conversion_factor
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


def _split(polygon: Polygon, *, unwrap: bool) -> BaseGeometry:
    """Cut along the antimeridian: what lies beyond it comes back on the other side."""
    outside = _ring_on_map(polygon.exterior, unwrap=unwrap)
    holes = shapely.union_all([_ring_on_map(ring, unwrap=unwrap) for ring in polygon.interiors])
    return shapely.difference(outside, holes)


def _ring_on_map(ring: LinearRing, *, unwrap: bool) -> BaseGeometry:
    points = shapely.get_coordinates(ring)
    if unwrap:
        points[:, 0] = np.unwrap(points[:, 0], period=360)
        turn = points[-1, 0] - points[0, 0]
        if abs(turn) > 180:  # noqa: PLR2004 -- it goes once around the body: it encloses the pole, which is a line on a map
            pole = float(np.copysign(90, points[:, 1].mean()))
            points = np.vstack([points, [points[-1, 0], pole], [points[0, 0], pole], points[:1]])
    area = shapely.make_valid(Polygon(points), method="structure", keep_collapsed=False)
    turns = range(int(np.floor((points[:, 0].min() + 180) / 360)), int(np.ceil((points[:, 0].max() + 180) / 360)))
    worlds = [shapely.intersection(area, box(-180 + 360 * k, -90, 180 + 360 * k, 90)) for k in turns]
    united = shapely.union_all([translate(world, -360 * k) for k, world in zip(turns, worlds, strict=True)])
    areas = [part for part in shapely.get_parts(united) if isinstance(part, Polygon)]
    return MultiPolygon(areas)
