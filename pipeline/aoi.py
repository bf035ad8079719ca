"""The area of interest: polygons of a user's file, and where they lie in a scene's pixels."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import fsspec
import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError
from shapely.affinity import translate
from shapely.geometry import MultiPoint, Polygon
from shapely.geometry.base import BaseGeometry

from pipeline.credentials import public
from pipeline.scenes import Problem, Scene
from pipeline.texts import one_line
from pipeline.tiling import Window
from pipeline.vectors import read_vector
from t2s_core.errors import BadInput

_POINTS_PER_SIDE = 64
_SEGMENTS = 256
"""Edges are cut to this part of the extent before reprojection: a straight line then strays by less than a pixel in
scenes up to some 100 km, where one of 1/256 of that is 0.4 km long and bends by millimetres."""
_EWKT = re.compile(r"\s*SRID=(\d+);(.*)", re.DOTALL | re.IGNORECASE)

_Turn: TypeAlias = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""x in the area's CRS and x in the scene's, to the latter in the scene's own range."""


@dataclass(frozen=True, slots=True)
class Aoi:
    """What the user wants to be looked at."""

    href: str
    geometry: BaseGeometry
    """Valid, non-empty Polygon or MultiPolygon, in `crs`, x (east) before y (north)."""
    crs: str
    """Authority string or WKT."""


@dataclass(frozen=True, slots=True)
class Placement:
    """An area of interest laid over scenes."""

    areas_scene_px: dict[str, BaseGeometry]
    """By scene_id, of the scenes that it meets."""
    missed: list[str]
    """scene_ids of the scenes that it misses: they are left out."""
    problems: list[Problem]
    """Where it misses all scenes, or its CRS cannot be brought to a scene's."""


def read_aoi(given: str) -> Aoi:
    """Read polygons from any vector file that geopandas reads (path or URL), GeoParquet, or a `.wkt` file.

    All polygons are united. GeoJSON is longitude and latitude by its definition; any other file without a CRS is
    refused, WKT too unless it starts with `SRID=<EPSG code>;`. Raises `BadInput` with all problems of the file.
    """
    href = public(given)
    try:
        geometries, crs = _read(given)
    except (DataSourceError, DataLayerError, OSError, ValueError, ImportError) as error:
        raise BadInput(f"{href}: cannot be read: {one_line(error)}; give a vector file") from error
    except (shapely.errors.ShapelyError, CRSError) as error:
        raise BadInput(f"{href}: {one_line(error)}; mend the file") from error
    present = [(i, g) for i, g in enumerate(geometries, start=1) if g is not None and not g.is_empty]
    problems = [f"{href}: {p}" for p in _shape_problems(present)]
    if crs is None:
        problems.append(f"{href}: has no coordinate reference system; assign one, or give GeoJSON or `SRID=4326;` WKT")
    elif present and crs.is_geographic and _beyond_the_globe([g for _, g in present]):
        problems.append(
            f"{href}: coordinates are no degrees although its CRS is geographic; write the true CRS into it"
        )
    if problems or crs is None:
        raise BadInput(*problems)
    united = shapely.union_all([shapely.force_2d(g) for _, g in present])
    return Aoi(href, united, _crs_text(crs))


def place(aoi: Aoi, scenes: Sequence[Scene], n_outside: int = 0) -> Placement:
    """Lay the area over all scenes. `n_outside`: of others it is known already that it misses them."""
    areas, missed, problems = {}, [], []
    for scene in scenes:
        try:
            area = aoi_in_scene_px(aoi, scene)
        except BadInput as error:
            problems += [Problem(aoi.href, p) for p in error.problems]
            continue
        if area.is_empty:
            missed.append(scene.scene_id)
        else:
            areas[scene.scene_id] = area
    n_missed = len(missed) + n_outside
    if n_missed and not areas and not problems:
        bounds = ", ".join(f"{v:.6g}" for v in aoi.geometry.bounds)
        problems.append(
            Problem(
                aoi.href, f"({bounds}) misses all {n_missed} scenes; check its CRS ({aoi.crs[:40]}) and axis order."
            )
        )
    return Placement(areas, missed, problems)


def aoi_in_scene_px(aoi: Aoi, scene: Scene) -> BaseGeometry:
    """The part of the area within the scene, in scene pixels; empty where it misses the scene.

    The area is cut to the scene's surroundings first (also across the antimeridian and around a pole), for far from its
    home a projection gives nonsense; then its edges are densified and reprojected.
    Raises `BadInput` where no transformation leads from one CRS to the other (another planet, say).
    """
    scene_crs = CRS(str(scene.geobox.crs))
    aoi_crs = CRS(aoi.crs)
    try:
        to_aoi = Transformer.from_crs(scene_crs, aoi_crs, always_xy=True)
        to_scene = Transformer.from_crs(aoi_crs, scene_crs, always_xy=True)
        near = _near(aoi, aoi_crs, scene, to_aoi, to_scene)
        turn = _turn_of(scene, scene_crs, aoi_crs, to_aoi)
        in_px = shapely.transform(_dense(near), lambda xy: _to_scene_px(xy, to_scene, scene, turn))
    except ProjError as error:
        what = f"its CRS ({aoi.crs[:40]}) cannot be brought to that of {scene.href} ({str(scene.geobox.crs)[:40]})"
        raise BadInput(f"{what}; draw it around the scene, in the scene's CRS.") from error
    height, width = scene.shape
    return _polygons(shapely.make_valid(in_px).intersection(shapely.box(0, 0, width, height)))


def touches(area_scene_px: BaseGeometry, window_scene_px: Window) -> bool:
    """Whether they share ground; a common edge or corner is none. Fast on an area that was `shapely.prepare`d."""
    box = shapely.box(*window_scene_px)
    return bool(area_scene_px.intersects(box) and not area_scene_px.touches(box))


def _read(href: str) -> tuple[list[BaseGeometry | None], CRS | None]:
    suffix = Path(href).suffix.lower()
    if suffix in {".wkt", ".txt"}:
        with fsspec.open(href, "rb") as file:
            return _from_wkt(file.read().decode())
    table = read_vector(href, parquet=suffix == ".parquet")
    if not isinstance(table, geopandas.GeoDataFrame):
        raise ValueError("it holds a table without geometry")  # noqa: TRY004 -- the user's data, not a caller's argument
    return list(table.geometry), table.crs


def _from_wkt(text: str) -> tuple[list[BaseGeometry | None], CRS | None]:
    match = _EWKT.fullmatch(text)
    if match is None:
        return [shapely.from_wkt(text.strip())], None
    return [shapely.from_wkt(match[2].strip())], CRS.from_epsg(int(match[1]))


def _shape_problems(numbered: Sequence[tuple[int, BaseGeometry]]) -> list[str]:
    if not numbered:
        return ["holds no geometry; draw at least one polygon"]
    problems = []
    for i, geometry in numbered:
        if geometry.geom_type not in {"Polygon", "MultiPolygon"}:
            problems.append(f"feature {i} is a {geometry.geom_type}; only polygons have an area, buffer it")
        elif not geometry.is_valid:
            problems.append(f"feature {i} is invalid ({shapely.is_valid_reason(geometry)}); mend it")
    return problems


def _beyond_the_globe(geometries: Sequence[BaseGeometry]) -> bool:
    west, south, east, north = shapely.total_bounds(geometries)
    return bool(west < -360 or east > 360 or south < -90 or north > 90)  # noqa: PLR2004 -- degrees


def _crs_text(crs: CRS) -> str:
    authority = crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else str(crs.to_wkt())


def _near(aoi: Aoi, aoi_crs: CRS, scene: Scene, to_aoi: Transformer, to_scene: Transformer) -> BaseGeometry:
    """The part of the area in and closely around the scene, in the area's CRS, in one piece across the antimeridian."""
    x, y = to_aoi.transform(*_outline(scene))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return aoi.geometry  # the scene shows more than the globe: nothing to cut to
    if not aoi_crs.is_geographic:
        return aoi.geometry.intersection(_hull(x, y))
    copies = shapely.union_all([translate(aoi.geometry, xoff=turn) for turn in (-360.0, 0.0, 360.0)])
    if _shows(scene, to_scene, 90.0):
        return aoi.geometry.intersection(shapely.box(-360, min(y), 360, 90))
    if _shows(scene, to_scene, -90.0):
        return aoi.geometry.intersection(shapely.box(-360, -90, 360, max(y)))
    return copies.intersection(_hull(np.unwrap(x, period=360.0), y))


def _outline(scene: Scene) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points around the scene, x and y in its CRS."""
    height, width = scene.shape
    ring = shapely.segmentize(shapely.box(0, 0, width, height).exterior, max(width, height) / _POINTS_PER_SIDE)
    col, row = shapely.get_coordinates(ring).T
    x, y = scene.geobox.affine * (col, row)
    return np.asarray(x), np.asarray(y)


def _hull(x: NDArray[np.float64], y: NDArray[np.float64]) -> BaseGeometry:
    hull = MultiPoint(np.column_stack([x, y])).convex_hull
    west, south, east, north = hull.bounds
    return hull.buffer(0.01 * max(east - west, north - south))


def _shows(scene: Scene, to_scene: Transformer, pole_latitude: float) -> bool:
    x, y = to_scene.transform(0.0, pole_latitude)
    if CRS(str(scene.geobox.crs)).is_geographic or not np.isfinite([x, y]).all():
        return False  # in longitude and latitude the pole is an edge, not a point inside
    col, row = ~scene.geobox.affine * (x, y)
    height, width = scene.shape
    return bool(0 <= col <= width and 0 <= row <= height)


def _dense(geometry: BaseGeometry) -> BaseGeometry:
    if geometry.is_empty:
        return geometry
    west, south, east, north = geometry.bounds
    dense: BaseGeometry = shapely.segmentize(geometry, max(east - west, north - south, 1e-12) / _SEGMENTS)
    return dense


def _to_scene_px(xy: NDArray[np.float64], to_scene: Transformer, scene: Scene, turn: _Turn) -> NDArray[np.float64]:
    x, y = to_scene.transform(xy[:, 0], xy[:, 1])
    col, row = ~scene.geobox.affine * (turn(xy[:, 0], x), y)
    points = np.column_stack([col, row])
    if not np.isfinite(points).all():
        raise ProjError("a part of it lies where the scene's projection is not defined; cut it to the scene")
    return points


def _turn_of(scene: Scene, scene_crs: CRS, aoi_crs: CRS, to_aoi: Transformer) -> _Turn:
    """PROJ may turn a longitude once around the globe; a scene of longitudes wants it in its own range."""
    if not scene_crs.is_geographic:
        return lambda _, x: x
    if aoi_crs.is_geographic:
        # longitudes in and out differ by a datum at most, and by the turn between the two frames
        outline_x, outline_y = _outline(scene)
        offset = 360.0 * np.round((outline_x[0] - to_aoi.transform(outline_x[0], outline_y[0])[0]) / 360.0)
        return lambda x_in, x: x - 360.0 * np.round((x - x_in) / 360.0) + offset
    centre, _ = scene.geobox.affine * (scene.shape[1] / 2, scene.shape[0] / 2)
    return lambda _, x: x + 360.0 * np.round((centre - x) / 360.0)


def _polygons(geometry: BaseGeometry) -> BaseGeometry:
    """Without the lines and points that cutting leaves behind."""
    parts = [g for g in shapely.get_parts(geometry) if g.geom_type == "Polygon" and g.area > 0]
    if geometry.geom_type == "GeometryCollection":
        multi = [g for g in shapely.get_parts(geometry) if g.geom_type == "MultiPolygon"]
        parts += [p for m in multi for p in shapely.get_parts(m)]
    return shapely.union_all(parts) if parts else Polygon()
